// Element types: ONNX's set, their size, and the typed array that holds them on the host.
import { float8Rows } from "./float8.ts";

/** Types with arithmetic, or that are numbers as they are stored. */
export type PlainDType = "f32" | "f64" | "f16" | "bf16" | "i8" | "u8" | "i16" | "u16" | "i32" | "u32" | "i64" | "u64" | "bool";
/** Floats of 8 bits: only conversions know their numbers (ir/float8.ts), all else moves their codes. */
export type Float8 = "f8e4m3fn" | "f8e4m3fnuz" | "f8e5m2" | "f8e5m2fnuz";
export type DType = PlainDType | Float8;

export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

interface TypedArrayConstructor {
  new (length: number): TypedArray;
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): TypedArray;
  readonly BYTES_PER_ELEMENT: number;
}

export interface DTypeInfo {
  readonly bytes: number;
  readonly kind: "float" | "int" | "uint" | "bool";
  /** Host storage; f16 and bf16 are raw bits in a Uint16Array, float8 numbers codes in a Uint8Array, bool is 0 or 1 in one. */
  readonly array: TypedArrayConstructor;
  /** ONNX TensorProto.DataType. */
  readonly onnx: number;
}

const row = (bytes: number, kind: DTypeInfo["kind"], array: unknown, onnx: number): DTypeInfo => ({
  bytes,
  kind,
  array: array as TypedArrayConstructor, // TypeScript cannot unify the overloads of all constructors
  onnx,
});

export const DTYPES: Readonly<Record<DType, DTypeInfo>> = {
  f32: row(4, "float", Float32Array, 1),
  u8: row(1, "uint", Uint8Array, 2),
  i8: row(1, "int", Int8Array, 3),
  u16: row(2, "uint", Uint16Array, 4),
  i16: row(2, "int", Int16Array, 5),
  i32: row(4, "int", Int32Array, 6),
  i64: row(8, "int", BigInt64Array, 7),
  bool: row(1, "bool", Uint8Array, 9),
  f16: row(2, "float", Uint16Array, 10),
  f64: row(8, "float", Float64Array, 11),
  u32: row(4, "uint", Uint32Array, 12),
  u64: row(8, "uint", BigUint64Array, 13),
  bf16: row(2, "float", Uint16Array, 16),
  ...float8Rows((onnx) => row(1, "uint", Uint8Array, onnx)),
};

export const isFloat = (t: DType): boolean => DTYPES[t].kind === "float";
/** ONNX TensorProto.DataType number → dtype, or undefined where heddle has none (string, complex, 4 bits). */
export const dtypeFromOnnx = (code: number): DType | undefined => (Object.keys(DTYPES) as DType[]).find((t) => DTYPES[t].onnx === code);
