// Softmax, layer normalization, pools and extremes as expressions of one element.
import { call, cast, constant, type Expr, reduce, select } from "../../ir/expr.ts";
import type { Node, Reader } from "../../ir/graph.ts";
import { type Index, newVar, varIndex } from "../../ir/index_expr.ts";
import { layerNormGeometry } from "../../ops/norm.ts";
import { poolGeometry } from "../../ops/pool.ts";
import { softmaxGeometry } from "../../ops/softmax.ts";
import { broadcastAt, type ExpressionOf, tapAt, wide } from "./contractions.ts";

/** The largest element is taken out first, so that nothing overflows. */
const softmaxOf =
  (isLog: boolean): ExpressionOf =>
  ([x], node) => {
    const { axis, size } = softmaxGeometry(node);
    const { type } = node.outputs[0];
    const at = (index: readonly Index[]): Expr => {
      const rest = index.toSpliced(axis, 1);
      const largest = along(rest, (i) => wide(x!.at(i)), "max");
      const sum = along(rest, (i) => call("exp", call("sub", wide(x!.at(i)), largest)), "add");
      const shifted = call("sub", wide(x!.at(index)), largest);
      return cast(type.dtype, isLog ? call("sub", shifted, call("log", sum)) : call("div", call("exp", shifted), sum));
    };
    const along = (rest: readonly Index[], of: (index: Index[]) => Expr, combine: "max" | "add"): Expr => {
      const v = newVar(size);
      return reduce(combine, [v], of([...rest.slice(0, axis), varIndex(v), ...rest.slice(axis)]));
    };
    return [{ type, at }];
  };
export const softmax = softmaxOf(false);
export const logSoftmax = softmaxOf(true);

export const layerNormalization: ExpressionOf = ([x, scale, bias], node) => {
  const { shape } = x!.type;
  const { axis, epsilon } = node.attrs as { readonly axis: number; readonly epsilon: number };
  const { axis: first, size } = layerNormGeometry(shape, axis);
  const mean = (outer: readonly Index[], of: (value: Expr) => Expr): Expr => {
    const vars = shape.slice(first).map(newVar);
    return call("div", reduce("add", vars, of(wide(x!.at([...outer, ...vars.map(varIndex)])))), constant("f32", size));
  };
  const stats = (index: readonly Index[]): { centre: Expr; inverse: Expr } => {
    const outer = index.slice(0, first);
    const centre = mean(outer, (v) => v);
    const variance = mean(outer, (v) => call("mul", call("sub", v, centre), call("sub", v, centre)));
    return { centre, inverse: call("reciprocal", call("sqrt", call("add", variance, constant("f32", epsilon)))) };
  };
  const [{ type }] = node.outputs;
  const at = (index: readonly Index[]): Expr => {
    const { centre, inverse } = stats(index);
    const normal = call("mul", call("sub", wide(x!.at(index)), centre), inverse);
    const scaled = call("mul", normal, wide(broadcastAt(scale!, index)));
    return cast(type.dtype, bias ? call("add", scaled, wide(broadcastAt(bias, index))) : scaled);
  };
  const rest = node.outputs.slice(1).map(({ type }, i): Reader => {
    return { type, at: (index) => (i === 0 ? stats(index).centre : stats(index).inverse) };
  });
  return [{ type, at }, ...rest];
};

/** What a window combines: its elements where they are inside, `outside` elsewhere. */
function windowOf(x: Reader, node: Node, index: readonly Index[], combine: "max" | "add", of: (e: Expr, isInside: Expr) => Expr): Expr {
  const g = poolGeometry(node);
  const isFirst = g.layout === "NCHW";
  const last = index.length - 1;
  const spatial = isFirst ? index.slice(2) : index.slice(1, last);
  const taps = g.kernel.map(newVar);
  const { at, isInside } = tapAt(g, spatial, taps.map(varIndex));
  const element = x.at(isFirst ? [index[0], index[1], ...at] : [index[0], ...at, index[last]]);
  return reduce(combine, taps, of(wide(element), isInside));
}
const orElse = (isInside: Expr, e: Expr, outside: number): Expr =>
  isInside.k === "const" && isInside.value ? e : select(isInside, e, constant(e.dtype, outside));

