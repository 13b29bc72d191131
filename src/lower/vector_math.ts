// Scalar functions on float32 lanes: polynomials over the operations of the kernel language, with their error in units of the last place.
import type { KernelBuilder, Vec } from "../ir/kernel.ts";
import type { VecOp } from "../ir/kernel_ops.ts";
import type { ScalarFn } from "../ir/scalar.ts";

/**
 * Largest error in ULP of the float32 result, over the range given (all finite arguments where none is), on targets with fused multiply-add.
 * Functions that are one correctly rounded instruction are not listed. Results below 2^-126 may be 0.
 */
export const VECTOR_MATH_ULP: Readonly<Partial<Record<ScalarFn, { readonly ulp: number; readonly range?: readonly [number, number] }>>> = {
  exp: { ulp: 1.5 },
  log: { ulp: 2 },
  sigmoid: { ulp: 3 },
  tanh: { ulp: 3.5 },
  erf: { ulp: 4 },
  sin: { ulp: 2, range: [-1e4, 1e4] },
  cos: { ulp: 2, range: [-1e4, 1e4] },
  tan: { ulp: 4, range: [-1e4, 1e4] },
  asin: { ulp: 3 },
  acos: { ulp: 3 },
  atan: { ulp: 3.5 },
  sinh: { ulp: 4, range: [-88, 88] },
  cosh: { ulp: 3, range: [-88, 88] },
  asinh: { ulp: 5 },
  acosh: { ulp: 5 },
  atanh: { ulp: 5 },
  /** Grows with the exponent, as the error of the logarithm is multiplied by it: this is for |b| ≤ 4. */
  pow: { ulp: 8 },
};

// Coefficients are minimax fits (linear programming on a Chebyshev grid), rounded to float32 one after the other, each time refitting the rest.
const LOG2E = Math.LOG2E;
/** Few bits, so that multiples by the exponent are exact. */
const LN2_HI = 0.693359375;
const LN2_LO = Math.LN2 - LN2_HI;
/** (eʳ − 1 − r) / r² for |r| ≤ ln 2 / 2. */
const EXP = [0.49999988079071045, 0.1666656881570816, 0.04166938364505768, 0.008364182896912098, 0.0013767817290499806];
/** (log(1+f) − f + f²/2) / f³ for √½ ≤ 1+f ≤ √2. */
const LOG = [
  0.333333283662796, -0.2500082850456238, 0.20001542568206787, -0.16623619198799133, 0.14195990562438965, -0.1315126121044159,
  0.12790900468826294, -0.07690113037824631,
]; // biome-ignore format: a table
/** 2·atanh(erf(x)) / x in x², for |x| ≤ 3.95: smooth, where erf itself would need a long polynomial. */
const ERF = [
  2.256758451461792, 0.2055402547121048, -0.00039236736483871937, -0.0012269312283024192, 0.0001669796765781939, -8.626265298516955e-6,
  -1.6539434000151232e-7, 3.530907832782759e-8, -1.0155859486715713e-9,
]; // biome-ignore format: a table
/** (sin(r) − r) / r³ and (cos(r) − 1 + r²/2) / r⁴ in r², for |r| ≤ π/4. */
const SIN = [-0.16666649281978607, 0.00833182968199253, -0.0001947165874298662];
const COS = [0.0416666679084301, -0.0013888247776776552, 2.4527047571609728e-5];
/** π/2 in three parts of 24 bits. */
const HALF_PI = [1.5707963705062866, -4.371139000186243e-8, -1.7151245100058819e-15];
/** (asin(t) − t) / t³ in t², for |t| ≤ ½. */
const ASIN = [0.1666676551103592, 0.07494726032018661, 0.04554686322808266, 0.023781757801771164, 0.04287141561508179];
/** (atan(t) − t) / t³ in t², for |t| ≤ 1. */
const ATAN = [
  -0.33333122730255127, 0.19992798566818237, -0.14201119542121887, 0.10620538145303726, -0.07445172965526581, 0.041865140199661255,
  -0.015507792122662067, 0.0027016245294362307,
]; // biome-ignore format: a table

const MIN_NORMAL = 2 ** -126;
/** Beyond these eˣ is infinite, or below the smallest normal number. */
const EXP_HIGH = 88.72283;
const EXP_LOW = -87.33654;

