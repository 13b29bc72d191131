// Scalar functions and conversions of the table in ir/scalar.ts on the registers of a SIMT thread.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { invariant } from "../ir/error.ts";
import type { ScalarFn } from "../ir/scalar.ts";
import { bits, cast, float, fn, int, num, type Reg, type RegisterFn, type RegisterType, registerType, select } from "../ir/simt.ts";

type Rule = (a: Reg, b: Reg) => Reg;

const same: Rule = (a) => a;
const never: Rule = () => num("bool", 0);
const not = (a: Reg): Reg => fn("not", a);
const sign: Rule = (a) => select(fn("lt", a, 0), num(a.type, -1), select(fn("gt", a, 0), num(a.type, 1), a));

/** Sign of the dividend. */
const remainder: Rule = (a, b) => fn("sub", a, fn("mul", b, fn("trunc", fn("div", a, b))));
/** Sign of the divisor. */
const modulo =
  (rest: Rule): Rule =>
  (a, b) => {
    const r = rest(a, b);
    const differs = fn("and", fn("ne", r, 0), fn("ne", fn("lt", r, 0), fn("lt", b, 0)));
    return select(differs, fn("add", r, b), r);
  };

const FLOATS: Readonly<Partial<Record<ScalarFn, Rule>>> = {
  sign,
  fmod: remainder,
  mod: modulo(remainder),
  reciprocal: (a) => fn("div", float(1), a),
  sigmoid: (a) => fn("div", float(1), fn("add", fn("exp", fn("neg", a)), 1)),
};

/** Like unsigned integers: no overflow. */
const wrapping =
  (name: RegisterFn): Rule =>
  (a, b) =>
    bits(a.type, fn(name, bits("u32", a), bits("u32", b)));
/** 0 by 0. */
const safely =
  (name: RegisterFn): Rule =>
  (a, b) => {
    const isZero = fn("eq", b, 0);
    return select(isZero, num(a.type, 0), fn(name, a, select(isZero, num(a.type, 1), b)));
  };

const INTS: Readonly<Partial<Record<ScalarFn, Rule>>> = {
  add: wrapping("add"),
  sub: wrapping("sub"),
  mul: wrapping("mul"),
  div: safely("div"),
  fmod: safely("rem"),
  mod: modulo(safely("rem")),
  sign,
  floor: same,
  ceil: same,
  round: same,
  trunc: same,
  isnan: never,
  isinf: never,
  bitand: (a, b) => fn("and", a, b),
  bitor: (a, b) => fn("or", a, b),
  bitxor: (a, b) => fn("xor", a, b),
  bitnot: not,
  shl: (a, b) => select(fn("gt", b, 31), num(a.type, 0), fn("shl", a, fn("min", b, 31))),
  shr: (a, b) => fn("shr", a, fn("min", b, 31)),
};

const BOOLS: Readonly<Partial<Record<ScalarFn, Rule>>> = {
  and: (a, b) => fn("and", a, b),
  or: (a, b) => fn("or", a, b),
  xor: (a, b) => fn("xor", a, b),
  not,
  ne: (a, b) => fn("xor", a, b),
  eq: (a, b) => not(fn("xor", a, b)),
  max: (a, b) => fn("or", a, b),
  min: (a, b) => fn("and", a, b),
  lt: (a, b) => fn("and", not(a), b),
  gt: (a, b) => fn("and", a, not(b)),
  le: (a, b) => fn("or", not(a), b),
  ge: (a, b) => fn("or", a, not(b)),
};

const RULES: Readonly<Record<RegisterType, typeof FLOATS>> = { f32: FLOATS, i32: INTS, u32: INTS, bool: BOOLS };
const TRUTH: ReadonlySet<ScalarFn> = new Set(["and", "or", "xor", "not"]);

/** fn of values of type `dtype`; the same for all that `canLower` admits. */
export function scalarFn(name: ScalarFn, dtype: DType, args: readonly Reg[]): Reg {
  if (TRUTH.has(name)) {
    const [a, b] = args.map((x) => cast("bool", x));
    return BOOLS[name]!(a, b ?? a); // the table has all four
  }
  const [a, b] = args;
  const rule = RULES[a.type][name];
  const result = rule ? rule(a, b ?? a) : fn(name as RegisterFn, a, ...args.slice(1)); // names without a rule are functions of registers
  return result.type === "i32" && a.type === "i32" ? wrapped(dtype, result) : result;
}

/** An integer limited to the bits of its type, as C does. */
function wrapped(dtype: DType, a: Reg): Reg {
  const width = 8 * DTYPES[dtype].bytes;
  if (width >= 32 || DTYPES[dtype].kind === "float" || dtype === "bool") return a;
  if (DTYPES[dtype].kind === "uint") return fn("and", a, 2 ** width - 1);
  return fn("shr", fn("shl", a, 32 - width), 32 - width);
}

/** A float32 rounded to the nearest (even) value of a half type; NaN stays NaN. */
function rounded(dtype: "f16" | "bf16", a: Reg): Reg {
  const dropped = dtype === "bf16" ? 16 : 13;
  const word = bits("u32", a);
  const odd = fn("and", fn("shr", word, dropped), 1);
  const near = bits("f32", fn("and", fn("add", fn("add", word, odd), 2 ** (dropped - 1) - 1), 2 ** 32 - 2 ** dropped));
  if (dtype === "bf16") return select(fn("isnan", a), a, near);
  const size = fn("abs", a);
  const isNegative = fn("lt", a, 0);
  const signed = (x: Reg): Reg => select(isNegative, fn("neg", x), x);
  // Below 2^-14 the last place is 2^-24.
  const tiny = signed(fn("mul", fn("round", fn("mul", size, 2 ** 24)), 2 ** -24));
  const finite = select(fn("lt", size, 2 ** -14), tiny, near);
  const all = select(fn("ge", size, 65520), signed(float(Number.POSITIVE_INFINITY)), finite);
  return select(fn("isnan", a), a, all);
}

/** Value of type `from` as type `to`. Floats become integers by truncation. */
export function convertRegister(to: DType, from: DType, a: Reg): Reg {
  const type = registerType(to);
  invariant(type, `cast from ${from} to ${to} in registers`);
  const value = cast(type, a);
  if (type === "i32" && from !== "bool") return wrapped(to, value);
  return (to === "f16" || to === "bf16") && from !== to ? rounded(to, value) : value;
}

/** Start and step of a reduction. */
export function combination(combine: "add" | "mul" | "max" | "min", type: RegisterType): { readonly start: Reg; readonly join: Rule } {
  if (type === "bool")
    return combine === "max" || combine === "add"
      ? { start: num("bool", 0), join: (a, b) => fn("or", a, b) }
      : { start: num("bool", 1), join: (a, b) => fn("and", a, b) };
  const isFloat = type === "f32";
  const largest = isFloat ? float(Number.POSITIVE_INFINITY) : int(2 ** 31 - 1);
  const smallest = isFloat ? float(Number.NEGATIVE_INFINITY) : int(-(2 ** 31));
  const starts = { add: num(type, 0), mul: num(type, 1), max: smallest, min: largest };
  return { start: starts[combine], join: (a, b) => fn(combine, a, b) };
}
