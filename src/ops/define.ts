// What operator definitions share: checks with clear messages, broadcasting, constant inputs, old attribute forms, samples.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import type { Expr } from "../ir/expr.ts";
import type { Attrs, AttrValue, ImportContext, Op, Reader, TensorType, Value } from "../ir/graph.ts";
import { constIndex, type Index } from "../ir/index_expr.ts";
import { fromNumbers, type Shape, type TensorData, toNumbers } from "../ir/tensor.ts";
import { constantOf } from "./source.ts";

export const FLOATS: readonly DType[] = ["f32", "f64", "f16", "bf16"];
export const SIGNED: readonly DType[] = [...FLOATS, "i8", "i16", "i32", "i64"];
export const UNSIGNED: readonly DType[] = ["u8", "u16", "u32", "u64"];
export const INTEGERS: readonly DType[] = ["i8", "i16", "i32", "i64", ...UNSIGNED];
export const NUMBERS: readonly DType[] = [...FLOATS, ...INTEGERS];
export const ALL: readonly DType[] = Object.keys(DTYPES) as DType[];

/** Type of an input that must be there and have one of the dtypes. */
export function inputType(op: string, inputs: readonly (Value | null)[], i: number, dtypes: readonly DType[] = ALL): TensorType {
  const value = inputs[i];
  if (!value) throw new HeddleError("bad-model", `${op}: input ${i} is missing`);
  checkDType(op, i, value.type.dtype, dtypes);
  return value.type;
}

export function checkDType(op: string, i: number, dtype: DType, dtypes: readonly DType[]): void {
  if (!dtypes.includes(dtype)) throw new HeddleError("bad-model", `${op}: input ${i} is ${dtype}, wanted ${dtypes.join(", ")}`);
}

/** The inputs from number `from` on must share a dtype, which is returned. */
export function sameDType(op: string, types: readonly TensorType[], from = 0): DType {
  const { dtype } = types[from];
  for (let i = from + 1; i < types.length; i++)
    if (types[i].dtype !== dtype)
      throw new HeddleError("bad-model", `${op}: input ${from} is ${dtype}, input ${i} is ${types[i].dtype}; the types must be equal`);
  return dtype;
}

export function broadcastShapes(op: string, shapes: readonly Shape[]): number[] {
  let rank = 0;
  for (const shape of shapes) rank = Math.max(rank, shape.length);
  const out = new Array<number>(rank).fill(1);
  for (const shape of shapes) {
    for (let i = 0, axis = rank - shape.length; i < shape.length; i++, axis++) {
      const d = shape[i];
      if (out[axis] === 1) out[axis] = d;
      else if (d !== 1 && d !== out[axis])
        throw new HeddleError("bad-model", `${op}: shapes ${shapes.map((s) => `(${s})`).join(" and ")} do not broadcast`);
    }
  }
  return out;
}

/** Element of `reader` that broadcasts to `index` of a shape of equal or higher rank. */
export function readBroadcast(reader: Reader, index: readonly Index[]): Expr {
  const { shape } = reader.type;
  const skip = index.length - shape.length;
  return reader.at(shape.map((d, i) => (d === 1 ? constIndex(0) : index[skip + i])));
}

/** A reader that is there: its input was checked by infer. */
export const the = (reader: Reader | null | undefined): Reader => reader!;

/** Axis in [0, rank). */
export function normalizeAxis(op: string, axis: number, rank: number): number {
  const at = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || at < 0 || at >= rank) throw new HeddleError("bad-model", `${op}: axis ${axis} is outside of rank ${rank}`);
  return at;
}

/** What places along an axis may be. */
export const placesAlong = (shape: Shape, axis: number): readonly [number, number] => [0, Math.max(0, shape[axis] - 1)];

/** Distinct axes in [0, rank), in the order given. */
export function normalizeAxes(op: string, axes: readonly number[], rank: number): number[] {
  const out = axes.map((a) => normalizeAxis(op, a, rank));
  if (new Set(out).size !== out.length) throw new HeddleError("bad-model", `${op}: axes (${axes}) name one axis twice`);
  return out;
}

