// Float8 numbers in expressions: from their codes to float32 and back, by whole numbers and powers of two, exactly.
import type { Float8 } from "../ir/dtype.ts";
import { type HeddleError, invariant } from "../ir/error.ts";
import { call, cast, constant, type Expr, select } from "../ir/expr.ts";
import { FLOAT8, isFloat8, SIGN } from "../ir/float8.ts";
import type { Reader, TensorType, Value } from "../ir/graph.ts";
import type { Index } from "../ir/index_expr.ts";
import { toNumbers } from "../ir/tensor.ts";
import { constantOf } from "./source.ts";

/** Numbers as another type; undefined: neither is float8. */
export function castFloat8(x: Reader, type: TensorType, { saturate }: { readonly saturate: number }): Reader | undefined {
  const [from, to] = [x.type.dtype, type.dtype];
  if (from === to || !(isFloat8(from) || isFloat8(to))) return undefined;
  const at = (index: readonly Index[]): Expr => {
    const number = isFloat8(from) ? fromFloat8(x.at(index)) : x.at(index);
    return isFloat8(to) ? toFloat8(number, to, saturate) : cast(to, number);
  };
  return { type, at };
}

/** Throws where the zero point of float8 numbers is known, and not 0. */
export function checkZero(inputs: readonly (Value | null)[], bad: (why: string) => HeddleError): void {
  const zero = constantOf(inputs[2]);
  if (zero && isFloat8(zero.dtype) && toNumbers(zero).some((z) => z !== 0)) throw bad("a zero point in float8 may be 0 only");
}

const int = (value: number): Expr => constant("i32", value);
const float = (value: number): Expr => constant("f32", value);

/** More places than this do not fit an integer that float32 holds. */
const MOST_PLACES = 15;

/** The number of a code, as float32. */
export function fromFloat8(x: Expr): Expr {
  invariant(isFloat8(x.dtype), `${x.dtype} is not float8`);
  const { fraction, bias, largest, infinity, nan } = FLOAT8[x.dtype];
  const code = cast("i32", x);
  const size = call("bitand", code, int(SIGN - 1));
  const exponent = call("shr", size, int(fraction));
  const digits = call("bitand", size, int(2 ** fraction - 1));
  const isNormal = call("gt", exponent, int(0));
  const whole = select(isNormal, call("add", digits, int(2 ** fraction)), digits);
  const places = select(isNormal, call("sub", exponent, int(1)), int(0));
  const shifted = call("shl", whole, call("bitand", places, int(MOST_PLACES)));
  const unit = 2 ** (1 - bias - fraction);
  const finite = call(
    "mul",
    cast("f32", shifted),
    select(call("gt", places, int(MOST_PLACES)), float(unit * 2 ** (MOST_PLACES + 1)), float(unit)),
  );
  const beyond = infinity === undefined ? float(Number.NaN) : select(call("eq", size, int(infinity)), float(Number.POSITIVE_INFINITY), float(Number.NaN)); // biome-ignore format: short
  const number = nan === SIGN ? select(call("eq", code, int(SIGN)), float(Number.NaN), finite) : select(call("gt", size, int(largest)), beyond, finite); // biome-ignore format: short
  return select(call("gt", code, int(SIGN - 1)), call("neg", number), number);
}

/** The code of a number, to nearest even; too large ones: the largest (`saturate`), infinity, or NaN. Whether zero is negative takes a division to know. */
export function toFloat8(x: Expr, to: Float8, saturate: number, keepsMinusZero = true): Expr {
  const { fraction, bias, largest, nan, infinity = nan } = FLOAT8[to];
  const wide = x.dtype === "f64" ? "f64" : "f32";
  const value = cast(wide, x);
  const number = (v: number): Expr => constant(wide, v);
  // The size in the least normal number, divided by two until it is below 2: one more exponent each time.
  let size = call("mul", call("abs", value), number(2 ** (bias - 1)));
  let steps = number(0);
  for (let by = 2 ** (6 - fraction); by >= 1; by /= 2) {
    const isLarge = call("ge", size, number(2 ** by));
    size = select(isLarge, call("mul", size, number(2 ** -by)), size);
    steps = select(isLarge, call("add", steps, number(by * 2 ** fraction)), steps);
  }
  const code = call("add", call("round", call("mul", size, number(2 ** fraction))), steps);
  const isBeyond = call("gt", code, number(largest));
  const kept = select(isBeyond, number(saturate ? largest : infinity), code);
  const isBelow = call("lt", value, number(0));
  const isNegative = keepsMinusZero ? call("or", isBelow, call("lt", call("div", number(1), value), number(0))) : isBelow;
  const hasMinusZero = nan !== SIGN;
  const signs = hasMinusZero ? isNegative : call("and", isNegative, call("gt", kept, number(0)));
  const signed = select(signs, call("add", kept, number(SIGN)), kept);
  const isNan = call("isnan", value);
  const isLost = hasMinusZero ? isNan : call("or", isNan, saturate ? call("isinf", value) : isBeyond);
  return cast(to, cast("i32", select(isLost, number(nan), signed)));
}