/** One-letter shorthands make the formulas below readable. */
class Lanes {
  constructor(readonly k: KernelBuilder) {}
  f = (value: number): Vec => this.k.f32(value);
  i = (value: number): Vec => this.k.i32(value);
  op = (op: VecOp, a: Vec, b?: Vec, c?: Vec): Vec => this.k.op(op, a, b, c);
  shift = (op: "ishl" | "ishr" | "iushr", a: Vec, by: number): Vec => this.k.op(op, a, undefined, undefined, undefined, by);
  add = (a: Vec, b: Vec | number): Vec => this.op("add", a, this.v(b));
  sub = (a: Vec | number, b: Vec): Vec => this.op("sub", this.v(a), b);
  mul = (a: Vec, b: Vec | number): Vec => this.op("mul", a, this.v(b));
  div = (a: Vec | number, b: Vec): Vec => this.op("div", this.v(a), b);
  fma = (a: Vec, b: Vec | number, c: Vec | number): Vec => this.op("fma", a, this.v(b), this.v(c));
  fnma = (a: Vec, b: Vec | number, c: Vec): Vec => this.op("fnma", a, this.v(b), c);
  /** NaN in x stays NaN. */
  atLeast = (lo: number, x: Vec): Vec => this.op("max", this.f(lo), x);
  atMost = (hi: number, x: Vec): Vec => this.op("min", this.f(hi), x);
  less = (a: Vec | number, b: Vec | number): Vec => this.op("lt", this.v(a), this.v(b));
  select = (mask: Vec, a: Vec | number, b: Vec | number): Vec => this.op("select", this.v(a), this.v(b), mask);
  abs = (a: Vec): Vec => this.op("abs", a);
  /** |a| (a ≥ 0) with the sign of `sign`. */
  signed = (a: Vec, sign: Vec): Vec => this.op("or", a, this.op("and", sign, this.i(-0x80000000)));
  /** Σ c[i]·xⁱ. */
  poly(x: Vec, c: readonly number[]): Vec {
    let sum = this.f(c[c.length - 1]);
    for (let i = c.length - 2; i >= 0; i--) sum = this.fma(sum, x, c[i]);
    return sum;
  }
  private v(a: Vec | number): Vec {
    return typeof a === "number" ? this.f(a) : a;
  }
}

/** x = n·ln 2 + r. */
function splitExponent(l: Lanes, x: Vec): { n: Vec; r: Vec } {
  const n = l.op("f2iround", l.mul(x, LOG2E));
  const f = l.op("i2f", n);
  return { n, r: l.fnma(f, LN2_LO, l.fnma(f, LN2_HI, x)) };
}

/** eˣ where x is in range; elsewhere anything, but NaN for NaN. */
function expInRange(l: Lanes, x: Vec): Vec {
  const { n, r } = splitExponent(l, x);
  return l.op("iadd", l.poly(r, [1, 1, ...EXP]), l.shift("ishl", n, 23));
}

function exp(l: Lanes, x: Vec): Vec {
  const y = expInRange(l, x);
  return l.select(l.less(x, EXP_LOW), 0, l.select(l.less(EXP_HIGH, x), Number.POSITIVE_INFINITY, y));
}

/** eˣ − 1 for x in [-80, 88]: exact near 0. */
function expm1InRange(l: Lanes, x: Vec): Vec {
  const { n, r } = splitExponent(l, x);
  const scale = l.op("iadd", l.shift("ishl", n, 23), l.i(0x3f800000));
  const part = l.fma(l.mul(r, r), l.poly(r, EXP), r);
  return l.fma(scale, part, l.add(scale, -1));
}

/** tanh(t/2) for |t| ≤ 18.5, beyond which it is ±1. */
function tanhOfHalf(l: Lanes, t: Vec): Vec {
  const e = expm1InRange(l, t);
  return l.div(e, l.add(e, 2));
}
const tanh = (l: Lanes, x: Vec): Vec => tanhOfHalf(l, l.atMost(18.5, l.atLeast(-18.5, l.add(x, x))));

function erf(l: Lanes, x: Vec): Vec {
  const near = l.atMost(3.95, l.atLeast(-3.95, x));
  return tanhOfHalf(l, l.mul(near, l.poly(l.mul(near, near), ERF)));
}