const LEAST: Readonly<Record<string, number>> = { i8: -128, u8: 0, i16: -32768, u16: 0, i32: -(2 ** 31) };

export const maxPool: ExpressionOf = ([x], node) => {
  const { type } = node.outputs[0];
  const least = LEAST[type.dtype] ?? Number.NEGATIVE_INFINITY;
  const at = (index: readonly Index[]): Expr =>
    cast(
      type.dtype,
      windowOf(x!, node, index, "max", (e, isInside) => orElse(isInside, e, least)),
    );
  return [{ type, at }];
};

export const averagePool: ExpressionOf = ([x], node) => {
  const { type } = node.outputs[0];
  const g = poolGeometry(node);
  const { count_include_pad } = node.attrs as { readonly count_include_pad: number };
  const reach = { ...g, input: g.input.map((d, i) => d + g.padsBegin[i] + g.padsEnd[i]), padsBegin: g.padsBegin.map(() => 0) };
  const at = (index: readonly Index[]): Expr => {
    const sum = windowOf(x!, node, index, "add", (e, isInside) => orElse(isInside, e, 0));
    const spatial = g.layout === "NCHW" ? index.slice(2) : index.slice(1, index.length - 1);
    const taps = g.kernel.map(newVar);
    const { isInside } = tapAt(count_include_pad ? reach : g, spatial, taps.map(varIndex));
    const count = reduce("add", taps, cast("f32", isInside));
    return cast(type.dtype, call("div", sum, count));
  };
  return [{ type, at }];
};

/** The first, or last, place along an axis where the extreme is. */
const argExtreme =
  (isLargest: boolean): ExpressionOf =>
  ([x], node) => {
    const { type } = node.outputs[0];
    const attrs = node.attrs as { readonly axis: number; readonly keepdims: number; readonly select_last_index: number };
    const { shape } = x!.type;
    const axis = attrs.axis < 0 ? attrs.axis + shape.length : attrs.axis;
    const size = shape[axis];
    const isLast = attrs.select_last_index !== 0;
    const at = (index: readonly Index[]): Expr => {
      const outer = attrs.keepdims ? index.toSpliced(axis, 1) : index;
      const along = (v: Index): Expr => wide(x!.at([...outer.slice(0, axis), v, ...outer.slice(axis)]));
      const [u, v] = [newVar(size), newVar(size)];
      const extreme = reduce(isLargest ? "max" : "min", [u], along(varIndex(u)));
      const place: Expr = { k: "index", dtype: "i32", at: varIndex(v) };
      const isThere = call("eq", along(varIndex(v)), extreme);
      return cast(type.dtype, reduce(isLast ? "max" : "min", [v], orElse(isThere, place, isLast ? 0 : size - 1)));
    };
    return [{ type, at }];
  };
export const argMax = argExtreme(true);
export const argMin = argExtreme(false);

/** 1 at the first largest element, 0 elsewhere. */
export const hardmax: ExpressionOf = ([x], node) => {
  const { axis, size } = softmaxGeometry(node);
  const { type } = node.outputs[0];
  const at = (index: readonly Index[]): Expr => {
    const along = (i: Index): Expr => wide(x!.at(index.with(axis, i)));
    const [u, v] = [newVar(size), newVar(size)];
    const largest = reduce("max", [u], along(varIndex(u)));
    const place: Expr = { k: "index", dtype: "i32", at: varIndex(v) };
    const first = reduce("min", [v], orElse(call("eq", along(varIndex(v)), largest), place, size));
    return cast(type.dtype, call("eq", first, { k: "index", dtype: "i32", at: index[axis] }));
  };
  return [{ type, at }];
};
