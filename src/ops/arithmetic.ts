// Arithmetic operators: sums, products, powers, extremes, bounds.
import { isFloat } from "../ir/dtype.ts";
import { call, cast, constant, type Expr } from "../ir/expr.ts";
import type { Op, Value } from "../ir/graph.ts";
import { toNumbers } from "../ir/tensor.ts";
import { emittable, FLOATS, f32, i32, inParts, MAX_JOINED, NUMBERS, SIGNED, scalarOf, tensorOf } from "./define.ts";
import {
  binary,
  broadcastSamples,
  importBroadcast,
  integerSamples,
  isAbsent,
  mapOp,
  unary,
  variadic,
  withMovedAttributes,
} from "./elementwise.ts";
import { broadcasting, elementwise, type Formula, noGradient } from "./gradient.ts";
import { constantOf } from "./source.ts";

const samples = [...broadcastSamples, ...integerSamples];

const Add = binary("Add", NUMBERS, "add", { samples, vjp: broadcasting((_, { dy }) => dy) });
const Sub = binary("Sub", NUMBERS, "sub", { samples, vjp: broadcasting((f, { dy }, i) => (i === 0 ? dy : f.neg(dy))) });
const Mul = binary("Mul", NUMBERS, "mul", { samples, vjp: broadcasting((f, { x, dy }, i) => f.mul(dy, x[1 - i])) });
const Div = binary("Div", NUMBERS, "div", {
  samples: [
    { inputs: [f32(3, 17), f32(3, 17)], range: [0.5, 2] },
    { inputs: [f32(2, 3, 5), f32(5)], range: [0.5, 2] },
    { inputs: [i32(5), tensorOf("i32", [1, 2, -3, 4, -5])] },
  ],
  vjp: broadcasting((f, { x: [, b], y, dy }, i) => (i === 0 ? f.div(dy, b) : f.neg(f.mul(f.div(dy, b), y)))),
});

const Mod: Op = mapOp<{ fmod: number }>({
  name: "Mod",
  arity: 2,
  dtypes: NUMBERS,
  attrs: { fmod: { type: "int", default: 0 } },
  check: (dtype, { fmod }) => (isFloat(dtype) && !fmod ? "floats want attribute fmod=1" : undefined),
  value: ([a, b], { fmod }) => call(fmod ? "fmod" : "mod", a, b),
  // y = a − n·b with a whole n.
  vjp: broadcasting((f, { x: [a, b], y, dy }, i) => (i === 0 ? dy : f.mul(dy, f.div(f.sub(y, a), b)))),
  samples: [{ inputs: [i32(2, 3), tensorOf("i32", [2, -3, 5])] }, { inputs: [f32(2, 7), f32(7)], attrs: { fmod: 1 }, range: [0.5, 4] }],
});

/** x^n for the exponents that cost little. */
function cheapPower(x: Expr, exponent: number): Expr | undefined {
  if (exponent === 1) return x;
  if (exponent === 2) return call("mul", x, x);
  if (exponent === 3) return call("mul", call("mul", x, x), x);
  if (exponent === 0.5 && isFloat(x.dtype)) return call("sqrt", x);
  if (exponent === -1 && isFloat(x.dtype)) return call("reciprocal", x);
  return undefined;
}

/** b · a^(b−1), from y = a^b. */
function powerSlope(f: Formula, a: Value, b: Value, y: Value): Value {
  const known = constantOf(b);
  const exponent = known && known.data.length === 1 ? toNumbers(known)[0] : undefined;
  if (exponent === 2) return f.mul(a, 2);
  if (exponent === 0.5) return f.div(0.5, y);
  if (exponent !== undefined) return f.mul(f.op("Pow", a, exponent - 1), exponent);
  const full = f.cast(b);
  return f.mul(full, f.op("Pow", a, f.sub(full, 1)));
}

const Pow: Op = mapOp<object>({
  name: "Pow",
  arity: 2,
  dtypes: NUMBERS,
  sameFrom: 2,
  value([a, b], _, node) {
    const known = constantOf(node.inputs[1]);
    const cheap = known && known.data.length === 1 ? cheapPower(a, toNumbers(known)[0]) : undefined;
    if (cheap) return cheap;
    // An integer to a fractional power is computed in the exponent's type.
    if (!isFloat(a.dtype) && isFloat(b.dtype)) return cast(a.dtype, call("pow", cast(b.dtype, a), b));
    return call("pow", a, cast(a.dtype, b));
  },
  vjp: broadcasting((f, { x: [a, b], y, dy }, i) => {
    if (i === 1) {
      const isPositive = f.op("Greater", a, 0); // elsewhere the exponent cannot move, and the logarithm must not become NaN
      return f.where(isPositive, f.mul(dy, y, f.op("Log", f.where(isPositive, a, 1))), 0);
    }
    return f.mul(dy, powerSlope(f, a, b, y));
  }),
  importOnnx: (context) => importBroadcast(Pow, context),
  samples: [
    { inputs: [f32(3, 7), f32(7)], range: [0.5, 2] },
    { inputs: [f32(3, 7), scalarOf("f32", 2)] },
    { inputs: [f32(5), scalarOf("f32", 0.5)], range: [0, 2] },
    { inputs: [f32(5), tensorOf("i32", [3])] },
    { inputs: [i32(5), tensorOf("i32", [0, 1, 2, 3, 4])] },
  ],
});

