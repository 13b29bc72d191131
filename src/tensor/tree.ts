// Nested lists and objects with tensors in them → the tensors, a text of all the rest, and back.
import { HeddleError } from "../ir/error.ts";
import { Tensor } from "./tensor.ts";

export interface Flat {
  readonly tensors: readonly Tensor[];
  /** Equal for trees that differ in nothing but the numbers and shapes of their tensors. */
  readonly text: string;
  /** The same tree with other tensors. */
  rebuild(tensors: readonly Tensor[]): unknown;
}

export function flatten(tree: unknown, what: string): Flat {
  const tensors: Tensor[] = [];
  const walk = (node: unknown): { text: string; rebuild: (tensors: readonly Tensor[]) => unknown } => {
    if (node instanceof Tensor) {
      const place = tensors.push(node) - 1;
      return { text: "*", rebuild: (list) => list[place] };
    }
    if (Array.isArray(node)) {
      const parts = node.map(walk);
      return { text: `[${parts.map((p) => p.text)}]`, rebuild: (list) => parts.map((p) => p.rebuild(list)) };
    }
    if (isRecord(node)) {
      const parts = Object.entries(node).map(([name, v]) => ({ name, ...walk(v) }));
      return {
        text: `{${parts.map((p) => `${JSON.stringify(p.name)}:${p.text}`)}}`,
        rebuild: (list) => Object.fromEntries(parts.map((p) => [p.name, p.rebuild(list)])),
      };
    }
    if (typeof node === "object" && node !== null)
      throw new HeddleError(
        "bad-argument",
        `${what}: an object of class ${node.constructor?.name} is neither a tensor nor a plain list or object`,
      );
    if (typeof node === "function" || typeof node === "symbol")
      throw new HeddleError("bad-argument", `${what}: a ${typeof node} is neither a tensor nor a number, text or boolean`);
    return { text: typeof node === "string" ? JSON.stringify(node) : `${String(node)}`, rebuild: () => node };
  };
  return { ...walk(tree), tensors };
}

const isRecord = (node: unknown): node is Record<string, unknown> => {
  if (typeof node !== "object" || node === null) return false;
  const prototype: unknown = Object.getPrototypeOf(node);
  return prototype === Object.prototype || prototype === null;
};
