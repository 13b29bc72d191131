// Scalar functions on integer and boolean lanes.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import type { KernelBuilder, Vec } from "../ir/kernel.ts";
import type { ScalarFn } from "../ir/scalar.ts";
import { invert, wrapInt } from "./convert.ts";

/** Integers up to here are exact as float32, and so are their truncated quotients. */
export const EXACT_FLOAT = 2 ** 24;

type IntFn = (k: KernelBuilder, a: Vec, b: Vec, dtype: DType) => Vec;

/** 2^b for b in [0, 31], as an integer. */
function powerOfTwo(k: KernelBuilder, b: Vec): Vec {
  const exponent = k.op("iadd", b, k.i32(127));
  return k.op("f2i", k.op("ishl", exponent, undefined, undefined, undefined, 23));
}
const isZero = (k: KernelBuilder, a: Vec): Vec => k.op("ieq", a, k.i32(0));
const none = (k: KernelBuilder): Vec => k.i32(0);

/** Truncated quotient; 0 by 0. */
function quotient(k: KernelBuilder, a: Vec, b: Vec): Vec {
  const q = k.op("f2i", k.op("div", k.op("i2f", a), k.op("i2f", b)));
  return k.op("andnot", isZero(k, b), q);
}
/** Sign of the dividend. */
function remainder(k: KernelBuilder, a: Vec, b: Vec): Vec {
  return k.op("andnot", isZero(k, b), k.op("isub", a, k.op("imul", quotient(k, a, b), b)));
}
/** Sign of the divisor. */
function modulo(k: KernelBuilder, a: Vec, b: Vec): Vec {
  const r = remainder(k, a, b);
  const differs = k.op("andnot", isZero(k, r), k.op("ilt", k.op("xor", r, b), none(k)));
  return k.op("iadd", r, k.op("and", differs, b));
}

const shiftLeft: IntFn = (k, a, b, dtype) => {
  const isWide = k.op("ilt", k.i32(8 * DTYPES[dtype].bytes - 1), b);
  return k.op("andnot", isWide, k.op("imul", a, powerOfTwo(k, b)));
};
/** a / 2^b rounded down, of numbers exact as float32. */
const shiftRight: IntFn = (k, a, b) => {
  const small = k.op("imin", b, k.i32(31));
  const scale = k.op("ishl", k.op("isub", k.i32(127), small), undefined, undefined, undefined, 23);
  return k.op("f2i", k.op("floor", k.op("mul", k.op("i2f", a), scale)));
};
const sign: IntFn = (k, a) => k.op("isub", k.op("ilt", a, none(k)), k.op("ilt", none(k), a));
const same: IntFn = (_, a) => a;
const never: IntFn = (k) => none(k);

/** exact: any operands · small: operands exact as float32 · the result is wrapped to the type, or is a mask. */
interface IntRow {
  readonly fn: IntFn;
  readonly operands: "exact" | "small";
  readonly result: "wrapped" | "plain";
}
const row = (fn: IntFn, operands: IntRow["operands"] = "exact", result: IntRow["result"] = "wrapped"): IntRow => ({ fn, operands, result });
const mask = (fn: IntFn): IntRow => row(fn, "exact", "plain");

const INTS: Readonly<Partial<Record<ScalarFn, IntRow>>> = {
  add: row((k, a, b) => k.op("iadd", a, b)), sub: row((k, a, b) => k.op("isub", a, b)), mul: row((k, a, b) => k.op("imul", a, b)),
  div: row(quotient, "small"), fmod: row(remainder, "small"), mod: row(modulo, "small"),
  min: row((k, a, b) => k.op("imin", a, b)), max: row((k, a, b) => k.op("imax", a, b)),
  neg: row((k, a) => k.op("isub", none(k), a)), abs: row((k, a) => k.op("imax", a, k.op("isub", none(k), a))), sign: row(sign),
  floor: row(same), ceil: row(same), round: row(same), trunc: row(same), isnan: mask(never), isinf: mask(never),
  eq: mask((k, a, b) => k.op("ieq", a, b)), ne: mask((k, a, b) => invert(k, k.op("ieq", a, b))),
  lt: mask((k, a, b) => k.op("ilt", a, b)), gt: mask((k, a, b) => k.op("ilt", b, a)),
  le: mask((k, a, b) => invert(k, k.op("ilt", b, a))), ge: mask((k, a, b) => invert(k, k.op("ilt", a, b))),
  bitand: row((k, a, b) => k.op("and", a, b)), bitor: row((k, a, b) => k.op("or", a, b)), bitxor: row((k, a, b) => k.op("xor", a, b)),
  bitnot: row(invert), shl: row(shiftLeft), shr: row(shiftRight, "small"),
}; // biome-ignore format: a table

const MASKS: Readonly<Partial<Record<ScalarFn, (k: KernelBuilder, a: Vec, b: Vec) => Vec>>> = {
  and: (k, a, b) => k.op("and", a, b), or: (k, a, b) => k.op("or", a, b), xor: (k, a, b) => k.op("xor", a, b), not: invert,
  ne: (k, a, b) => k.op("xor", a, b), eq: (k, a, b) => invert(k, k.op("xor", a, b)),
  max: (k, a, b) => k.op("or", a, b), min: (k, a, b) => k.op("and", a, b),
  lt: (k, a, b) => k.op("andnot", a, b), gt: (k, a, b) => k.op("andnot", b, a),
  le: (k, a, b) => k.op("or", invert(k, a), b), ge: (k, a, b) => k.op("or", a, invert(k, b)),
}; // biome-ignore format: a table

/** Whether fn has code for integers: for any, or only where all operands are exact as float32. */
export const intOperands = (fn: ScalarFn): "exact" | "small" | undefined => INTS[fn]?.operands;
export const hasMaskFn = (fn: ScalarFn): boolean => MASKS[fn] !== undefined;

/** fn of integers of type `dtype`. */
export function intFn(k: KernelBuilder, fn: ScalarFn, dtype: DType, a: Vec, b: Vec = a): Vec {
  const entry = INTS[fn];
  if (!entry) throw new HeddleError("verify", `internal: ${fn} of ${dtype} has no vector code`);
  const value = entry.fn(k, a, b, dtype);
  return entry.result === "wrapped" ? wrapInt(k, dtype, value) : value;
}

/** fn of booleans. */
export function maskFn(k: KernelBuilder, fn: ScalarFn, a: Vec, b: Vec = a): Vec {
  const entry = MASKS[fn];
  if (!entry) throw new HeddleError("verify", `internal: ${fn} of booleans has no vector code`);
  return entry(k, a, b);
}
