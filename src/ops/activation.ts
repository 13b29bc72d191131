// Activation functions, as expressions of one element.
import { isFloat } from "../ir/dtype.ts";
import { call, cast, constant, type Expr, select } from "../ir/expr.ts";
import type { Op } from "../ir/graph.ts";
import {
  celuGradient,
  eluGradient,
  geluGradient,
  hardSigmoidGradient,
  hardSwishGradient,
  leakyGradient,
  mishGradient,
  preluGradient,
  reluGradient,
  seluGradient,
  shrinkGradient,
  softplusGradient,
  softsignGradient,
  swishGradient,
  thresholdedGradient,
} from "./activation_gradient.ts";
import { emittable, FLOATS, f32, NUMBERS, SIGNED, without } from "./define.ts";
import { activation, importBroadcast, mapOp, unary } from "./elementwise.ts";

/** A constant of x's type. */
const c = (x: Expr, value: number): Expr => constant(x.dtype, value);
const add = (a: Expr, b: Expr) => call("add", a, b);
const sub = (a: Expr, b: Expr) => call("sub", a, b);
const mul = (a: Expr, b: Expr) => call("mul", a, b);
const div = (a: Expr, b: Expr) => call("div", a, b);
const positive = (x: Expr) => call("gt", x, c(x, 0));
const negative = (x: Expr) => call("lt", x, c(x, 0));

const hardSigmoid = (x: Expr, alpha: number, beta: number): Expr =>
  call("min", call("max", add(mul(x, c(x, alpha)), c(x, beta)), c(x, 0)), c(x, 1));

/** log(1 + eˣ) without overflow. */
const softplus = (x: Expr): Expr => add(call("max", x, c(x, 0)), call("log", add(c(x, 1), call("exp", call("neg", call("abs", x))))));

/** eˣ − 1, scaled: only asked for where x is negative. */
const scaledExpm1 = (x: Expr, scale: number): Expr => mul(c(x, scale), sub(call("exp", call("min", x, c(x, 0))), c(x, 1)));

/** For slopes in (0, 1] the larger of the two lines, which is one instruction less. */
const leaky = (x: Expr, alpha: number): Expr => {
  const scaled = mul(x, c(x, alpha));
  return alpha > 0 && alpha <= 1 ? call("max", x, scaled) : select(negative(x), scaled, x);
};

function gelu(x: Expr, approximate: string): Expr {
  const half = mul(x, c(x, 0.5));
  if (approximate !== "tanh") return mul(half, add(c(x, 1), call("erf", mul(x, c(x, Math.SQRT1_2)))));
  const cube = mul(mul(x, x), x);
  return mul(half, add(c(x, 1), call("tanh", mul(c(x, Math.sqrt(2 / Math.PI)), add(x, mul(c(x, 0.044715), cube))))));
}

/** Integers shrink as floats, as the bias need not be whole. */
function shrink(x: Expr, bias: number, lambd: number): Expr {
  const v = isFloat(x.dtype) ? x : cast("f32", x);
  const inner = select(call("gt", v, c(v, lambd)), sub(v, c(v, bias)), c(v, 0));
  return cast(x.dtype, select(call("lt", v, c(v, -lambd)), add(v, c(v, bias)), inner));
}

const PRelu: Op = mapOp<object>({
  name: "PRelu",
  arity: 2,
  dtypes: NUMBERS,
  value: ([x, slope]) => select(negative(x), mul(x, slope), x),
  vjp: preluGradient,
  samples: [{ inputs: [f32(2, 3, 5), f32(3, 1)] }, { inputs: [f32(3, 7), f32(1)] }, { inputs: [f32(4), f32(4)] }],
  // Before opset 7 a slope of one axis belonged to the channels.
  importOnnx(context) {
    const [x, slope] = context.inputs;
    const isPerChannel = context.opset < 7 && x && slope && slope.type.shape.length === 1 && slope.type.shape[0] > 1;
    if (isPerChannel) return importBroadcast(PRelu, { ...context, attrs: { axis: 1 }, inputs: [x, slope] });
    return context.emit(emittable(PRelu), context.inputs, without(context.attrs, ["consumed_inputs"]));
  },
});

export const activationOps: readonly Op[] = [
  unary("Relu", SIGNED, (x) => call("max", x, c(x, 0)), { vjp: reluGradient }),
  activation<{ alpha: number }>("LeakyRelu", { alpha: 0.01 }, (x, { alpha }) => leaky(x, alpha), leakyGradient),
  activation<{ alpha: number }>(
    "ThresholdedRelu",
    { alpha: 1 },
    (x, { alpha }) => select(call("gt", x, c(x, alpha)), x, c(x, 0)),
    thresholdedGradient,
  ),
  activation<{ alpha: number }>("Elu", { alpha: 1 }, (x, { alpha }) => select(negative(x), scaledExpm1(x, alpha), x), eluGradient),
  activation<{ alpha: number; gamma: number }>(
    "Selu",
    { alpha: 1.6732631921768188, gamma: 1.0507010221481323 },
    (x, { alpha, gamma }) => mul(c(x, gamma), select(positive(x), x, scaledExpm1(x, alpha))),
    seluGradient,
  ),
  activation<{ alpha: number }>(
    "Celu",
    { alpha: 1 },
    (x, { alpha }) => select(negative(x), mul(c(x, alpha), sub(call("exp", call("min", mul(x, c(x, 1 / alpha)), c(x, 0))), c(x, 1))), x),
    celuGradient,
  ),
  activation<{ alpha: number; beta: number }>(
    "HardSigmoid",
    { alpha: 0.2, beta: 0.5 },
    (x, { alpha, beta }) => hardSigmoid(x, alpha, beta),
    hardSigmoidGradient,
  ),
  unary("HardSwish", FLOATS, (x) => mul(x, hardSigmoid(x, 1 / 6, 0.5)), { vjp: hardSwishGradient }),
  unary("Softplus", FLOATS, softplus, { vjp: softplusGradient }),
  unary("Softsign", FLOATS, (x) => div(x, add(c(x, 1), call("abs", x))), { vjp: softsignGradient }),
  unary("Mish", FLOATS, (x) => mul(x, call("tanh", softplus(x))), { vjp: mishGradient }),
  activation<{ approximate: string }>("Gelu", { approximate: "none" }, (x, { approximate }) => gelu(x, approximate), geluGradient),
  activation<{ alpha: number }>(
    "Swish",
    { alpha: 1 },
    (x, { alpha }) => mul(x, call("sigmoid", alpha === 1 ? x : mul(x, c(x, alpha)))),
    swishGradient,
  ),
  activation<{ bias: number; lambd: number }>(
    "Shrink",
    { bias: 0, lambd: 0.5 },
    (x, { bias, lambd }) => shrink(x, bias, lambd),
    shrinkGradient,
    NUMBERS,
  ),
  PRelu,
];
