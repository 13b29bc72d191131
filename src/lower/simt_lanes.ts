// Neighbouring elements as the work of one thread: what they load of neighbouring memory is loaded at once.
import type { Expr } from "../ir/expr.ts";
import { addIndex, type Index, type IndexVar, mulIndex, newVar, varIndex } from "../ir/index_expr.ts";
import type { SimtBuilder } from "../ir/simt.ts";
import { Numbering, Rewriter } from "./rewrite.ts";
import type { ExprCode } from "./simt_expr.ts";
import { walk } from "./walk.ts";

/** Elements of a thread. */
export const LANES = 4;

type Load = Extract<Expr, { k: "load" }>;

export interface LaneTask {
  /** Of each lane, of each output. */
  readonly exprs: readonly (readonly Expr[])[];
  /** Place of the first lane's element in the outputs. */
  readonly out: Index;
  readonly axes: readonly IndexVar[];
}

/** Lanes along the innermost axis; null where it has another number of elements, or the outputs do not run along it. */
export function lanesOf(exprs: readonly Expr[], out: Index, axes: readonly IndexVar[]): LaneTask | null {
  const innermost = axes[axes.length - 1];
  if (!innermost || innermost.extent % LANES !== 0) return null;
  const vectors = newVar(innermost.extent / LANES);
  const rewriters = Array.from({ length: LANES }, (_, i) => new Rewriter(new Map([[innermost.id, addIndex(mulIndex(varIndex(vectors), LANES), i)]]))); // biome-ignore format: one idea
  const [first, second] = rewriters.map((r) => r.index(out));
  const numbering = new Numbering();
  if (!isAligned(first) || second.base !== first.base + 1 || termsKey(first, numbering) !== termsKey(second, numbering)) return null;
  return { exprs: rewriters.map((r) => exprs.map((e) => r.expr(e))), out: first, axes: [...axes.slice(0, -1), vectors] };
}

const isAligned = (at: Index): boolean => at.base % LANES === 0 && at.terms.every(({ c }) => c % LANES === 0);
const termsKey = (at: Index, numbering: Numbering): string => at.terms.map(({ atom, c }) => `${c}*${numbering.of(atom)}`).sort().join(); // biome-ignore format: one idea

/** Loads by vectors what lanes read of neighbours; `isVector`: whether elements of this input can be. */
export function loadLanes(
  b: SimtBuilder,
  code: ExprCode,
  task: LaneTask,
  buffers: readonly number[],
  isVector: (input: number) => boolean,
): void {
  const numbering = new Numbering();
  /** By what they share, loads of each base. */
  const found = new Map<string, Map<number, Load[]>>();
  for (const e of task.exprs.flat())
    walk(e, (p) => {
      if (!("k" in p) || p.k !== "load" || !isVector(p.input)) return true;
      const key = `${p.input} ${termsKey(p.at, numbering)}`;
      const bases = found.get(key) ?? new Map<number, Load[]>();
      found.set(key, bases.set(p.at.base, [...(bases.get(p.at.base) ?? []), p]));
      return true;
    });
  for (const bases of found.values())
    for (const [base, [first]] of bases) {
      const all = Array.from({ length: LANES }, (_, i) => bases.get(base + i));
      // What a condition keeps from being read may lie outside.
      const isInside = first.at.lo >= 0 && first.at.hi + LANES <= b.elementsOf(buffers[first.input]);
      if (!isInside || !isAligned(first.at) || all.some((loads) => !loads)) continue;
      const values = b.loadVector({ k: "buffer", number: buffers[first.input] }, b.let(code.index(first.at)), LANES);
      for (const [i, loads] of all.entries()) for (const load of loads!) code.know(load, values[i]); // all are there
    }
}
