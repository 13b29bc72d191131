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
  /** Reads the parts as the input behind all others. */
  readonly second: Reader;
}

/** Shorter reductions, and shorter parts of one, are not worth a second kernel. */
const LONG = 1 << 14;
const LEAST_PART = 1 << 10;
const LEAST_SPLITS = 4;
/** Results next to each other that one workgroup reduces together. */
const COLUMNS = 32;
const MULTIPROCESSORS = 16;

/** Null where one pass is as good. */
export function twoPasses(reader: Reader, inputs: number, target: SimtTarget): TwoPasses | null {
  const { shape } = reader.type;
  const count = elementCount(shape);
  const groups = Math.max(1, count / COLUMNS);
  const wanted = (2 * (target.units ?? MULTIPROCESSORS)) / groups;
  const found = onlyReduction(reader.at(shape.map((d) => varIndex(newVar(d)))));
  if (!found || wanted < LEAST_SPLITS) return null;
  const length = found.r.vars.reduce((n, v) => n * v.extent, 1);
  const { dtype } = found.r;
  const axis = longest(found.r.vars);
  const splits = divisorOf(found.r.vars[axis].extent, Math.min(wanted, length / LEAST_PART));
  if (length < LONG || splits < LEAST_SPLITS || (dtype !== "f32" && dtype !== "i32")) return null;
  const parts: TensorType = { dtype, shape: [splits, ...shape] };
  return {
    parts,
    first: {
      type: parts,
      at([part, ...index]) {
        const { r } = onlyReduction(reader.at(index))!; // as before
        const own = newVar(r.vars[axis].extent / splits);
        const at = addIndex(mulIndex(part, own.extent), varIndex(own));
        return { ...r, vars: r.vars.with(axis, own), body: new Rewriter(new Map([[r.vars[axis].id, at]])).expr(r.body) };
      },
    },
    second: { type: reader.type, at: (index) => joined(reader.at(index), index) },
  };

  function joined(whole: Expr, index: readonly Index[]): Expr {
    const { r, expr } = onlyReduction(whole)!; // as before
    const part = newVar(splits);
    const at = addIndex(mulIndex(varIndex(part), count), linearIndex(index, stridesOf(shape)));
    return replaced(expr, r, reduce(r.combine, [part], { k: "load", dtype, input: inputs, at }));
  }
}

/** The one reduction of an expression, which is nowhere but in calls, and has none inside. */
function onlyReduction(given: Expr): { readonly r: Reduction; readonly expr: Expr } | null {
  const expr = new Rewriter().expr(given);
  const all = new Set<Reduction>();
  walk(expr, (p) => {
    if ("k" in p && p.k === "reduce") all.add(p);
    return true;
  });
  const [r] = all;
  if (all.size !== 1) return null;
  let isLeft = false;
  walk(replaced(expr, r, { k: "const", dtype: r.dtype, value: 0 }), (p) => {
    isLeft ||= p === r;
    return true;
  });
  return isLeft ? null : { r, expr };
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
