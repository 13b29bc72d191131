// Scalar expressions: what one element of a fused group is, as a tree over loads from the group's inputs.
import type { DType } from "./dtype.ts";
import type { Index, IndexVar } from "./index_expr.ts";
import type { ScalarFn } from "./scalar.ts";

export type Expr =
  | { readonly k: "const"; readonly dtype: DType; readonly value: number }
  /** Element `at` (linear, in elements; proved inside the buffer) of the group's input number `input`. `range`: what integers it may be, where that is known. */
  | { readonly k: "load"; readonly dtype: DType; readonly input: number; readonly at: Index; readonly range?: readonly [number, number] }
  /** A function of the table in scalar.ts; arguments and result in `dtype`, except comparisons (result bool). */
  | { readonly k: "call"; readonly dtype: DType; readonly fn: ScalarFn; readonly args: readonly Expr[] }
  | { readonly k: "cast"; readonly dtype: DType; readonly a: Expr }
  /** An index as a value. */
  | { readonly k: "index"; readonly dtype: DType; readonly at: Index }
  /** lo ≤ at < hi. A select on it evaluates `other` outside; loads inside must still be clamped. */
  | { readonly k: "within"; readonly dtype: "bool"; readonly at: Index; readonly lo: number; readonly hi: number }
  | { readonly k: "select"; readonly dtype: DType; readonly cond: Expr; readonly a: Expr; readonly b: Expr }
  /** Combines body over all values of vars, in order. Starts at the combiner's identity. */
  | {
      readonly k: "reduce";
      readonly dtype: DType;
      readonly combine: "add" | "mul" | "max" | "min";
      readonly vars: readonly IndexVar[];
      readonly body: Expr;
    };

export const constant = (dtype: DType, value: number): Expr => ({ k: "const", dtype, value });
export const call = (fn: ScalarFn, ...args: Expr[]): Expr => ({ k: "call", dtype: COMPARISONS.has(fn) ? "bool" : args[0].dtype, fn, args });
export const cast = (dtype: DType, a: Expr): Expr => (a.dtype === dtype ? a : { k: "cast", dtype, a });
export const select = (cond: Expr, a: Expr, b: Expr): Expr => ({ k: "select", dtype: a.dtype, cond, a, b });
export const within = (at: Index, lo: number, hi: number): Expr =>
  at.lo >= lo && at.hi < hi ? constant("bool", 1) : { k: "within", dtype: "bool", at, lo, hi };
export const both = (a: Expr, b: Expr): Expr =>
  a.k === "const" ? (a.value ? b : a) : b.k === "const" ? (b.value ? a : b) : call("and", a, b);
export const reduce = (combine: "add" | "mul" | "max" | "min", vars: readonly IndexVar[], body: Expr): Expr => ({
  k: "reduce",
  dtype: body.dtype,
  combine,
  vars,
  body,
});

const COMPARISONS: ReadonlySet<ScalarFn> = new Set(["eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf"]);
