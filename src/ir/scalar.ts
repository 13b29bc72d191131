// Scalar functions: one row each, with arity and exact value. Targets add their own rows: native code and its error in ULP.

/** mod: sign of the divisor (Python's) · fmod: sign of the dividend (C's) · div on integers truncates · round: half to even · and/or/xor/not: on booleans. */
export type ScalarFn =
  | "add" | "sub" | "mul" | "div" | "mod" | "fmod" | "pow" | "min" | "max"
  | "neg" | "abs" | "sign" | "sqrt" | "reciprocal" | "floor" | "ceil" | "round" | "trunc"
  | "exp" | "log" | "sin" | "cos" | "tan" | "asin" | "acos" | "atan" | "sinh" | "cosh" | "tanh" | "asinh" | "acosh" | "atanh" | "erf" | "sigmoid"
  | "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "isnan" | "isinf"
  | "and" | "or" | "xor" | "not"
  | "bitand" | "bitor" | "bitxor" | "bitnot" | "shl" | "shr"; // biome-ignore format: a table

export interface ScalarRow {
  readonly arity: 1 | 2;
  /** Value in float64. */
  readonly exact: (a: number, b: number) => number;
}

/** Error function to float64 precision (W. J. Cody 1969 rational approximations would be shorter; series and continued fraction are plainer). */
function erf(x: number): number {
  const a = Math.abs(x);
  if (Number.isNaN(x)) return x;
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = a;
    let sum = a;
    for (let n = 1; Math.abs(term) > 1e-17 * sum && n < 200; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let f = 0;
  for (let n = 60; n >= 1; n--) f = n / 2 / (a + f);
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + f));
}

function roundHalfEven(x: number): number {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

const one = (exact: (a: number) => number): ScalarRow => ({ arity: 1, exact });
const two = (exact: (a: number, b: number) => number): ScalarRow => ({ arity: 2, exact });
const truth = (b: boolean): number => (b ? 1 : 0);

export const SCALAR: Readonly<Record<ScalarFn, ScalarRow>> = {
  add: two((a, b) => a + b), sub: two((a, b) => a - b), mul: two((a, b) => a * b), div: two((a, b) => a / b),
  mod: two((a, b) => { const r = a % b; return r !== 0 && r < 0 !== b < 0 ? r + b : r; }), fmod: two((a, b) => a % b),
  pow: two((a, b) => a ** b), min: two((a, b) => Math.min(a, b)), max: two((a, b) => Math.max(a, b)),
  neg: one((a) => -a), abs: one(Math.abs), sign: one(Math.sign), sqrt: one(Math.sqrt), reciprocal: one((a) => 1 / a),
  floor: one(Math.floor), ceil: one(Math.ceil), round: one(roundHalfEven), trunc: one(Math.trunc),
  exp: one(Math.exp), log: one(Math.log), sin: one(Math.sin), cos: one(Math.cos), tan: one(Math.tan), asin: one(Math.asin), acos: one(Math.acos), atan: one(Math.atan),
  sinh: one(Math.sinh), cosh: one(Math.cosh), tanh: one(Math.tanh), asinh: one(Math.asinh), acosh: one(Math.acosh), atanh: one(Math.atanh),
  erf: one(erf), sigmoid: one((a) => 1 / (1 + Math.exp(-a))),
  eq: two((a, b) => truth(a === b)), ne: two((a, b) => truth(a !== b)), lt: two((a, b) => truth(a < b)), le: two((a, b) => truth(a <= b)),
  gt: two((a, b) => truth(a > b)), ge: two((a, b) => truth(a >= b)), isnan: one((a) => truth(Number.isNaN(a))), isinf: one((a) => truth(Math.abs(a) === Number.POSITIVE_INFINITY)),
  and: two((a, b) => truth(a !== 0 && b !== 0)), or: two((a, b) => truth(a !== 0 || b !== 0)), xor: two((a, b) => truth(a !== 0 !== (b !== 0))), not: one((a) => truth(a === 0)),
  bitand: two((a, b) => Number(BigInt(a) & BigInt(b))), bitor: two((a, b) => Number(BigInt(a) | BigInt(b))), bitxor: two((a, b) => Number(BigInt(a) ^ BigInt(b))), bitnot: one((a) => -a - 1),
  shl: two((a, b) => a * 2 ** b), shr: two((a, b) => Math.floor(a / 2 ** b)),
}; // biome-ignore format: a table
