// Values from values by operators' names: the words that tensors' methods are written in.
import { DTYPES, type DType, isFloat } from "../ir/dtype.ts";
import type { Attrs, Value } from "../ir/graph.ts";
import { fromNumbers, type Shape } from "../ir/tensor.ts";
import { OPS } from "../ops/index.ts";
import { constantValue } from "../ops/source.ts";
import { applyOp, refuse } from "./trace.ts";

/** All outputs of an operator by its ONNX name. */
export const all = (name: string, inputs: readonly (Value | null)[], attrs?: Attrs): readonly Value[] =>
  applyOp(OPS.get(name)!, inputs, attrs); // names are literals in this folder

/** First output of an operator by its ONNX name. */
export const op = (name: string, inputs: readonly (Value | null)[], attrs?: Attrs): Value => all(name, inputs, attrs)[0];

export const ints = (...values: number[]): Value => constantValue(fromNumbers("i64", [values.length], values));

/** A constant without axes. A fraction is refused for integers, which would cut it off. */
export function scalar(dtype: DType, value: number): Value {
  if (!isFloat(dtype) && !Number.isInteger(value)) refuse(`${value} is not a whole number, and the tensor is ${dtype}; cast() it first`);
  return constantValue(fromNumbers(dtype, [], [value]));
}

export const reshape = (x: Value, shape: Shape): Value => op("Reshape", [x, ints(...shape)], { allowzero: 1 });
export const transpose = (x: Value, perm: readonly number[]): Value => op("Transpose", [x], { perm });
export const expand = (x: Value, shape: Shape): Value => op("Expand", [x, ints(...shape)]);
export const cast = (x: Value, dtype: DType): Value => (x.type.dtype === dtype ? x : op("Cast", [x], { to: DTYPES[dtype].onnx }));

/** One number everywhere. */
export const full = (dtype: DType, shape: Shape, value: number): Value =>
  op("ConstantOfShape", [ints(...shape)], { value: fromNumbers(dtype, [1], [value]) });

/** Axis in [0, rank). */
export function axisOf(name: string, axis: number, rank: number): number {
  const at = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || at < 0 || at >= rank) refuse(`${name}: axis ${axis} is outside of rank ${rank}`);
  return at;
}
