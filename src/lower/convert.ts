// Conversions between element types, on lanes.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { invariant } from "../ir/error.ts";
import type { KernelBuilder, Vec } from "../ir/kernel.ts";
import { laneKind } from "./storage.ts";

/** i32 lanes limited to the bits of an integer type, as C does. */
export function wrapInt(k: KernelBuilder, dtype: DType, v: Vec): Vec {
  const bits = 8 * DTYPES[dtype].bytes;
  if (bits >= 32) return v;
  if (DTYPES[dtype].kind === "uint") return k.op("and", v, k.i32(2 ** bits - 1));
  const shift = (op: "ishl" | "ishr", a: Vec) => k.op(op, a, undefined, undefined, undefined, 32 - bits);
  return shift("ishr", shift("ishl", v));
}

/** f32 lanes rounded to the nearest (even) value of a half type; NaN stays NaN. */
export function roundTo(k: KernelBuilder, dtype: "f16" | "bf16", v: Vec): Vec {
  const dropped = dtype === "bf16" ? 16 : 13;
  const odd = k.op("and", k.op("iushr", v, undefined, undefined, undefined, dropped), k.i32(1));
  const carried = k.op("iadd", k.op("iadd", v, odd), k.i32(2 ** (dropped - 1) - 1));
  const rounded = k.op("and", carried, k.i32(-(2 ** dropped)));
  if (dtype === "bf16") return k.op("select", v, rounded, k.op("isnan", v, v));
  const sign = k.op("and", v, k.i32(-0x80000000));
  const size = k.op("abs", v);
  // Below 2^-14 the last place is 2^-24, that of float32 numbers next to 0.75.
  const magic = k.f32(0.75);
  const tiny = k.op("or", k.op("sub", k.op("add", size, magic), magic), sign);
  const huge = k.op("or", k.f32(Number.POSITIVE_INFINITY), sign);
  const normal = k.op("select", tiny, rounded, k.op("lt", size, k.f32(2 ** -14)));
  const finite = k.op("select", huge, normal, k.op("le", k.f32(65520), size));
  return k.op("select", v, finite, k.op("isnan", v, v));
}

/** ¬mask. */
export const invert = (k: KernelBuilder, mask: Vec): Vec => k.op("xor", mask, k.i32(-1));

/** Value of type `from` as type `to`. Floats become integers by truncation. */
export function convert(k: KernelBuilder, to: DType, from: DType, v: Vec): Vec {
  const [target, source] = [laneKind(to), laneKind(from)];
  invariant(target && source, `cast from ${from} to ${to} in vector registers`);
  switch (target) {
    case "float": {
      const float = source === "float" ? v : source === "int" ? k.op("i2f", v) : k.op("and", v, k.f32(1));
      return to === "f32" || to === from || to === "f64" ? float : roundTo(k, to as "f16" | "bf16", float); // the floats that are left
    }
    case "int":
      if (source === "mask") return k.op("and", v, k.i32(1));
      return wrapInt(k, to, source === "float" ? k.op("f2i", v) : v);
    case "mask":
      if (source === "mask") return v;
      return source === "float" ? k.op("ne", v, k.f32(0)) : invert(k, k.op("ieq", v, k.i32(0)));
    default:
      return target satisfies never;
  }
}
