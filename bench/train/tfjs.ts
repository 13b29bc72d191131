// The benchmark's networks in TensorFlow.js with its WebAssembly backend, which in Node runs on one thread.
import { importPackage, packageVersion } from "../../src/cli/packages.ts";
import { HeddleError } from "../../src/ir/error.ts";
import type { Learner } from "./learner.ts";
import { ADAM, CLASSES, type Layer, type Problem, SIDE, transposed } from "./networks.ts";

export const TFJS = ["@tensorflow/tfjs", "@tensorflow/tfjs-backend-wasm"] as const;

/** What is used of TensorFlow.js, described here so that this compiles without the package. */
interface TfTensor {
  readonly shape: number[];
  data(): Promise<Float32Array>;
  dispose(): void;
  add(b: TfTensor): TfTensor;
  relu(): TfTensor;
  reshape(shape: readonly number[]): TfTensor;
  transpose(order: readonly number[]): TfTensor;
  reverse(axes: readonly number[]): TfTensor;
  sum(axes: readonly number[]): TfTensor;
}
interface TfOptimizer {
  minimize(f: () => TfTensor, returnCost: true, variables: readonly TfTensor[]): TfTensor;
  dispose(): void;
}
interface Tf {
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  getBackend(): string;
  tensor(data: Float32Array, shape: readonly number[]): TfTensor;
  variable(initial: TfTensor): TfTensor;
  matMul(a: TfTensor, b: TfTensor): TfTensor;
  conv2d(x: TfTensor, filter: TfTensor, strides: number, pad: number | "same"): TfTensor;
  maxPool(x: TfTensor, size: number, strides: number, pad: "valid"): TfTensor;
  customGrad(
    f: (...args: never[]) => { value: TfTensor; gradFunc: (dy: TfTensor, saved: TfTensor[]) => TfTensor | TfTensor[] },
  ): (...args: TfTensor[]) => TfTensor;
  tidy<T>(f: () => T): T;
  readonly losses: { softmaxCrossEntropy(oneHot: TfTensor, logits: TfTensor): TfTensor };
  readonly train: {
    adam(rate: number, beta1: number, beta2: number, epsilon: number): TfOptimizer;
    sgd(rate: number): TfOptimizer;
  };
}

type Save = (tensors: TfTensor[]) => void;

export async function openTfjs(problem: Problem): Promise<Learner> {
  const tf = await importPackage<Tf>(TFJS[0]);
  await importPackage(TFJS[1]); // registers itself
  if (!(await tf.setBackend("wasm"))) throw new HeddleError("missing", `${TFJS[1]} does not start`);
  await tf.ready();
  const variables = variablesOf(tf, problem);
  const inputs = problem.batches.map(({ images, oneHot }) => ({
    x: tf.tensor(images, [problem.batch, SIDE, SIDE, 1]), // with one channel, channels last is the same
    y: tf.tensor(oneHot, [problem.batch, CLASSES]),
  }));
  const { beta1, beta2, epsilon } = ADAM;
  const optimizer =
    problem.optimizer === "adam" ? tf.train.adam(problem.learningRate, beta1, beta2, epsilon) : tf.train.sgd(problem.learningRate);
  return {
    name: "tfjs",
    version: packageVersion(TFJS[0]) ?? "unknown",
    async step(at) {
      const { x, y } = inputs[at % inputs.length];
      const cost = optimizer.minimize(() => tf.losses.softmaxCrossEntropy(y, forwardOf(tf, problem.layers, variables, x)), true, variables);
      const [loss] = await cost.data();
      cost.dispose();
      return loss;
    },
    close() {
      for (const t of [...variables, ...inputs.flatMap(({ x, y }) => [x, y])]) t.dispose();
      optimizer.dispose();
    },
  };
}