/** Tensor behind an input that must be known when compiling; undefined when the input is absent. */
export function constantInput(op: string, inputs: readonly (Value | null)[], i: number, what: string): TensorData | undefined {
  const value = inputs[i];
  if (!value) return undefined;
  const tensor = constantOf(value);
  if (!tensor)
    throw new HeddleError(
      "dynamic",
      `${op}: ${what} is computed from data at run time; heddle compiles for fixed shapes: make it a constant`,
    );
  return tensor;
}

/** Numbers of a constant input; undefined when absent. */
export function constantNumbers(op: string, inputs: readonly (Value | null)[], i: number, what: string): number[] | undefined {
  const tensor = constantInput(op, inputs, i, what);
  return tensor && [...toNumbers(tensor)];
}

/** Numbers of a constant input that must be there. */
export function requiredNumbers(op: string, inputs: readonly (Value | null)[], i: number, what: string): number[] {
  const numbers = constantNumbers(op, inputs, i, what);
  if (!numbers) throw new HeddleError("bad-model", `${op}: ${what} (input ${i}) is missing`);
  return numbers;
}

/** A sub-set of raw ONNX attributes. */
export const without = (attrs: Attrs, names: readonly string[]): Attrs =>
  Object.fromEntries(Object.entries(attrs).filter(([name]) => !names.includes(name)));

/** An attribute of an old opset that later became input number `input`. `scalar`: a tensor without axes. */
export interface MovedAttribute {
  readonly name: string;
  readonly input: number;
  readonly dtype?: DType;
  readonly scalar?: boolean;
}

/** importOnnx for operators whose attributes became inputs: each attribute that is there becomes a constant. Without dtype: the first input's. */
export function movedToInputs(op: () => Op, moved: readonly MovedAttribute[]): (context: ImportContext) => readonly Value[] {
  return (context) => {
    const inputs = [...context.inputs];
    for (const { name, input, dtype, scalar } of moved) {
      const value = context.attrs[name];
      if (value === undefined || value === null || inputs[input]) continue;
      while (inputs.length <= input) inputs.push(null);
      inputs[input] = context.constant(attributeTensor(value, dtype ?? inputs[0]!.type.dtype, scalar ?? false));
    }
    return context.emit(
      op() as unknown as Op<never>, // emit takes operators of every attribute type
      inputs,
      without(
        context.attrs,
        moved.map((m) => m.name),
      ),
    );
  };
}

function attributeTensor(value: AttrValue, dtype: DType, scalar: boolean): TensorData {
  const numbers = (Array.isArray(value) ? value : [value]) as number[]; // ints, floats, int or float by the caller's table
  return fromNumbers(dtype, scalar ? [] : [numbers.length], numbers);
}

/** An operator reads no more inputs than this at once: its kernel has an expression for each. */
export const MAX_JOINED = 64;

/** importOnnx for operators that take any number of inputs, and their own results among them: many inputs are combined in parts. */
export function inParts(op: Op, { emit, inputs }: ImportContext, attrs: Attrs): readonly Value[] {
  let left = inputs;
  while (left.length > MAX_JOINED) {
    const parts: (Value | null)[] = [];
    for (let i = 0; i < left.length; i += MAX_JOINED) parts.push(emit(emittable(op), left.slice(i, i + MAX_JOINED), attrs)[0]);
    left = parts;
  }
  return emit(emittable(op), left, attrs);
}

/** The operator with the type that ImportContext.emit wants: attributes are checked when it is applied. */
export const emittable = (op: Op): Op<never> => op as unknown as Op<never>;

// Samples.
const type =
  (dtype: DType) =>
  (...shape: number[]): TensorType => ({ dtype, shape });
export const f32 = type("f32");
export const f64 = type("f64");
export const i32 = type("i32");
export const i64 = type("i64");
export const u8 = type("u8");
export const bool = type("bool");
/** A constant tensor; one axis unless a shape is given. */
export const tensorOf = (dtype: DType, values: readonly number[], shape: Shape = [values.length]): TensorData =>
  fromNumbers(dtype, shape, values);
export const ints = (...values: number[]): TensorData => tensorOf("i64", values);
export const scalarOf = (dtype: DType, value: number): TensorData => tensorOf(dtype, [value], []);
