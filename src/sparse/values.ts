// Element types of sparse matrices and what holds their values: stored nonzeros in the order of the format.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { fromNumbers, toNumbers } from "../ir/tensor.ts";

/** int8 values are whole numbers; a scale belongs to whoever quantized. */
export type ValueType = "f32" | "f64" | "f16" | "bf16" | "i8";
/** f16 and bf16 are raw bits in a Uint16Array, as in dense tensors. */
export type Values = Float32Array | Float64Array | Uint16Array | Int8Array;

const VALUE_TYPES: readonly string[] = ["f32", "f64", "f16", "bf16", "i8"] satisfies ValueType[];

/** Throws HeddleError ("unsupported") on types that sparse matrices do not have. */
export function asValueType(dtype: DType, what: string): ValueType {
  if (!VALUE_TYPES.includes(dtype))
    throw new HeddleError("unsupported", `${what}: sparse matrices of ${dtype} (supported: ${VALUE_TYPES})`);
  return dtype as ValueType; // is one of them
}

/** Zeroed. */
export const newValues = (dtype: ValueType, length: number): Values => new DTYPES[dtype].array(length) as Values; // as DTYPES has it

/** As float64. */
export const valuesToNumbers = (dtype: ValueType, values: Values): Float64Array =>
  toNumbers({ dtype, shape: [values.length], data: values });

/** Rounded to `dtype`. */
export const valuesFromNumbers = (dtype: ValueType, numbers: ArrayLike<number>): Values =>
  fromNumbers(dtype, [numbers.length], numbers).data as Values; // as newValues

/** What remains of an element's bits when its sign is dropped: 0 where the element is 0 or -0. */
export const isZero = (dtype: ValueType, stored: number): boolean =>
  dtype === "f16" || dtype === "bf16" ? (stored & 0x7fff) === 0 : stored === 0;

/** `values[order[0]], values[order[1]], …` */
export function takeValues(dtype: ValueType, values: Values, order: Uint32Array): Values {
  const out = newValues(dtype, order.length);
  for (let i = 0; i < order.length; i++) out[i] = values[order[i]];
  return out;
}