/** Dense weights as (inputs, outputs), filters as (3, 3, inputs, outputs); pictures are channels-last, so that flattening gives another order. */
function variablesOf(tf: Tf, { layers, weights }: Problem): TfTensor[] {
  const rest = weights.values();
  return layers.flatMap((layer, i) => {
    if (layer.k !== "dense" && layer.k !== "conv") return [];
    const { weight, bias } = rest.next().value!; // as many as such layers
    const { inputs, outputs } = layer;
    const flat = layers[i - 1];
    const [data, shape] =
      layer.k === "conv"
        ? [transposed(weight, [outputs, inputs, 9], [2, 1, 0]), [3, 3, inputs, outputs]]
        : flat?.k === "flatten"
          ? [transposed(weight, [outputs, flat.channels, flat.side ** 2], [2, 1, 0]), [inputs, outputs]]
          : [transposed(weight, [outputs, inputs], [1, 0]), [inputs, outputs]];
    return [tf.variable(tf.tensor(data, shape)), tf.variable(tf.tensor(bias, [outputs]))];
  });
}

function forwardOf(tf: Tf, layers: readonly Layer[], variables: readonly TfTensor[], images: TfTensor): TfTensor {
  const rest = variables.values();
  const next = (): TfTensor => rest.next().value!; // as many as the layers take
  const first = layers.find(({ k }) => k === "dense" || k === "conv"); // whose input needs no gradient
  return layers.reduce((x, layer) => {
    switch (layer.k) {
      case "dense":
        return dense(tf, x, next(), layer !== first).add(next());
      case "conv":
        return convolution(tf, x, next(), layer !== first).add(next());
      case "relu":
        return x.relu();
      case "pool":
        return tf.maxPool(x, 2, 2, "valid");
      case "flatten":
        return x.reshape([x.shape[0], layer.channels * layer.side ** 2]);
      default:
        return layer satisfies never;
    }
  }, images);
}

/** Gradients of products with the operands turned first: the backend is fast at products of operands as they lie only. */
function dense(tf: Tf, x: TfTensor, weights: TfTensor, needsInputGradient: boolean): TfTensor {
  const weightGradient = (input: TfTensor, dy: TfTensor): TfTensor => tf.matMul(input.transpose([1, 0]), dy);
  const both = (input: TfTensor, w: TfTensor, save: Save) => {
    save([input, w]);
    return {
      value: tf.matMul(input, w),
      gradFunc: (dy: TfTensor, [input, w]: TfTensor[]) => [tf.matMul(dy, w.transpose([1, 0])), weightGradient(input, dy)],
    };
  };
  const one = (w: TfTensor, save: Save) => {
    save([x]);
    return { value: tf.matMul(x, w), gradFunc: (dy: TfTensor, [input]: TfTensor[]) => weightGradient(input, dy) };
  };
  return needsInputGradient ? tf.customGrad(both)(x, weights) : tf.customGrad(one)(weights);
}

/**
 * The backend has no kernel for the gradient of a filter, and its kernel for that of the input is slow: both are written as convolutions here, which it is
 * fast at.
 */
function convolution(tf: Tf, x: TfTensor, filter: TfTensor, needsInputGradient: boolean): TfTensor {
  const filterGradient = (input: TfTensor, dy: TfTensor): TfTensor =>
    tf.conv2d(input.transpose([3, 1, 2, 0]), dy.transpose([1, 2, 0, 3]), 1, 1).transpose([1, 2, 0, 3]); // channels as the batch, the batch as channels
  const inputGradient = (w: TfTensor, dy: TfTensor): TfTensor => tf.conv2d(dy, w.reverse([0, 1]).transpose([0, 1, 3, 2]), 1, "same");
  const both = (input: TfTensor, w: TfTensor, save: Save) => {
    save([input, w]);
    return {
      value: tf.conv2d(input, w, 1, "same"),
      gradFunc: (dy: TfTensor, [input, w]: TfTensor[]) => [inputGradient(w, dy), filterGradient(input, dy)],
    };
  };
  const one = (w: TfTensor) => ({ value: tf.conv2d(x, w, 1, "same"), gradFunc: (dy: TfTensor) => filterGradient(x, dy) });
  return needsInputGradient ? tf.customGrad(both)(x, filter) : tf.customGrad(one)(filter);
}
