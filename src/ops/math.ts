// Exponential, trigonometric and hyperbolic functions.
import type { Op, Value } from "../ir/graph.ts";
import { FLOATS, NUMBERS } from "./define.ts";
import { unary } from "./elementwise.ts";
import { elementwise, type Formula } from "./gradient.ts";

type Range = readonly [number, number];

/** A function, and the derivative of y = f(x) as a formula of either. */
const smooth = (name: string, value: Parameters<typeof unary>[2], slope: (f: Formula, x: Value, y: Value) => Value, range?: Range): Op =>
  unary(name, FLOATS, value, { range, vjp: elementwise((f, { x, y, dy }) => f.mul(dy, slope(f, x, y))) });

/** 1 / √v. */
const inverseRoot = (f: Formula, v: Value): Value => f.op("Reciprocal", f.op("Sqrt", v));

/** 2/√π · exp(−x²). */
const erfSlope = (f: Formula, x: Value): Value => f.mul(f.exp(f.neg(f.square(x))), 2 / Math.sqrt(Math.PI));

export const mathOps: readonly Op[] = [
  smooth("Exp", "exp", (_, __, y) => y),
  unary("Log", FLOATS, "log", { range: [0.1, 4], vjp: elementwise((f, { x, dy }) => f.div(dy, x)) }),
  smooth("Sin", "sin", (f, x) => f.op("Cos", x), [-7, 7]),
  smooth("Cos", "cos", (f, x) => f.neg(f.op("Sin", x)), [-7, 7]),
  smooth("Tan", "tan", (f, _, y) => f.add(f.square(y), 1), [-1.4, 1.4]),
  smooth("Asin", "asin", (f, x) => inverseRoot(f, f.sub(1, f.square(x))), [-0.95, 0.95]),
  smooth("Acos", "acos", (f, x) => f.neg(inverseRoot(f, f.sub(1, f.square(x)))), [-0.95, 0.95]),
  smooth("Atan", "atan", (f, x) => f.op("Reciprocal", f.add(f.square(x), 1))),
  smooth("Sinh", "sinh", (f, x) => f.op("Cosh", x)),
  smooth("Cosh", "cosh", (f, x) => f.op("Sinh", x)),
  smooth("Tanh", "tanh", (f, _, y) => f.sub(1, f.square(y))),
  smooth("Asinh", "asinh", (f, x) => inverseRoot(f, f.add(f.square(x), 1))),
  smooth("Acosh", "acosh", (f, x) => inverseRoot(f, f.sub(f.square(x), 1)), [1.1, 4]),
  smooth("Atanh", "atanh", (f, x) => f.op("Reciprocal", f.sub(1, f.square(x))), [-0.9, 0.9]),
  unary("Erf", NUMBERS, "erf", { vjp: elementwise((f, { x, dy }) => f.mul(dy, erfSlope(f, x))) }),
  smooth("Sigmoid", "sigmoid", (f, _, y) => f.mul(y, f.sub(1, y))),
];
