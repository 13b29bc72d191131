// Host tensors: a typed array with a shape, and element access as float64 or bigint whatever the dtype.
import { DTYPES, type DType, type TypedArray } from "./dtype.ts";
import { HeddleError } from "./error.ts";
import { float8ToNumber, isFloat8, numberToFloat8 } from "./float8.ts";
import { bf16ToNumber, halfToNumber, numberToBf16, numberToHalf } from "./small_floats.ts";

export type Shape = readonly number[];

/** A dense row-major tensor in host memory. */
export interface TensorData {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly data: TypedArray;
}

export function elementCount(shape: Shape): number {
  let count = 1;
  for (let i = 0; i < shape.length; i++) count *= shape[i];
  return count;
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i];
  }
  return strides;
}

/** A zeroed tensor. */
export function zeros(dtype: DType, shape: Shape): TensorData {
  return { dtype, shape, data: new DTYPES[dtype].array(elementCount(shape)) };
}

/** Where the elements of tensors lie that were made by unalignedTensor. */
const storage = new WeakMap<TensorData, Uint8Array>();

/** A tensor whose elements are the little-endian `bytes`, which are not aligned for its type: they are copied when `data` is first asked for. */
export function unalignedTensor(dtype: DType, shape: Shape, bytes: Uint8Array): TensorData {
  let copy: TypedArray | undefined;
  const tensor: TensorData = {
    dtype,
    shape,
    get data() {
      copy ??= new DTYPES[dtype].array(new Uint8Array(bytes).buffer); // not slice(): a Buffer's shares memory
      return copy;
    },
  };
  storage.set(tensor, bytes);
  return tensor;
}

/** The bytes of a tensor's elements, whatever their alignment; never a copy. */
export const bytesOf = (tensor: TensorData): Uint8Array => {
  const { buffer, byteOffset, byteLength } = storage.get(tensor) ?? tensor.data;
  return new Uint8Array(buffer, byteOffset, byteLength);
};

/** The same object for tensors that share their elements. */
export const elementsOf = (tensor: TensorData): object => storage.get(tensor) ?? tensor.data;

/** All elements as float64 (64-bit integers beyond 2^53 lose precision). */
export function toNumbers({ dtype, data }: TensorData): Float64Array {
  if (!isRaw(dtype)) return new Float64Array(data as Float32Array); // all arrays of numbers convert alike, in native code
  const out = new Float64Array(data.length);
  if (dtype === "f16") for (let i = 0; i < out.length; i++) out[i] = halfToNumber(data[i] as number);
  else if (dtype === "bf16") for (let i = 0; i < out.length; i++) out[i] = bf16ToNumber(data[i] as number);
  else if (isFloat8(dtype)) {
    const numbers = Float64Array.from({ length: 256 }, (_, code) => float8ToNumber(dtype, code));
    for (let i = 0; i < out.length; i++) out[i] = numbers[data[i] as number];
  } else for (let i = 0; i < out.length; i++) out[i] = Number(data[i]);
  return out;
}

/** One element as float64. */
export function toNumber({ dtype, data }: TensorData, i: number): number {
  return toNumbers({ dtype, shape: [1], data: data.subarray(i, i + 1) })[0];
}

/** Stored as something else than numbers of the same value. */
const isRaw = (dtype: DType): boolean => dtype === "f16" || dtype === "bf16" || dtype === "i64" || dtype === "u64" || isFloat8(dtype);

/** A tensor of `dtype` from float64 values, converted as C does: floats rounded (float8: too large ones are infinity or NaN), integers truncated and wrapped, bool is x ≠ 0. */
export function fromNumbers(dtype: DType, shape: Shape, values: ArrayLike<number>): TensorData {
  const n = elementCount(shape);
  if (values.length !== n) throw new HeddleError("bad-input", `tensor: shape (${shape}) wants ${n} values, got ${values.length}`);
  if (dtype === "f32") return { dtype, shape, data: new Float32Array(values) }; // in native code
  const out = new DTYPES[dtype].array(n);
  if (dtype === "f16") for (let i = 0; i < n; i++) out[i] = numberToHalf(values[i]);
  else if (dtype === "bf16") for (let i = 0; i < n; i++) out[i] = numberToBf16(values[i]);
  else if (isFloat8(dtype)) for (let i = 0; i < n; i++) out[i] = numberToFloat8(dtype, values[i]);
  else if (dtype === "bool") for (let i = 0; i < n; i++) out[i] = values[i] !== 0 ? 1 : 0;
  else if (dtype === "i64" || dtype === "u64") for (let i = 0; i < n; i++) out[i] = toBigInt(values[i]);
  else for (let i = 0; i < n; i++) out[i] = values[i];
  return { dtype, shape, data: out };
}

function toBigInt(x: number): bigint {
  if (Number.isNaN(x)) return 0n;
  if (x >= 2 ** 63) return 2n ** 63n - 1n;
  if (x <= -(2 ** 63)) return -(2n ** 63n);
  return BigInt(Math.trunc(x));
}
