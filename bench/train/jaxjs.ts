// The benchmark's networks in jax-js with its WebAssembly backend, which in Node runs on one thread: one compiled function a step.
import { importPackage, packageVersion } from "../../src/cli/packages.ts";
import type { Learner } from "./learner.ts";
import { ADAM, CLASSES, type Layer, type Problem, SIDE, transposed } from "./networks.ts";

export const JAXJS = ["@jax-js/jax"] as const;

/** What is used of jax-js, described here so that this compiles without the package. Functions and methods consume their arrays; `ref` gives one more to consume. */
interface JaxArray {
  readonly ref: JaxArray;
  readonly shape: readonly number[];
  data(): Promise<Float32Array>;
  dispose(): void;
  add(b: JaxArray | number): JaxArray;
  sub(b: JaxArray | number): JaxArray;
  mul(b: JaxArray | number): JaxArray;
  div(b: JaxArray | number): JaxArray;
  sum(): JaxArray;
  reshape(shape: readonly number[]): JaxArray;
  transpose(order: readonly number[]): JaxArray;
  /** Of each axis all, or a stretch. */
  slice(...axes: readonly (readonly [] | readonly [from: number, to: number])[]): JaxArray;
}
type Arrays = JaxArray[];
interface Jax {
  init(...devices: string[]): Promise<string[]>;
  defaultDevice(device: string): string;
  jit<A extends readonly unknown[], R>(f: (...args: A) => R): ((...args: A) => R) & { dispose(): void };
  valueAndGrad<A extends readonly unknown[]>(f: (...args: A) => JaxArray): (...args: A) => [JaxArray, A[0]];
  blockUntilReady<T>(x: T): Promise<T>;
  readonly numpy: {
    array(data: Float32Array | number): JaxArray;
    matmul(a: JaxArray, b: JaxArray): JaxArray;
    pad(x: JaxArray, widths: readonly (readonly [number, number])[]): JaxArray;
    concatenate(arrays: readonly JaxArray[], axis: number): JaxArray;
    max(x: JaxArray, axes: readonly number[]): JaxArray;
    sqrt(x: JaxArray): JaxArray;
    square(x: JaxArray): JaxArray;
  };
  readonly nn: { relu(x: JaxArray): JaxArray; logSoftmax(x: JaxArray): JaxArray };
}

/** What a step changes. */
type State = { readonly parameters: Arrays; readonly means: Arrays; readonly squares: Arrays };

export async function openJaxjs(problem: Problem): Promise<Learner> {
  const jax = await importPackage<Jax>(JAXJS[0]);
  await jax.init("wasm");
  jax.defaultDevice("wasm");
  const np = jax.numpy;
  const inputs = problem.batches.map(({ images, oneHot }) => ({
    x: np.array(images).reshape([problem.batch, 1, SIDE, SIDE]),
    y: np.array(oneHot).reshape([problem.batch, CLASSES]),
  }));
  const lossOf = (parameters: Arrays, x: JaxArray, y: JaxArray): JaxArray =>
    jax.nn
      .logSoftmax(forwardOf(jax, problem.layers, parameters, x))
      .mul(y)
      .sum()
      .mul(-1 / problem.batch);
  const update = problem.optimizer === "adam" ? adam(jax) : sgd();
  const step = jax.jit((state: State, x: JaxArray, y: JaxArray, rate: JaxArray, spread: JaxArray): [JaxArray, State] => {
    const [loss, grads] = jax.valueAndGrad(lossOf)(state.parameters.map((p) => p.ref), x, y); // biome-ignore format: short
    return [loss, update(state, grads, rate, spread)];
  });
  let state = firstState(jax, problem);
  let count = 0;
  return {
    name: "jaxjs",
    version: packageVersion(JAXJS[0]) ?? "unknown",
    async step(at) {
      const { x, y } = inputs[at % inputs.length];
      count++;
      const isAdam = problem.optimizer === "adam";
      const rate = problem.learningRate / (isAdam ? 1 - ADAM.beta1 ** count : 1);
      const spread = isAdam ? 1 / Math.sqrt(1 - ADAM.beta2 ** count) : 1;
      const [loss, next] = step(state, x.ref, y.ref, np.array(rate), np.array(spread));
      state = next;
      await jax.blockUntilReady(state);
      return (await loss.data())[0];
    },
    close() {
      for (const a of [...state.parameters, ...state.means, ...state.squares, ...inputs.flatMap(({ x, y }) => [x, y])]) a.dispose();
      step.dispose();
    },
  };
}