const larger = (a: Expr, b: Expr) => call("max", a, b);
const smaller = (a: Expr, b: Expr) => call("min", a, b);
const sum = (a: Expr, b: Expr) => call("add", a, b);

const Clip = withMovedAttributes<object>(
  {
    name: "Clip",
    arity: 3,
    optional: [1, 2],
    dtypes: NUMBERS,
    value([x, min, max]) {
      const raised = isAbsent(min) ? x : larger(x, min);
      return isAbsent(max) ? raised : smaller(raised, max);
    },
    vjp: broadcasting((f, { x: [x, min, max], dy }, i) => {
      if (i === 1) return f.where(f.op("Less", x, min), dy, 0);
      if (i === 2) return f.where(f.op("Greater", x, max), dy, 0);
      const inside = [...(min ? [f.op("GreaterOrEqual", x, min)] : []), ...(max ? [f.op("LessOrEqual", x, max)] : [])];
      return inside.reduce((grad, condition) => f.where(condition, grad, 0), dy);
    }),
    samples: [
      { inputs: [f32(3, 7), scalarOf("f32", -1), scalarOf("f32", 0.5)] },
      { inputs: [f32(3, 7), scalarOf("f32", 0)] },
      { inputs: [f32(3, 7), null, scalarOf("f32", 1)] },
      { inputs: [f32(5)] },
      { inputs: [i32(5), scalarOf("i32", -1), scalarOf("i32", 1)] },
    ],
  },
  [
    { name: "min", input: 1, scalar: true },
    { name: "max", input: 2, scalar: true },
  ],
);

const Sum = variadic("Sum", NUMBERS, sum, { vjp: broadcasting((_, { dy }) => dy) });
const Mean: Op = variadic("Mean", FLOATS, sum, {
  vjp: broadcasting((f, { x, dy }) => f.mul(dy, 1 / x.length)),
  finish: (total, n) => (n === 1 ? total : call("div", total, constant(total.dtype, n))),
  importOnnx: (context) => {
    const { inputs, attrs, emit } = context;
    if (inputs.length <= MAX_JOINED) return emit(emittable(Mean), inputs, attrs);
    const [total] = inParts(Sum, context, attrs);
    return emit(emittable(Div), [total, context.constant(scalarOf(total.type.dtype, inputs.length))]);
  },
});

/** The first input that reaches the extreme gets all of the gradient. */
const extremeGradient = broadcasting((f, { x, y, dy }, i) => {
  if (x.length === 1) return dy;
  const reached = f.where(f.op("Equal", x[i], y), dy, 0);
  return x.slice(0, i).reduce((grad, earlier) => f.where(f.op("Equal", earlier, y), 0, grad), reached);
});

export const arithmeticOps: readonly Op[] = [
  Add,
  Sub,
  Mul,
  Div,
  Mod,
  Pow,
  Clip,
  variadic("Max", NUMBERS, larger, { vjp: extremeGradient }),
  variadic("Min", NUMBERS, smaller, { vjp: extremeGradient }),
  Sum,
  Mean,
  unary("Abs", NUMBERS, "abs", { vjp: elementwise((f, { x, dy }) => f.mul(dy, f.op("Sign", x))) }),
  unary("Neg", SIGNED, "neg", { vjp: elementwise((f, { dy }) => f.neg(dy)) }),
  unary("Sign", NUMBERS, "sign", { vjp: noGradient }),
  unary("Reciprocal", FLOATS, "reciprocal", { range: [0.5, 2], vjp: elementwise((f, { y, dy }) => f.neg(f.mul(dy, f.square(y)))) }),
  unary("Sqrt", FLOATS, "sqrt", { range: [0, 4], vjp: elementwise((f, { y, dy }) => f.div(f.mul(dy, 0.5), y)) }),
  unary("Floor", FLOATS, "floor", { vjp: noGradient }),
  unary("Ceil", FLOATS, "ceil", { vjp: noGradient }),
  unary("Round", FLOATS, "round", { vjp: noGradient }),
];
