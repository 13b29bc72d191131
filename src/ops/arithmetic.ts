// Arithmetic operators: sums, products, powers, extremes, bounds.
import { isFloat } from "../ir/dtype.ts";
import { call, cast, constant, type Expr } from "../ir/expr.ts";
import type { Op } from "../ir/graph.ts";
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
import { constantOf } from "./source.ts";

const samples = [...broadcastSamples, ...integerSamples];

const Add = binary("Add", NUMBERS, "add", samples);
const Sub = binary("Sub", NUMBERS, "sub", samples);
const Mul = binary("Mul", NUMBERS, "mul", samples);
const Div = binary("Div", NUMBERS, "div", [
  { inputs: [f32(3, 17), f32(3, 17)], range: [0.5, 2] },
  { inputs: [f32(2, 3, 5), f32(5)], range: [0.5, 2] },
  { inputs: [i32(5), tensorOf("i32", [1, 2, -3, 4, -5])] },
]);

const Mod: Op = mapOp<{ fmod: number }>({
  name: "Mod",
  arity: 2,
  dtypes: NUMBERS,
  attrs: { fmod: { type: "int", default: 0 } },
  check: (dtype, { fmod }) => (isFloat(dtype) && !fmod ? "floats want attribute fmod=1" : undefined),
  value: ([a, b], { fmod }) => call(fmod ? "fmod" : "mod", a, b),
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

const Sum = variadic("Sum", NUMBERS, sum);
const Mean: Op = variadic(
  "Mean",
  FLOATS,
  sum,
  (total, n) => (n === 1 ? total : call("div", total, constant(total.dtype, n))),
  (context) => {
    const { inputs, attrs, emit } = context;
    if (inputs.length <= MAX_JOINED) return emit(emittable(Mean), inputs, attrs);
    const [total] = inParts(Sum, context, attrs);
    return emit(emittable(Div), [total, context.constant(scalarOf(total.type.dtype, inputs.length))]);
  },
);

export const arithmeticOps: readonly Op[] = [
  Add,
  Sub,
  Mul,
  Div,
  Mod,
  Pow,
  Clip,
  variadic("Max", NUMBERS, larger),
  variadic("Min", NUMBERS, smaller),
  Sum,
  Mean,
  unary("Abs", NUMBERS, "abs"),
  unary("Neg", SIGNED, "neg"),
  unary("Sign", NUMBERS, "sign"),
  unary("Reciprocal", FLOATS, "reciprocal", [0.5, 2]),
  unary("Sqrt", FLOATS, "sqrt", [0, 4]),
  unary("Floor", FLOATS, "floor"),
  unary("Ceil", FLOATS, "ceil"),
  unary("Round", FLOATS, "round"),
];
