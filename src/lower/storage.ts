// Element types in memory and in vector registers: floats as f32 lanes, integers as i32 lanes, booleans as masks.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { invariant } from "../ir/error.ts";
import { asMoved } from "../ir/float8.ts";
import type { Int, KernelBuilder, Vec } from "../ir/kernel.ts";
import type { MemoryType } from "../ir/kernel_ops.ts";

/** What a lane holds. Narrow integers are kept sign- or zero-extended; of i64 only values that fit 32 bits. */
export type LaneKind = "float" | "int" | "mask";

/** undefined: no vector register holds it (f64, u32, u64). */
export function laneKind(dtype: DType): LaneKind | undefined {
  const moved = asMoved(dtype);
  switch (moved) {
    case "f32":
    case "f16":
    case "bf16":
      return "float";
    case "i8":
    case "u8":
    case "i16":
    case "u16":
    case "i32":
    case "i64":
      return "int";
    case "bool":
      return "mask";
    case "f64":
    case "u32":
    case "u64":
      return undefined;
    default:
      return moved satisfies never;
  }
}

/** Type in memory of a dtype that lanes hold. */
export function memoryType(dtype: DType): MemoryType {
  const moved = asMoved(dtype);
  if (moved === "bool") return "u8";
  invariant(moved !== "f64" && moved !== "u32" && moved !== "u64", `${dtype} is not for vector registers`);
  return moved;
}

/** Lanes as they were loaded to lanes as they are computed with. */
export const fromMemory = (k: KernelBuilder, dtype: DType, v: Vec): Vec => (dtype === "bool" ? k.op("ilt", k.i32(0), v) : v);

/** Stores `lanes` computed values at byte offset `at`: masks become 0 or 1, half floats are rounded. */
export function storeValue(k: KernelBuilder, dtype: DType, value: Vec, buffer: number, at: Int, lanes: number): void {
  k.store(dtype === "bool" ? k.op("and", value, k.i32(1)) : value, buffer, at, lanes, memoryType(dtype));
}

/** Inclusive interval of an integer or boolean type. */
export function typeRange(dtype: DType): readonly [number, number] {
  const { kind, bytes } = DTYPES[dtype];
  if (kind === "bool") return [0, 1];
  return kind === "uint" ? [0, 2 ** (8 * bytes) - 1] : [-(2 ** (8 * bytes - 1)), 2 ** (8 * bytes - 1) - 1];
}