function sigmoid(l: Lanes, x: Vec): Vec {
  const t = l.atLeast(EXP_LOW, l.op("neg", x));
  const e = l.select(l.less(EXP_HIGH, t), Number.POSITIVE_INFINITY, expInRange(l, t));
  return l.div(1, l.add(e, 1));
}

/** x = 2ᵉ·m with m in [√½, √2), for positive x; m − 1 and e, both as floats. */
function splitMantissa(l: Lanes, x: Vec): { f: Vec; e: Vec } {
  const isSmall = l.less(x, MIN_NORMAL);
  const normal = l.select(isSmall, l.mul(x, 2 ** 23), x);
  const e = l.shift("ishr", l.op("isub", normal, l.i(0x3f3504f3)), 23);
  const m = l.op("isub", normal, l.shift("ishl", e, 23));
  const exponent = l.op("i2f", e);
  return { f: l.add(m, -1), e: l.select(isSmall, l.add(exponent, -23), exponent) };
}

/** log(1+f) − f. */
function logTail(l: Lanes, f: Vec): Vec {
  const square = l.mul(f, f);
  return l.fma(l.mul(square, f), l.poly(f, LOG), l.mul(square, -0.5));
}

function log(l: Lanes, x: Vec): Vec {
  const { f, e } = splitMantissa(l, x);
  const low = l.fma(e, LN2_LO, logTail(l, f));
  const y = l.fma(e, LN2_HI, l.add(f, low));
  return logEdges(l, x, y);
}

/** log's value where it is not y: -∞ at 0, +∞ at +∞, NaN below 0 and at NaN. */
function logEdges(l: Lanes, x: Vec, y: Vec): Vec {
  const isRegular = l.op("and", l.less(0, x), l.less(x, Number.POSITIVE_INFINITY));
  const edge = l.select(l.less(0, x), x, Number.NaN);
  return l.select(isRegular, y, l.select(l.op("eq", x, l.f(0)), Number.NEGATIVE_INFINITY, edge));
}

/** log(1+u): the rounding of 1+u is made good by u / ((1+u) − 1) (Kahan). */
function log1p(l: Lanes, u: Vec): Vec {
  const w = l.add(u, 1);
  const rounded = l.add(w, -1);
  const y = l.mul(log(l, w), l.div(u, rounded));
  const exact = l.op("or", l.op("eq", rounded, l.f(0)), l.op("eq", w, l.f(Number.POSITIVE_INFINITY)));
  return l.select(exact, u, y);
}

/** Quadrant and remainder modulo π/2 (Cody and Waite). NaN for infinities; beyond 1e4 less and less exact. */
function splitAngle(l: Lanes, x: Vec): { n: Vec; r: Vec } {
  const n = l.op("f2iround", l.mul(x, 2 / Math.PI));
  const f = l.op("i2f", n);
  const r = HALF_PI.reduce((rest, part) => l.fnma(f, part, rest), x);
  // Where the quadrant has no meaning any more, any angle will do.
  return { n, r: l.atMost(0.8, l.atLeast(-0.8, l.fma(x, 0, r))) };
}
function sinCos(l: Lanes, r: Vec): { sin: Vec; cos: Vec } {
  const z = l.mul(r, r);
  const sin = l.fma(l.mul(z, r), l.poly(z, SIN), r);
  const cos = l.fma(l.mul(z, z), l.poly(z, COS), l.fma(z, -0.5, 1));
  return { sin, cos };
}
const isOdd = (l: Lanes, n: Vec): Vec => l.op("ieq", l.op("and", n, l.i(1)), l.i(1));

/** sin(x + quarters·π/2). */
function sine(l: Lanes, x: Vec, quarters: 0 | 1): Vec {
  const { n, r } = splitAngle(l, x);
  const { sin, cos } = sinCos(l, r);
  const quadrant = quarters ? l.op("iadd", n, l.i(1)) : n;
  const value = l.select(isOdd(l, quadrant), cos, sin);
  return l.op("xor", value, l.shift("ishl", l.op("and", quadrant, l.i(2)), 30));
}

function tan(l: Lanes, x: Vec): Vec {
  const { n, r } = splitAngle(l, x);
  const { sin, cos } = sinCos(l, r);
  const odd = isOdd(l, n);
  return l.div(l.select(odd, l.op("neg", cos), sin), l.select(odd, sin, cos));
}

