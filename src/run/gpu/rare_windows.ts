// Windows that few networks have, as expressions of one element: pools by p-norms, pools that say where each maximum was, blocks added up.
import { both, call, cast, constant, type Expr, reduce, select, within } from "../../ir/expr.ts";
import type { Reader } from "../../ir/graph.ts";
import {
  addIndex,
  clampIndex,
  constIndex,
  divIndex,
  type Index,
  linearIndex,
  modIndex,
  mulIndex,
  newVar,
  unlinearIndex,
  valueIndex,
  varIndex,
} from "../../ir/index_expr.ts";
import { elementCount, stridesOf } from "../../ir/tensor.ts";
import { type PoolGeometry, poolGeometry } from "../../ops/pool.ts";
import { blocksOf } from "../../ops/unpool.ts";
import { type ExpressionOf, tapAt, wide } from "./contractions.ts";
import { maxPool } from "./lines.ts";

const split = ({ layout }: PoolGeometry, index: readonly Index[]) =>
  layout === "NCHW"
    ? { batch: index[0], channel: index[1], spatial: index.slice(2) }
    : { batch: index[0], channel: index[index.length - 1], spatial: index.slice(1, -1) };

/** What a window's tap sees, and whether there is something. */
function seen(x: Reader, g: PoolGeometry, index: readonly Index[], taps: readonly Index[]): { value: Expr; isInside: Expr } {
  const { batch, channel, spatial } = split(g, index);
  const { at, isInside } = tapAt(g, spatial, taps);
  return { value: wide(x.at(g.layout === "NCHW" ? [batch, channel, ...at] : [batch, ...at, channel])), isInside };
}

export const lpPool: ExpressionOf = ([x], node) => {
  const { type } = node.outputs[0];
  const g = poolGeometry(node);
  const { p } = node.attrs as { readonly p: number };
  const power = (e: Expr, by: number): Expr => call("pow", e, constant(e.dtype, by));
  const at = (index: readonly Index[]): Expr => {
    const taps = g.kernel.map(newVar);
    const { value, isInside } = seen(x!, g, index, taps.map(varIndex)); // checked by infer
    const sum = reduce("add", taps, select(isInside, power(call("abs", value), p), constant(value.dtype, 0)));
    return cast(type.dtype, power(sum, 1 / p));
  };
  return [{ type, at }];
};

/** Of equal largest ones the first; places count in ONNX's layout, whatever layout the data has. */
export const maxPoolWithPlaces: ExpressionOf = (inputs, node) => {
  const values = maxPool(inputs, node);
  if (node.outputs.length === 1) return values;
  const [x] = inputs;
  const g = poolGeometry(node);
  const { storage_order } = node.attrs as { readonly storage_order: number };
  const count = elementCount(g.kernel);
  const steps = storage_order ? stridesOf(g.input.toReversed()).toReversed() : stridesOf(g.input);
  const at = (index: readonly Index[]): Expr => {
    const largest = wide(values[0].at(index));
    const tap = newVar(count);
    const { value, isInside } = seen(x!, g, index, unlinearIndex(varIndex(tap), g.kernel)); // checked by infer
    const number: Expr = { k: "index", dtype: "i32", at: varIndex(tap) };
    const first = reduce("min", [tap], select(both(isInside, call("eq", value, largest)), number, constant("i32", count - 1)));
    const { batch, channel, spatial } = split(g, index);
    const where = tapAt(g, spatial, unlinearIndex(valueIndex(first, 0, count - 1), g.kernel)).at;
    const plane = mulIndex(addIndex(mulIndex(batch, g.channels), channel), elementCount(g.input));
    return { k: "index", dtype: "i64", at: addIndex(plane, linearIndex(where, steps)) };
  };
  return [...values, { type: node.outputs[1].type, at }];
};

/** x (N, C · block, blocks) → (N, C, image…). */
export const col2Im: ExpressionOf = ([x], node) => {
  const { window } = blocksOf(node.inputs, node.attrs);
  const { type } = node.outputs[0];
  const block = elementCount(window.kernel);
  const at = ([batch, channel, ...spatial]: readonly Index[]): Expr => {
    const taps = window.kernel.map(newVar);
    const from = spatial.map((o, i) => addIndex(addIndex(o, window.padsBegin[i]), mulIndex(varIndex(taps[i]), -window.dilations[i])));
    const places = from.map((t, i) => divIndex(t, window.strides[i]));
    const isThere = from
      .map((t, i) => both(within(modIndex(t, window.strides[i]), 0, 1), within(places[i], 0, window.output[i])))
      .reduce(both, constant("bool", 1));
    const position = linearIndex(places.map((q, i) => clampIndex(q, 0, window.output[i] - 1)), stridesOf(window.output)); // biome-ignore format: one idea
    const tap = linearIndex(taps.map(varIndex), stridesOf(window.kernel));
    const value = wide(x!.at([batch, addIndex(mulIndex(channel, block), tap), addIndex(position, constIndex(0))])); // checked by infer
    return cast(type.dtype, reduce("add", taps, select(isThere, value, constant(value.dtype, 0))));
  };
  return [{ type, at }];
};
