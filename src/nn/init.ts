// Initialisers: a key and a shape → first weights.
import { type Key, random, type Tensor } from "../tensor/index.ts";

export type Weights = Tensor<readonly number[], "f32">;

/** Inputs and outputs of each unit: weights are (out, in, kernel…). */
function fans(shape: readonly number[]): { fanIn: number; fanOut: number } {
  const [out, inner = 1, ...kernel] = shape;
  const taps = kernel.reduce((n, size) => n * size, 1);
  return { fanIn: inner * taps, fanOut: out * taps };
}

export const uniform = (key: Key, shape: readonly number[], bound: number): Weights => random.uniform(key, shape, -bound, bound);
export const normal = (key: Key, shape: readonly number[], deviation = 1, mean = 0): Weights => random.normal(key, shape, mean, deviation);

/** How much an activation shrinks: Glorot and He's factors. */
export type Nonlinearity = "linear" | "relu" | "tanh" | "sigmoid" | { readonly leakyRelu: number };

function gainOf(nonlinearity: Nonlinearity): number {
  if (typeof nonlinearity === "object") return Math.sqrt(2 / (1 + nonlinearity.leakyRelu ** 2));
  switch (nonlinearity) {
    case "relu":
      return Math.SQRT2;
    case "tanh":
      return 5 / 3;
    case "linear":
    case "sigmoid":
      return 1;
    default:
      return nonlinearity satisfies never;
  }
}

/** He et al. 2015. */
export const kaimingUniform = (key: Key, shape: readonly number[], nonlinearity: Nonlinearity = "relu"): Weights =>
  uniform(key, shape, gainOf(nonlinearity) * Math.sqrt(3 / fans(shape).fanIn));
export const kaimingNormal = (key: Key, shape: readonly number[], nonlinearity: Nonlinearity = "relu"): Weights =>
  normal(key, shape, gainOf(nonlinearity) / Math.sqrt(fans(shape).fanIn));

/** Glorot and Bengio 2010. */
export function xavierUniform(key: Key, shape: readonly number[], gain = 1): Weights {
  const { fanIn, fanOut } = fans(shape);
  return uniform(key, shape, gain * Math.sqrt(6 / (fanIn + fanOut)));
}
export function xavierNormal(key: Key, shape: readonly number[], gain = 1): Weights {
  const { fanIn, fanOut } = fans(shape);
  return normal(key, shape, gain * Math.sqrt(2 / (fanIn + fanOut)));
}

/** ±1/√inputs: what PyTorch's layers start with, for their biases too. */
export const fanInUniform = (key: Key, shape: readonly number[], fanIn = fans(shape).fanIn): Weights =>
  uniform(key, shape, 1 / Math.sqrt(Math.max(1, fanIn)));
