// Calibration inputs → what each layer is fed with: squared lengths of its inputs (Wanda), or all their products (SparseGPT, least squares).
import { type AttrValue, apply, type Graph, type Value } from "../../ir/graph.ts";
import { fromNumbers, type TensorData, toNumbers } from "../../ir/tensor.ts";
import type { OnnxModule } from "../../nn/index.ts";
import { constantValue } from "../../ops/source.ts";
import { applyGraph, fromData, jit, type Tensor } from "../../tensor/index.ts";
import { type Layer, type LayerUse, layerUses } from "./layer.ts";

/** Inputs of the network by name. */
export type Batch = Readonly<Record<string, TensorData>>;
export type Weights = ReadonlyMap<string, TensorData>;

/** By a layer's name: squares (groups, columns), or products (groups, columns, columns). */
export type Sums = ReadonlyMap<string, Float64Array>;

export const shapesOf = (batch: Readonly<Record<string, { readonly shape: readonly number[] }>>): Record<string, readonly number[]> =>
  Object.fromEntries(Object.entries(batch).map(([name, { shape }]) => [name, shape]));

/** The graph with what the layers multiply as its outputs, called 0, 1, …; of convolutions, their windows. */
const withData = (graph: Graph, uses: readonly LayerUse[]): Graph => ({
  inputs: graph.inputs,
  outputs: uses.map((use, i) => ({ name: `${i}`, value: windows(use) })),
});

/**
 * Elements of windows as channels: a convolution with a kernel for each element, 1 there and 0 elsewhere. It strides, pads and dilates as
 * the layer does.
 */
function windows({ layer: { taps, shape, groups }, node: { op, attrs }, data }: LayerUse): Value {
  if (op.name !== "Conv" || (taps === 1 && all(attrs.strides, 1) && all(attrs.pads, 0))) return data;
  const channels = shape[1] * groups;
  const kernels = new Float32Array(channels * taps * taps);
  for (let c = 0; c < channels * taps; c++) kernels[c * taps + (c % taps)] = 1;
  const weight = fromNumbers(data.type.dtype, [channels * taps, 1, ...shape.slice(2)], kernels);
  return apply(op, [data, constantValue(weight)], { ...attrs, group: channels })[0];
}

/** Whether a list attribute is absent or has this number only. */
const all = (attr: AttrValue, number: number): boolean => !Array.isArray(attr) || attr.every((n) => n === number);

/** What the rows of each group weigh, (groups, columns, positions). */
function columnsOf({ layer: { columns, groups }, node }: LayerUse, data: Tensor): Tensor {
  if (node.op.name !== "Conv") return data.reshape([-1, columns]).transpose().reshape([1, columns, -1]).cast("f32");
  const positions = data.reshape([data.shape[0], groups * columns, -1]).transpose([1, 0, 2]);
  return positions.reshape([groups, columns, -1]).cast("f32");
}

/** Sums over all batches, in float64. `collect` gives what one batch adds, by layer. */
async function summed(batches: readonly Batch[], collect: (batch: Record<string, Tensor>) => Record<string, Tensor>): Promise<Sums> {
  const sums = new Map<string, Float64Array>();
  const compiled = jit(collect);
  try {
    for (const batch of batches) {
      const added = compiled(Object.fromEntries(Object.entries(batch).map(([name, data]) => [name, fromData(data)])));
      for (const [name, tensor] of Object.entries(added)) {
        const numbers = toNumbers(await tensor.tensorData());
        const sum = sums.get(name) ?? new Float64Array(numbers.length);
        for (let i = 0; i < sum.length; i++) sum[i] += numbers[i];
        sums.set(name, sum);
      }
    }
  } finally {
    compiled.dispose();
  }
  return sums;
}

/** A function of each layer's windows, summed over the nodes that use the layer. */
function perLayer(
  network: OnnxModule,
  layers: readonly Layer[],
  inputs: Record<string, Tensor>,
  f: (use: LayerUse, i: number) => Tensor,
): Record<string, Tensor> {
  const out: Record<string, Tensor> = {};
  for (const [i, use] of usesIn(network, layers, inputs).entries()) {
    const { name } = use.layer;
    const value = f(use, i);
    out[name] = Object.hasOwn(out, name) ? out[name].add(value) : value;
  }
  return out;
}

const usesIn = (network: OnnxModule, layers: readonly Layer[], inputs: Record<string, Tensor>): LayerUse[] =>
  layerUses(network.graph(shapesOf(inputs)), new Set(layers.map(({ name }) => name)));

const run = (network: OnnxModule, layers: readonly Layer[], inputs: Record<string, Tensor>): Record<string, Tensor> =>
  applyGraph(withData(network.graph(shapesOf(inputs)), usesIn(network, layers, inputs)), {
    ...inputs,
    ...Object.fromEntries([...network.namedState()].map(([name, { value }]) => [name, value])),
  });

/** Σ x² of each layer's inputs. */
export const inputSquares = (network: OnnxModule, layers: readonly Layer[], batches: readonly Batch[]): Promise<Sums> =>
  summed(batches, (inputs) => {
    const data = run(network, layers, inputs);
    return perLayer(network, layers, inputs, (use, i) => columnsOf(use, data[i]).square().sum(2));
  });

/** Σ x·xᵀ of each layer's inputs. */
export const inputProducts = (network: OnnxModule, layers: readonly Layer[], batches: readonly Batch[]): Promise<Sums> =>
  summed(batches, (inputs) => {
    const data = run(network, layers, inputs);
    return perLayer(network, layers, inputs, (use, i) => products(columnsOf(use, data[i]), columnsOf(use, data[i])));
  });

/** Σ x·xᵀ and Σ z·xᵀ, where z is what a layer of the first network is fed with, and x what the same layer of the second is. */
export async function fedProducts(
  first: OnnxModule,
  second: OnnxModule,
  layers: readonly Layer[],
  batches: readonly Batch[],
): Promise<{ readonly grams: Sums; readonly crosses: Sums }> {
  const sums = await summed(batches, (inputs) => {
    const [z, x] = [first, second].map((network) => run(network, layers, inputs));
    const withSecond = (fed: Record<string, Tensor>) =>
      perLayer(first, layers, inputs, (use, i) => products(columnsOf(use, fed[i]), columnsOf(use, x[i])));
    const [grams, crosses] = [withSecond(x), withSecond(z)].map(Object.entries<Tensor>);
    return Object.fromEntries([...grams.map(([name, sum]) => [`x ${name}`, sum]), ...crosses.map(([name, sum]) => [`z ${name}`, sum])]);
  });
  const part = (kind: "x" | "z"): Sums => new Map(layers.map(({ name }) => [name, sums.get(`${kind} ${name}`)!])); // as they were called
  return { grams: part("x"), crosses: part("z") };
}

const products = (a: Tensor, b: Tensor): Tensor => a.matmul(b.transpose([0, 2, 1]));

/** Of one group, from sums of all. */
export const groupPart = (sums: Float64Array, { groups }: Layer, group: number): Float64Array =>
  sums.subarray((sums.length / groups) * group, (sums.length / groups) * (group + 1));
