// Splits a long reduction with few results into one of parts, which keeps all of a GPU busy, and one of the parts' results.
import { type Expr, reduce } from "../../ir/expr.ts";
import type { Reader, TensorType } from "../../ir/graph.ts";
import { addIndex, type Index, type IndexVar, linearIndex, mulIndex, newVar, varIndex } from "../../ir/index_expr.ts";
import type { SimtTarget } from "../../ir/simt.ts";
import { elementCount, stridesOf } from "../../ir/tensor.ts";
import { Rewriter } from "../../lower/rewrite.ts";
import { walk } from "../../lower/walk.ts";

type Reduction = Extract<Expr, { k: "reduce" }>;

export interface TwoPasses {
  readonly parts: TensorType;
  readonly first: Reader;
  /** Read the parts as the input behind all others. */
  readonly second: readonly Reader[];
}

/** When a second kernel is worth it. */
export interface PassOptions {
  /** Of reductions, and of their parts, at least. */
  readonly long: number;
  readonly leastPart: number;
  /** Parts, at most. */
  readonly most: number;
}
const USUAL: PassOptions = { long: 1 << 12, leastPart: 1 << 8, most: Number.POSITIVE_INFINITY };
const LEAST_SPLITS = 4;
/** Results next to each other that one workgroup reduces together. */
const COLUMNS = 128;
const MULTIPROCESSORS = 16;
/** Workgroups on a multiprocessor that hide each other's waiting for memory. */
const RESIDENTS = 4;

/** Null where one pass is as good, or the readers, all of one shape, do not share one reduction. */
export function twoPasses(
  readers: readonly Reader[],
  inputs: number,
  target: SimtTarget,
  { long, leastPart, most }: PassOptions = USUAL,
): TwoPasses | null {
  const [reader] = readers;
  const { shape } = reader.type;
  const count = elementCount(shape);
  const groups = Math.max(1, count / COLUMNS);
  const wanted = (RESIDENTS * (target.units ?? MULTIPROCESSORS)) / groups;
  if (wanted < LEAST_SPLITS) return null;
  const found = onlyReduction(readers, shape.map((d) => varIndex(newVar(d)))); // biome-ignore format: short
  if (!found) return null;
  const length = found.r.vars.reduce((n, v) => n * v.extent, 1);
  const { dtype } = found.r;
  const axis = longest(found.r.vars);
  const splits = divisorOf(found.r.vars[axis].extent, Math.min(wanted, length / leastPart, most));
  if (length < long || splits < LEAST_SPLITS || (dtype !== "f32" && dtype !== "i32")) return null;
  const parts: TensorType = { dtype, shape: [splits, ...shape] };
  return {
    parts,
    first: {
      type: parts,
      at([part, ...index]) {
        const { r } = onlyReduction(readers, index)!; // as before
        const own = newVar(r.vars[axis].extent / splits);
        const at = addIndex(mulIndex(part, own.extent), varIndex(own));
        return { ...r, vars: r.vars.with(axis, own), body: new Rewriter(new Map([[r.vars[axis].id, at]])).expr(r.body) };
      },
    },
    second: readers.map(({ type }, i) => ({ type, at: (index) => joined(index, i) })),
  };

  function joined(index: readonly Index[], i: number): Expr {
    const { r, exprs } = onlyReduction(readers, index)!; // as before
    const part = newVar(splits);
    const at = addIndex(mulIndex(varIndex(part), count), linearIndex(index, stridesOf(shape)));
    return replaced(exprs[i], r, reduce(r.combine, [part], { k: "load", dtype, input: inputs, at }));
  }
}

/** The one reduction that all readers share, which is nowhere but in calls, and has none inside. */
function onlyReduction(
  readers: readonly Reader[],
  index: readonly Index[],
): { readonly r: Reduction; readonly exprs: readonly Expr[] } | null {
  const rewriter = new Rewriter();
  const exprs = readers.map((reader) => rewriter.expr(reader.at(index)));
  const all = new Set<Reduction>();
  for (const e of exprs)
    walk(e, (p) => {
      if ("k" in p && p.k === "reduce") all.add(p);
      return true;
    });
  const [r] = all;
  if (all.size !== 1) return null;
  let isLeft = false;
  for (const e of exprs)
    walk(replaced(e, r, { k: "const", dtype: r.dtype, value: 0 }), (p) => {
      isLeft ||= p === r;
      return true;
    });
  return isLeft ? null : { r, exprs };
}

function replaced(e: Expr, from: Expr, to: Expr): Expr {
  if (e === from) return to;
  if (e.k === "call") return { ...e, args: e.args.map((a) => replaced(a, from, to)) };
  if (e.k === "cast") return { ...e, a: replaced(e.a, from, to) };
  return e;
}

const longest = (vars: readonly IndexVar[]): number => vars.reduce((best, v, i) => (v.extent > vars[best].extent ? i : best), 0);

/** The largest divisor of n that is `most` at most. */
function divisorOf(n: number, most: number): number {
  for (let d = Math.min(n, Math.floor(most)); d > 1; d--) if (n % d === 0) return d;
  return 1;
}
