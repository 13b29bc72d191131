// Leaves out a kernel's buffers that its body neither reads nor writes: what lies in them need not live until it runs.
import type { SimtKernel } from "../../ir/simt.ts";

/** Statements, registers and sources are plain data. */
type Part = { readonly [key: string]: unknown };
const isPart = (x: unknown): x is Part => typeof x === "object" && x !== null;

/** Where a part of a body names a buffer. */
const namedBy = (part: Part): "buffer" | "number" | null =>
  typeof part.buffer === "number" ? "buffer" : part.k === "buffer" && typeof part.number === "number" ? "number" : null;

/** The same kernel with fewer parameters, and the numbers of those that it has left. */
export function withUsedBuffers(kernel: SimtKernel): { readonly kernel: SimtKernel; readonly used: readonly number[] } {
  const found = new Set<number>();
  const visit = (x: unknown): void => {
    if (!isPart(x)) return;
    const name = namedBy(x);
    if (name) found.add(x[name] as number); // as namedBy has seen
    for (const inner of Object.values(x)) visit(inner);
  };
  visit(kernel.body);
  const used = [...found].sort((a, b) => a - b);
  if (used.length === kernel.params.length) return { kernel, used };
  const numbers = new Map(used.map((old, i) => [old, i]));
  const renumbered = <T>(x: T): T => {
    if (Array.isArray(x)) return x.map(renumbered) as T;
    if (!isPart(x)) return x;
    const copy: Record<string, unknown> = Object.fromEntries(Object.entries(x).map(([key, inner]) => [key, renumbered(inner)]));
    const name = namedBy(x);
    if (name) copy[name] = numbers.get(x[name] as number);
    return copy as T; // of the same parts
  };
  const params = used.map((i) => kernel.params[i]);
  return { kernel: { ...kernel, name: `${kernel.name}_used`, params, body: renumbered(kernel.body) }, used };
}
