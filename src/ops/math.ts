// Exponential, trigonometric and hyperbolic functions.
import type { Op } from "../ir/graph.ts";
import { FLOATS, NUMBERS } from "./define.ts";
import { unary } from "./elementwise.ts";

export const mathOps: readonly Op[] = [
  unary("Exp", FLOATS, "exp"),
  unary("Log", FLOATS, "log", [0.1, 4]),
  unary("Sin", FLOATS, "sin", [-7, 7]),
  unary("Cos", FLOATS, "cos", [-7, 7]),
  unary("Tan", FLOATS, "tan", [-1.4, 1.4]),
  unary("Asin", FLOATS, "asin", [-0.95, 0.95]),
  unary("Acos", FLOATS, "acos", [-0.95, 0.95]),
  unary("Atan", FLOATS, "atan"),
  unary("Sinh", FLOATS, "sinh"),
  unary("Cosh", FLOATS, "cosh"),
  unary("Tanh", FLOATS, "tanh"),
  unary("Asinh", FLOATS, "asinh"),
  unary("Acosh", FLOATS, "acosh", [1.1, 4]),
  unary("Atanh", FLOATS, "atanh", [-0.9, 0.9]),
  unary("Erf", NUMBERS, "erf"),
  unary("Sigmoid", FLOATS, "sigmoid"),
];
