// What all engines learn in the benchmark of training: networks as lists of layers, with their first weights and batches from a seed.
import { randomNumbers } from "../../src/cli/random.ts";

export type Layer =
  | { readonly k: "dense"; readonly inputs: number; readonly outputs: number }
  /** 3×3, padded by one. */
  | { readonly k: "conv"; readonly inputs: number; readonly outputs: number; readonly side: number }
  | { readonly k: "relu" }
  /** Largest of 2×2. `side` and `channels` of its input. */
  | { readonly k: "pool"; readonly side: number; readonly channels: number }
  | { readonly k: "flatten"; readonly side: number; readonly channels: number };

/** Of a dense layer (outputs, inputs) or a convolution (outputs, inputs, 3, 3), and (outputs), as PyTorch has them. */
export interface Weights {
  readonly weight: Float32Array;
  readonly bias: Float32Array;
}

/** Pictures (batch, 1, 28, 28), classes (batch), and the same classes as rows of zeros and a one. */
export interface Batch {
  readonly images: Float32Array;
  readonly labels: Int32Array;
  readonly oneHot: Float32Array;
}

export interface Problem {
  readonly name: NetworkName;
  readonly layers: readonly Layer[];
  /** In the order of the layers that have weights. */
  readonly weights: readonly Weights[];
  readonly batch: number;
  readonly batches: readonly Batch[];
  readonly optimizer: OptimizerName;
  readonly learningRate: number;
}

export const NETWORKS = ["mlp", "cnn"] as const;
export type NetworkName = (typeof NETWORKS)[number];
export const OPTIMIZERS = ["adam", "sgd"] as const;
export type OptimizerName = (typeof OPTIMIZERS)[number];
export const CLASSES = 10;
export const SIDE = 28;
/** Means of the gradient and of its square, and what keeps the quotient finite. */
export const ADAM = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 } as const;

const LAYERS: Readonly<Record<NetworkName, readonly Layer[]>> = {
  mlp: [
    { k: "flatten", side: 28, channels: 1 },
    { k: "dense", inputs: 784, outputs: 512 },
    { k: "relu" },
    { k: "dense", inputs: 512, outputs: 512 },
    { k: "relu" },
    { k: "dense", inputs: 512, outputs: CLASSES },
  ],
  cnn: [
    { k: "conv", inputs: 1, outputs: 32, side: 28 },
    { k: "relu" },
    { k: "pool", side: 28, channels: 32 },
    { k: "conv", inputs: 32, outputs: 64, side: 14 },
    { k: "relu" },
    { k: "pool", side: 14, channels: 64 },
    { k: "flatten", side: 7, channels: 64 },
    { k: "dense", inputs: 64 * 49, outputs: CLASSES },
  ],
};

/** Small rates: on one batch the loss falls from step to step, and nobody's weights run away, however many steps an engine gets to make. */
const RATES: Readonly<Record<OptimizerName, number>> = { adam: 1e-4, sgd: 0.002 };
/** Too many examples to learn by heart: gradients would become denormal numbers, which are slow. */
const BATCHES = 16;

export function problemOf(name: NetworkName, batch: number, optimizer: OptimizerName): Problem {
  const random = randomNumbers(1);
  const uniform = (size: number, bound: number): Float32Array => Float32Array.from({ length: size }, () => (2 * random() - 1) * bound);
  const layers = LAYERS[name];
  const weights = layers.flatMap((layer): Weights[] => {
    if (layer.k !== "dense" && layer.k !== "conv") return [];
    const fanIn = layer.inputs * (layer.k === "conv" ? 9 : 1);
    return [{ weight: uniform(layer.outputs * fanIn, Math.sqrt(6 / fanIn)), bias: uniform(layer.outputs, 1 / Math.sqrt(fanIn)) }]; // He's, for ReLU
  });
  const batches = Array.from({ length: BATCHES }, (): Batch => {
    const labels = Int32Array.from({ length: batch }, () => Math.floor(random() * CLASSES));
    const oneHot = new Float32Array(batch * CLASSES);
    for (const [i, label] of labels.entries()) oneHot[i * CLASSES + label] = 1;
    return { images: uniform(batch * SIDE * SIDE, 1), labels, oneHot };
  });
  return { name, layers, weights, batch, batches, optimizer, learningRate: RATES[optimizer] };
}

/** Multiplications and additions of products and convolutions in a step: forward, for the weights, and for the inputs of all layers but the first. */
export function flopsOfStep({ layers, batch }: Problem): number {
  const forward = layers.flatMap((layer) => {
    if (layer.k === "dense") return [2 * layer.inputs * layer.outputs * batch];
    return layer.k === "conv" ? [2 * 9 * layer.inputs * layer.outputs * layer.side ** 2 * batch] : [];
  });
  return 3 * forward.reduce((a, b) => a + b) - forward[0];
}

/** An array of some shape with its axes in another order. */
export function transposed(data: Float32Array, shape: readonly number[], order: readonly number[]): Float32Array {
  const strides = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
  const to = order.map((axis) => shape[axis]);
  const out = new Float32Array(data.length);
  const at = to.map(() => 0);
  for (let i = 0; i < out.length; i++) {
    out[i] = data[at.reduce((sum, index, axis) => sum + index * strides[order[axis]], 0)];
    for (let axis = at.length - 1; axis >= 0 && ++at[axis] === to[axis]; axis--) at[axis] = 0;
  }
  return out;
}
