// Weights of attention, and their gradient, as expressions of one element.
import { call, cast, constant, type Expr, reduce, select, within } from "../../ir/expr.ts";
import { addIndex, type Index, newVar, subIndex, varIndex } from "../../ir/index_expr.ts";
import { scoreGeometry } from "../../ops/score_weights.ts";
import { type ExpressionOf, wide } from "./contractions.ts";

/** Scores of keys behind the query's place are not looked at. */
export const scoreWeights: ExpressionOf = ([x], node) => {
  const { isCausal, before, scale } = scoreGeometry(node);
  const { type } = node.outputs[0];
  const [t, s] = type.shape.slice(-2);
  const score = (index: readonly Index[]): Expr => {
    const [query, key] = index.slice(-2);
    const own = scaled(wide(x!.at(index)), scale);
    return isCausal
      ? select(within(subIndex(addIndex(query, before), key), 0, s + t), own, constant("f32", Number.NEGATIVE_INFINITY))
      : own;
  };
  const along = (rest: readonly Index[], combine: "max" | "add", of: (e: Expr) => Expr): Expr => {
    const v = newVar(s);
    return reduce(combine, [v], of(score([...rest, varIndex(v)])));
  };
  const at = (index: readonly Index[]): Expr => {
    const rest = index.slice(0, -1);
    const largest = along(rest, "max", (e) => e);
    const powerOf = (e: Expr): Expr => call("exp", call("sub", e, largest));
    return cast(type.dtype, call("mul", powerOf(score(index)), call("reciprocal", along(rest, "add", powerOf))));
  };
  return [{ type, at }];
};

const scaled = (e: Expr, scale: number): Expr => (scale === 1 ? e : call("mul", e, constant("f32", scale)));

export const scoreWeightsGrad: ExpressionOf = ([y, dy], node) => {
  const { type } = node.outputs[0];
  const { scale } = scoreGeometry(node);
  const at = (index: readonly Index[]): Expr => {
    const v = newVar(type.shape[type.shape.length - 1]);
    const other = [...index.slice(0, -1), varIndex(v)];
    const sum = reduce("add", [v], call("mul", wide(y!.at(other)), wide(dy!.at(other))));
    return cast(type.dtype, scaled(call("mul", wide(y!.at(index)), call("sub", wide(dy!.at(index)), sum)), scale));
  };
  return [{ type, at }];
};
