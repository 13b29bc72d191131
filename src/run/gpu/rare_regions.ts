// Pools over regions of interest as expressions of one element. Where the region decides how many samples a bin has, JavaScript takes them.
import { HeddleError } from "../../ir/error.ts";
import { call, cast, constant, type Expr, reduce, select } from "../../ir/expr.ts";
import { constIndex, type Index, type IndexVar, newVar, valueIndex, varIndex } from "../../ir/index_expr.ts";
import type { MaxRoiPoolAttrs, RoiAlignAttrs } from "../../ops/roi.ts";
import { type ExpressionOf, wide } from "./contractions.ts";

const f = (value: number): Expr => constant("f32", value);
const numberOf = (at: Index): Expr => cast("f32", { k: "index", dtype: "i32", at });
const between = (e: Expr, lo: number, hi: number): Expr => call("min", f(hi), call("max", f(lo), e));
/** A whole number as an index of an axis of n. */
const placeIn = (e: Expr, n: number): Index => valueIndex(cast("i32", e), 0, n - 1);
const plus = (a: Expr, b: Expr): Expr => call("add", a, b);
const minus = (a: Expr, b: Expr): Expr => call("sub", a, b);
const times = (a: Expr, b: Expr): Expr => call("mul", a, b);

/** Two elements of an axis of n around a place, with their weights; outside of the picture they have none. */
function around(at: Expr, n: number): readonly { readonly at: Index; readonly weight: Expr }[] {
  const inside = between(at, 0, n - 1);
  const low = call("floor", inside);
  const share = minus(inside, low);
  const isSeen = call("and", call("ge", at, f(-1)), call("le", at, f(n)));
  return [
    { at: placeIn(low, n), weight: select(isSeen, minus(f(1), share), f(0)) },
    { at: placeIn(call("min", f(n - 1), plus(low, f(1))), n), weight: select(isSeen, share, f(0)) },
  ];
}

export const roiAlign: ExpressionOf = ([x, rois, batches], node) => {
  const a = node.attrs as unknown as RoiAlignAttrs;
  const { sampling_ratio: samples, spatial_scale: scale } = a;
  if (samples <= 0) throw new HeddleError("unsupported", "RoiAlign: as many samples as a region has elements");
  const { type } = node.outputs[0];
  const [batch, , height, width] = x!.type.shape; // checked by infer, as the other inputs are
  const shift = a.coordinate_transformation_mode === "half_pixel" ? 0.5 : 0;
  const at = ([r, c, row, column]: readonly Index[]): Expr => {
    const corner = (i: number): Expr => minus(times(cast("f32", rois!.at([r, constIndex(i)])), f(scale)), f(shift));
    /** Sample `s` of a bin: the corners' numbers are those of the axis. */
    const place = (first: number, bins: number, bin: Index, s: IndexVar): Expr => {
      const length = minus(corner(first + 2), corner(first));
      const size = times(shift > 0 ? length : call("max", length, f(1)), f(1 / bins));
      const inBin = times(plus(numberOf(varIndex(s)), f(0.5)), f(1 / samples));
      return plus(corner(first), times(plus(numberOf(bin), inBin), size));
    };
    const [down, across] = [newVar(samples), newVar(samples)];
    const n = placeIn(cast("f32", batches!.at([r])), batch);
    const vertical = around(place(1, a.output_height, row, down), height);
    const horizontal = around(place(0, a.output_width, column, across), width);
    const parts = vertical.flatMap((v) => horizontal.map((h) => times(wide(x!.at([n, c, v.at, h.at])), times(v.weight, h.weight))));
    // The largest of the weighted neighbours, not of the interpolated samples: as ONNX has it.
    const isMean = a.mode === "avg";
    const all = reduce(
      isMean ? "add" : "max",
      [down, across],
      parts.reduce((p, q) => call(isMean ? "add" : "max", p, q)),
    );
    return cast(type.dtype, isMean ? times(all, f(1 / samples ** 2)) : all);
  };
  return [{ type, at }];
};

export const maxRoiPool: ExpressionOf = ([x, rois], node) => {
  const { pooled_shape, spatial_scale } = node.attrs as unknown as MaxRoiPoolAttrs;
  const { type } = node.outputs[0];
  const [batch, , height, width] = x!.type.shape; // checked by infer, as the regions are
  const at = ([r, c, row, column]: readonly Index[]): Expr => {
    const corner = (i: number): Expr => call("floor", plus(times(cast("f32", rois!.at([r, constIndex(i)])), f(spatial_scale)), f(0.5)));
    /** First element of a bin, and the first behind it. */
    const range = (first: number, bins: number, bin: Index, limit: number): readonly [Expr, Expr] => {
      const [start, end] = [corner(first), corner(first + 2)];
      const size = call("div", call("max", f(1), plus(minus(end, start), f(1))), f(bins));
      const bound = (e: Expr): Expr => between(plus(e, start), 0, limit);
      return [bound(call("floor", times(numberOf(bin), size))), bound(call("ceil", times(plus(numberOf(bin), f(1)), size)))];
    };
    const isIn = (v: IndexVar, [from, to]: readonly [Expr, Expr]): Expr =>
      call("and", call("ge", numberOf(varIndex(v)), from), call("lt", numberOf(varIndex(v)), to));
    const [down, across] = [newVar(height), newVar(width)];
    const [vertical, horizontal] = [range(2, pooled_shape[0], row, height), range(1, pooled_shape[1], column, width)];
    const n = placeIn(cast("f32", rois!.at([r, constIndex(0)])), batch);
    const value = wide(x!.at([n, c, varIndex(down), varIndex(across)]));
    const least = constant(value.dtype, Number.NEGATIVE_INFINITY);
    const largest = reduce("max", [down, across], select(call("and", isIn(down, vertical), isIn(across, horizontal)), value, least));
    const isEmpty = ([from, to]: readonly [Expr, Expr]): Expr => call("le", to, from);
    return cast(type.dtype, select(call("or", isEmpty(vertical), isEmpty(horizontal)), constant(value.dtype, 0), largest));
  };
  return [{ type, at }];
};
