// Tensors from numbers: lists, constants, ranges.
import { DTYPES, type DType, type TypedArray } from "../ir/dtype.ts";
import { elementCount, fromNumbers, type TensorData } from "../ir/tensor.ts";
import { full as fullValue, op, scalar } from "./build.ts";
import { recordStorage } from "./leaks.ts";
import type { Dims, NestedShape } from "./shapes.ts";
import { Tensor, tensorFrom } from "./tensor.ts";
import { currentTrace, leaf, refuse, type Storage } from "./trace.ts";

/** Numbers in lists in lists; all lists of a level are equally long. */
export type NestedNumbers = number | boolean | readonly NestedNumbers[];

/** A tensor that holds these numbers from now on. */
function holding<S extends Dims, D extends DType>(data: TensorData): Tensor<S, D> {
  const storage: Storage = { type: { dtype: data.dtype, shape: data.shape }, data, pending: null };
  recordStorage(storage);
  return new Tensor<S, D>(leaf(storage));
}

function shapeOf(nested: NestedNumbers): number[] {
  const shape: number[] = [];
  for (let level = nested; Array.isArray(level); level = level[0]) {
    shape.push(level.length);
    if (level.length === 0) break;
  }
  return shape;
}

function fill(nested: NestedNumbers, shape: readonly number[], axis: number, out: number[]): void {
  if (!Array.isArray(nested)) {
    if (axis !== shape.length) refuse(`tensor: a number where a list of ${shape[axis]} is wanted; lists must be equally deep`);
    out.push(Number(nested));
    return;
  }
  if (nested.length !== shape[axis]) refuse(`tensor: a list of ${nested.length} where others have ${shape[axis]}`);
  for (const part of nested) fill(part, shape, axis + 1, out);
}

/** A tensor of nested lists of numbers (float32) or booleans (bool). */
export function tensor<const T extends NestedNumbers>(nested: T): Tensor<NestedShape<T>, "f32">;
export function tensor<const T extends NestedNumbers, D extends DType>(nested: T, dtype: D): Tensor<NestedShape<T>, D>;
export function tensor(nested: NestedNumbers, dtype?: DType): Tensor {
  const shape = shapeOf(nested);
  const numbers: number[] = [];
  fill(nested, shape, 0, numbers);
  return holding(fromNumbers(dtype ?? "f32", shape, numbers));
}

const TYPE_OF = new Map<unknown, DType>([
  [Float32Array, "f32"],
  [Float64Array, "f64"],
  [Int8Array, "i8"],
  [Uint8Array, "u8"],
  [Int16Array, "i16"],
  [Uint16Array, "u16"],
  [Int32Array, "i32"],
  [Uint32Array, "u32"],
  [BigInt64Array, "i64"],
  [BigUint64Array, "u64"],
]);

/** A tensor over an array's memory, which is not copied: it must not change any more. float16, bfloat16 and bool must be named. */
export function fromArray<const S extends Dims, D extends DType = DType>(data: TypedArray, shape: S, dtype?: D): Tensor<S, D> {
  const type = dtype ?? TYPE_OF.get(data.constructor);
  if (!type || !(data instanceof DTYPES[type].array))
    return refuse(`fromArray: a ${data.constructor.name} cannot hold ${type ?? "elements"}`);
  if (data.length !== elementCount(shape)) refuse(`fromArray: ${data.length} elements for shape (${shape})`);
  return holding({ dtype: type, shape: [...shape], data });
}

/** A tensor of what loaders and files give. */
export const fromData = (data: TensorData): Tensor => holding(data);

function filled<S extends Dims, D extends DType>(shape: S, value: number, dtype: DType): Tensor<S, D> {
  const one = fromNumbers(dtype, [1], [value]).data[0];
  const data = new DTYPES[dtype].array(elementCount(shape));
  if (value !== 0) (data as Float32Array).fill(one as number); // of the array's own kind
  return holding({ dtype, shape: [...shape], data });
}

/** The same number everywhere. */
export function full<const S extends Dims, D extends DType = "f32">(shape: S, value: number, dtype?: D): Tensor<S, D> {
  if (!currentTrace()) return filled(shape, value, dtype ?? "f32");
  return tensorFrom(fullValue(dtype ?? "f32", shape, value));
}
export const zeros = <const S extends Dims, D extends DType = "f32">(shape: S, dtype?: D): Tensor<S, D> => full(shape, 0, dtype);
export const ones = <const S extends Dims, D extends DType = "f32">(shape: S, dtype?: D): Tensor<S, D> => full(shape, 1, dtype);
export const zerosLike = <S extends Dims, D extends DType>(x: { readonly shape: S; readonly dtype: D }): Tensor<S, D> =>
  full(x.shape, 0, x.dtype);
export const onesLike = <S extends Dims, D extends DType>(x: { readonly shape: S; readonly dtype: D }): Tensor<S, D> =>
  full(x.shape, 1, x.dtype);

/** 0, 1, …, or start, start + step, … before end. */
export function arange<D extends DType = "f32">(start: number, end?: number, step = 1, dtype?: D): Tensor<number[], D> {
  const [from, to] = end === undefined ? [0, start] : [start, end];
  if (step === 0) refuse("arange: the step is 0");
  const count = Math.max(0, Math.ceil((to - from) / step));
  const type = dtype ?? ("f32" as D);
  // In a compiled function numbers are not read from memory but made where they are wanted.
  if (currentTrace() && [from, to, step].every(Number.isInteger))
    return tensorFrom(op("Range", [scalar(type, from), scalar(type, to), scalar(type, step)])) as Tensor<number[], D>; // of this type
  return holding(
    fromNumbers(
      type,
      [count],
      Float64Array.from({ length: count }, (_, i) => from + i * step),
    ),
  );
}

/** Ones on the diagonal. */
export function eye<D extends DType = "f32">(rows: number, columns = rows, dtype?: D): Tensor<[number, number], D> {
  const numbers = new Float64Array(rows * columns);
  for (let i = 0; i < Math.min(rows, columns); i++) numbers[i * columns + i] = 1;
  return holding(fromNumbers(dtype ?? "f32", [rows, columns], numbers));
}