/** Dense weights as (inputs, outputs), convolutions' as (outputs, inputs, 3, 3). */
function firstState({ numpy: np }: Jax, { layers, weights, optimizer }: Problem): State {
  const withWeights = layers.filter((layer) => layer.k === "dense" || layer.k === "conv");
  const given = withWeights.flatMap(({ k, inputs, outputs }, i): [Float32Array, number[]][] => [
    k === "conv"
      ? [weights[i].weight, [outputs, inputs, 3, 3]]
      : [transposed(weights[i].weight, [outputs, inputs], [1, 0]), [inputs, outputs]],
    [weights[i].bias, [outputs]],
  ]);
  const arrays = (of: (data: Float32Array) => Float32Array): Arrays => given.map(([data, shape]) => np.array(of(data)).reshape(shape));
  const zeros = (): Arrays => (optimizer === "adam" ? arrays((data) => new Float32Array(data.length)) : []);
  return { parameters: arrays((data) => data), means: zeros(), squares: zeros() };
}

function forwardOf({ numpy: np, nn }: Jax, layers: readonly Layer[], parameters: Arrays, images: JaxArray): JaxArray {
  const rest = parameters.values();
  const next = (): JaxArray => rest.next().value!; // as many as the layers take
  return layers.reduce((x, layer) => {
    const { shape } = x;
    switch (layer.k) {
      case "dense":
        return np.matmul(x, next()).add(next());
      case "conv":
        return convolution(np, x, next(), layer).add(next().reshape([1, layer.outputs, 1, 1]));
      case "relu":
        return nn.relu(x);
      case "pool":
        return np.max(x.reshape([shape[0], layer.channels, layer.side / 2, 2, layer.side / 2, 2]), [3, 5]);
      case "flatten":
        return x.reshape([shape[0], layer.channels * layer.side ** 2]);
      default:
        return layer satisfies never;
    }
  }, images);
}

/** As a product of the patches under all windows: much faster there than its own convolution and the gradients of that. */
function convolution(np: Jax["numpy"], x: JaxArray, filter: JaxArray, { inputs, outputs, side }: Layer & { k: "conv" }): JaxArray {
  const [batch] = x.shape;
  const padded = np.pad(x.transpose([0, 2, 3, 1]), [[0, 0], [1, 1], [1, 1], [0, 0]]); // biome-ignore format: short
  const taps = [0, 1, 2].flatMap((i) => [0, 1, 2].map((j) => padded.ref.slice([], [i, i + side], [j, j + side], [])));
  padded.dispose();
  const patches = np.concatenate(taps, 3).reshape([batch * side ** 2, 9 * inputs]);
  const columns = filter.transpose([2, 3, 1, 0]).reshape([9 * inputs, outputs]);
  return np.matmul(patches, columns).reshape([batch, side, side, outputs]).transpose([0, 3, 1, 2]);
}

type Update = (state: State, grads: Arrays, rate: JaxArray, spread: JaxArray) => State;

const sgd = (): Update => (state, grads, rate, spread) => {
  spread.dispose();
  const parameters = state.parameters.map((p, i) => p.sub(grads[i].mul(rate.ref)));
  rate.dispose();
  return { parameters, means: [], squares: [] };
};

/** `rate` and `spread` hold the corrections for means that start at 0. */
function adam({ numpy: np }: Jax): Update {
  const { beta1, beta2, epsilon } = ADAM;
  return (state, grads, rate, spread) => {
    const means = state.means.map((mean, i) => mean.mul(beta1).add(grads[i].ref.mul(1 - beta1)));
    const squares = state.squares.map((square, i) => square.mul(beta2).add(np.square(grads[i]).mul(1 - beta2)));
    const parameters = state.parameters.map((p, i) => {
      const root = np.sqrt(squares[i].ref).mul(spread.ref).add(epsilon);
      return p.sub(means[i].ref.mul(rate.ref).div(root));
    });
    rate.dispose();
    spread.dispose();
    return { parameters, means, squares };
  };
}
