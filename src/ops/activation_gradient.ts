// Gradients of activation functions: of the output alone where that tells enough, so that the input need not be kept.
import type { Value } from "../ir/graph.ts";
import { broadcasting, elementwise, type Formula, type Vjp } from "./gradient.ts";

interface Alpha {
  readonly alpha: number;
}

const isNegative = (f: Formula, x: Value): Value => f.op("Less", x, 0);
const isPositive = (f: Formula, x: Value): Value => f.op("Greater", x, 0);

/** 0 where x is not positive, as the output is. */
export const reluGradient = elementwise((f, { y, dy }) => f.where(isPositive(f, y), dy, 0));

/** With a positive slope the output has the sign of the input. */
export const leakyGradient = elementwise<Alpha>((f, { x, y, dy }, { alpha }) =>
  f.where(isNegative(f, alpha > 0 ? y : x), f.mul(dy, alpha), dy),
);

export const preluGradient = broadcasting((f, { x: [x, slope], dy }, i) =>
  i === 0 ? f.where(isNegative(f, x), f.mul(dy, slope), dy) : f.where(isNegative(f, x), f.mul(dy, x), 0),
);

export const thresholdedGradient = elementwise<Alpha>((f, { x, dy }, { alpha }) => f.where(f.op("Greater", x, alpha), dy, 0));

/** Below 0, y = α·(eˣ − 1) and its slope is y + α. */
export const eluGradient = elementwise<Alpha>((f, { x, y, dy }, { alpha }) => f.where(isNegative(f, x), f.mul(dy, f.add(y, alpha)), dy));

/** γ times Elu's, where γ·α is the distance of the lower bound. */
export const seluGradient = elementwise<{ alpha: number; gamma: number }>((f, { x, y, dy }, { alpha, gamma }) =>
  f.mul(dy, f.where(isPositive(f, x), gamma, f.add(y, alpha * gamma))),
);

/** Below 0, y = α·(e^(x/α) − 1) and its slope is y/α + 1. */
export const celuGradient = elementwise<Alpha>((f, { x, y, dy }, { alpha }) =>
  f.where(isNegative(f, x), f.mul(dy, f.add(f.mul(y, 1 / alpha), 1)), dy),
);

/** α between the bounds 0 and 1 of the output. */
export const hardSigmoidGradient = elementwise<Alpha>((f, { y, dy }, { alpha }) =>
  f.where(isPositive(f, y), f.where(f.op("Less", y, 1), f.mul(dy, alpha), 0), 0),
);

/** x/3 + 1/2 for |x| < 3, else 0 or 1. */
export const hardSwishGradient = elementwise((f, { x, dy }) => {
  const middle = f.mul(dy, f.add(f.mul(x, 1 / 3), 0.5));
  return f.where(f.op("Greater", x, -3), f.where(f.op("Less", x, 3), middle, dy), 0);
});

export const softplusGradient = elementwise((f, { x, dy }) => f.mul(dy, f.op("Sigmoid", x)));

/** 1 / (1 + |x|)². */
export const softsignGradient = elementwise((f, { x, dy }) => f.div(dy, f.square(f.add(f.op("Abs", x), 1))));

/** y = x·t with t = tanh(softplus(x)): t + x·(1 − t²)·σ(x). */
export const mishGradient = elementwise((f, { x, dy }) => {
  const t = f.op("Tanh", f.op("Softplus", x));
  return f.mul(dy, f.add(t, f.mul(x, f.sub(1, f.square(t)), f.op("Sigmoid", x))));
});

/** x·Φ(x) → Φ(x) + x·φ(x); with tanh the derivative of its approximation. */
export const geluGradient: Vjp<{ approximate: string }> = (context, node) => {
  const [x] = node.inputs as readonly Value[]; // checked by infer
  if (node.attrs.approximate === "tanh") return [context.build.op("GeluGrad", [x, context.grad(0)!])]; // of the only output
  return erfGeluGradient(context, node);
};
const erfGeluGradient = elementwise<{ approximate: string }>((f, { x, dy }) =>
  f.mul(dy, f.add(normalProbability(f, x), f.mul(x, normalDensity(f, x)))),
);
const normalProbability = (f: Formula, x: Value): Value => f.add(f.mul(f.op("Erf", f.mul(x, Math.SQRT1_2)), 0.5), 0.5);
const normalDensity = (f: Formula, x: Value): Value => f.mul(f.exp(f.mul(f.square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));

/** y = x·σ(α·x) → σ + α·y·(1 − σ). */
export const swishGradient = elementwise<Alpha>((f, { x, y, dy }, { alpha }) => {
  const s = f.op("Sigmoid", alpha === 1 ? x : f.mul(x, alpha));
  const rest = f.mul(y, f.sub(1, s));
  return f.mul(dy, f.add(s, alpha === 1 ? rest : f.mul(rest, alpha)));
});

/** 1 outside of ±lambd. */
export const shrinkGradient = elementwise<{ lambd: number }>((f, { x, dy }, { lambd }) =>
  f.where(f.op("Greater", x, lambd), dy, f.where(f.op("Less", x, -lambd), dy, 0)),
);
