// Floats of 8 bits: a sign, an exponent, a fraction; what their codes stand for, and the code nearest to a number.
import type { DType, Float8, PlainDType } from "./dtype.ts";
import { nearestCode, sizeOfCode } from "./small_floats.ts";
import type { TensorData } from "./tensor.ts";

export function isFloat8(t: DType): t is Float8 {
  return t.startsWith("f8");
}
/** What elements are moved as: float8 numbers as their codes. */
export function asMoved(t: DType): PlainDType {
  return isFloat8(t) ? "u8" : t;
}
/** A tensor as what expressions read of it. */
export function asCodes(t: TensorData): TensorData {
  return isFloat8(t.dtype) ? { ...t, dtype: "u8" } : t;
}
/** A row for each type, from its ONNX TensorProto.DataType. */
export function float8Rows<R>(row: (onnx: number) => R): Record<Float8, R> {
  return { f8e4m3fn: row(17), f8e4m3fnuz: row(18), f8e5m2: row(19), f8e5m2fnuz: row(20) };
}

export interface Float8Format {
  /** Bits of the fraction. */
  readonly fraction: number;
  /** Of the exponent. */
  readonly bias: number;
  /** Code of the largest finite number. */
  readonly largest: number;
  /** Code of infinity, where there is one. */
  readonly infinity?: number;
  /** The only one, or the one that conversions give. Where it is 128 there is no negative zero. */
  readonly nan: number;
}

export const FLOAT8: Readonly<Record<Float8, Float8Format>> = {
  f8e4m3fn: { fraction: 3, bias: 7, largest: 126, nan: 127 },
  f8e4m3fnuz: { fraction: 3, bias: 8, largest: 127, nan: 128 },
  f8e5m2: { fraction: 2, bias: 15, largest: 123, infinity: 124, nan: 127 },
  f8e5m2fnuz: { fraction: 2, bias: 16, largest: 127, nan: 128 },
};

export const FLOAT8_TYPES = Object.keys(FLOAT8) as Float8[];

/** What sets a code's sign. */
export const SIGN = 128;

export function float8ToNumber(dtype: Float8, code: number): number {
  const format = FLOAT8[dtype];
  const size = code % SIGN;
  if (code === format.nan || (size > format.largest && size !== format.infinity)) return Number.NaN;
  return (code < SIGN ? 1 : -1) * (size === format.infinity ? Number.POSITIVE_INFINITY : sizeOfCode(size, format.fraction, format.bias));
}

/** To nearest, halves to even codes. Without `saturate` numbers that are too large become infinity, or NaN where there is none. */
export function numberToFloat8(dtype: Float8, x: number, saturate = false): number {
  const format = FLOAT8[dtype];
  const { largest, nan, infinity = nan } = format;
  const hasMinusZero = nan !== SIGN;
  if (Number.isNaN(x) || (Math.abs(x) === Number.POSITIVE_INFINITY && !hasMinusZero)) return nan;
  const sign = x < 0 || Object.is(x, -0) ? SIGN : 0;
  const code = nearestCode(Math.abs(x), format.fraction, format.bias);
  if (code > largest && !saturate) return hasMinusZero ? sign + infinity : nan;
  return code === 0 && !hasMinusZero ? 0 : sign + Math.min(code, largest);
}
