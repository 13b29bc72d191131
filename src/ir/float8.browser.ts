// Floats of 8 bits are not for browsers: they have no such types. Functions that do nothing, or give what they are given, are left out of bundles.
import type { DType, PlainDType } from "./dtype.ts";
import type { TensorData } from "./tensor.ts";

export const FLOAT8_TYPES: readonly DType[] = [];
export function isFloat8(_: DType): void {}
export function asMoved(t: PlainDType): PlainDType {
  return t;
}
export function asCodes(t: TensorData): TensorData {
  return t;
}
export function float8Rows(): void {}
export function float8ToNumber(): void {}
export function numberToFloat8(): void {}