/** asin(√z) for a = |x| ≤ ½, and for larger a half of acos(a). */
function arcsine(l: Lanes, a: Vec): { isLarge: Vec; part: Vec } {
  const isLarge = l.less(0.5, a);
  const z = l.select(isLarge, l.fma(a, -0.5, 0.5), l.mul(a, a));
  const t = l.select(isLarge, l.op("sqrt", z), a);
  return { isLarge, part: l.fma(l.mul(t, z), l.poly(z, ASIN), t) };
}
function asin(l: Lanes, x: Vec): Vec {
  const { isLarge, part } = arcsine(l, l.abs(x));
  return l.signed(l.select(isLarge, l.fma(part, -2, Math.PI / 2), part), x);
}
function acos(l: Lanes, x: Vec): Vec {
  const { isLarge, part } = arcsine(l, l.abs(x));
  const twice = l.add(part, part);
  const far = l.select(l.less(x, 0), l.sub(Math.PI, twice), twice);
  return l.select(isLarge, far, l.sub(Math.PI / 2, l.signed(part, x)));
}
function atan(l: Lanes, x: Vec): Vec {
  const a = l.abs(x);
  const isLarge = l.less(1, a);
  const t = l.select(isLarge, l.div(1, a), a);
  const z = l.mul(t, t);
  const part = l.fma(l.mul(t, z), l.poly(z, ATAN), t);
  return l.signed(l.select(isLarge, l.sub(Math.PI / 2, part), part), x);
}

function sinh(l: Lanes, x: Vec): Vec {
  const a = l.abs(x);
  const e = expm1InRange(l, l.atMost(20, a));
  const near = l.mul(l.add(e, l.div(e, l.add(e, 1))), 0.5);
  return l.signed(l.select(l.less(15, a), l.mul(exp(l, a), 0.5), near), x);
}
function cosh(l: Lanes, x: Vec): Vec {
  const half = l.mul(exp(l, l.abs(x)), 0.5);
  return l.add(half, l.div(0.25, half));
}
/** Where squares would overflow: log(2a). */
const logTwice = (l: Lanes, a: Vec): Vec => l.add(log(l, a), Math.LN2);
const LARGE = 1e9;

function asinh(l: Lanes, x: Vec): Vec {
  const a = l.abs(x);
  const square = l.mul(a, a);
  const root = l.op("sqrt", l.add(square, 1));
  const near = log1p(l, l.add(a, l.div(square, l.add(root, 1))));
  return l.signed(l.select(l.less(LARGE, a), logTwice(l, a), near), x);
}
function acosh(l: Lanes, x: Vec): Vec {
  const t = l.add(x, -1);
  const near = log1p(l, l.add(t, l.op("sqrt", l.fma(t, t, l.add(t, t)))));
  return l.select(l.less(x, 1), Number.NaN, l.select(l.less(LARGE, x), logTwice(l, x), near));
}
function atanh(l: Lanes, x: Vec): Vec {
  const a = l.abs(x);
  return l.signed(l.mul(log1p(l, l.div(l.add(a, a), l.sub(1, a))), 0.5), x);
}

/** |a|^b = exp(b·log|a|) with the logarithm in two parts, then sign and edges as JavaScript has them. */
function pow(l: Lanes, a: Vec, b: Vec): Vec {
  const x = l.abs(a);
  const { f, e } = splitMantissa(l, x);
  const whole = l.mul(e, LN2_HI);
  const main = l.add(f, whole);
  const rest = l.add(l.fma(e, LN2_LO, logTail(l, f)), l.sub(f, l.sub(main, whole)));
  const sum = l.add(main, rest);
  const high = logEdges(l, x, sum);
  const product = l.mul(high, b);
  const low = l.fma(b, l.sub(rest, l.sub(sum, main)), l.fma(b, high, l.op("neg", product)));
  const y = exp(l, product);
  // Where the result is 0 or infinite the parts that are left make no sense.
  const size = l.fma(y, l.select(l.less(l.abs(product), 88.7), low, 0), y);
  return powSign(l, a, b, l.select(l.less(l.abs(product), 88.7), size, y));
}
function powSign(l: Lanes, a: Vec, b: Vec, size: Vec): Vec {
  const half = l.mul(b, 0.5);
  const isWhole = l.op("eq", l.op("trunc", b), b);
  const isEven = l.op("eq", l.op("trunc", half), half);
  const fractional = l.select(l.op("eq", a, l.f(Number.NEGATIVE_INFINITY)), size, Number.NaN);
  const negative = l.select(isEven, size, l.select(isWhole, l.op("neg", size), fractional));
  return l.select(l.op("eq", b, l.f(0)), 1, l.select(l.less(a, 0), negative, size));
}

/** Remainder of a truncated quotient; exact while the quotient is below 2^23. */
function fmod(l: Lanes, a: Vec, b: Vec): Vec {
  const [x, y] = [l.abs(a), l.abs(b)];
  const quotient = l.op("trunc", l.div(x, y));
  const rest = l.fnma(quotient, y, x);
  // The rounded quotient may be one too large.
  const fixed = l.select(l.less(rest, 0), l.add(rest, y), rest);
  const value = l.select(l.less(x, y), x, l.op("and", fixed, l.i(0x7fffffff)));
  // An infinite dividend or a zero divisor has made rest NaN already.
  return l.signed(l.select(l.op("isnan", rest, rest), l.select(l.less(x, y), x, Number.NaN), value), a);
}
function mod(l: Lanes, a: Vec, b: Vec): Vec {
  const rest = fmod(l, a, b);
  const product = l.op("xor", rest, b);
  const differs = l.op("and", l.op("ilt", product, l.i(0)), l.op("ne", rest, l.f(0)));
  return l.select(differs, l.add(rest, b), rest);
}

/** Larger or smaller, NaN where either is NaN. The instruction returns its second operand then, so a first operand known to be a number costs nothing. */
export function extreme(k: KernelBuilder, op: "min" | "max", a: Vec, b: Vec, mayBeNaN: boolean): Vec {
  const value = k.op(op, a, b);
  return mayBeNaN ? k.op("select", a, value, k.op("isnan", a, a)) : value;
}

function sign(l: Lanes, x: Vec): Vec {
  return l.select(l.less(0, x), 1, l.select(l.less(x, 0), -1, x));
}

/** min and max are in `extreme`, comparisons make masks. */
export type VectorFn = Exclude<
  ScalarFn,
  "min" | "max" | "and" | "or" | "xor" | "not" | "bitand" | "bitor" | "bitxor" | "bitnot" | "shl" | "shr"
>;
const two =
  (op: VecOp) =>
  (l: Lanes, a: Vec, b: Vec): Vec =>
    l.op(op, a, b);
const one =
  (op: VecOp) =>
  (l: Lanes, a: Vec): Vec =>
    l.op(op, a);

const FUNCTIONS: Readonly<Record<VectorFn, (l: Lanes, a: Vec, b: Vec) => Vec>> = {
  add: two("add"), sub: two("sub"), mul: two("mul"), div: two("div"), mod, fmod, pow,
  neg: one("neg"), abs: one("abs"), sign, sqrt: one("sqrt"), reciprocal: (l, a) => l.div(1, a),
  floor: one("floor"), ceil: one("ceil"), round: one("round"), trunc: one("trunc"),
  exp, log, sin: (l, x) => sine(l, x, 0), cos: (l, x) => sine(l, x, 1), tan, asin, acos, atan, sinh, cosh, tanh, asinh, acosh, atanh, erf, sigmoid,
  eq: two("eq"), ne: two("ne"), lt: two("lt"), le: two("le"), gt: (l, a, b) => l.op("lt", b, a), ge: (l, a, b) => l.op("le", b, a),
  isnan: (l, a) => l.op("isnan", a, a), isinf: (l, a) => l.op("eq", l.abs(a), l.f(Number.POSITIVE_INFINITY)),
}; // biome-ignore format: a table

/** fn of float32 lanes; comparisons and tests give masks. */
export const vectorFn = (k: KernelBuilder, fn: VectorFn, a: Vec, b: Vec = a): Vec => FUNCTIONS[fn](new Lanes(k), a, b);

/** eˣ where x is not above 0; NaN for NaN. */
export function expOfNegative(k: KernelBuilder, x: Vec): Vec {
  const l = new Lanes(k);
  return l.select(l.less(x, EXP_LOW), 0, expInRange(l, x));
}
