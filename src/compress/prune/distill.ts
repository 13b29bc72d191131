// A pruned network learns to give the dense one's outputs (Hinton et al. 2015), from inputs alone; its masks hold.
import { permutation, Random } from "../../data/random.ts";
import { isFloat } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";
import type { Graph } from "../../ir/graph.ts";
import { klDivergence, type OnnxModule } from "../../nn/index.ts";
import { Adam, clipGradNorm, schedule } from "../../optim/index.ts";
import { applyGraph, fromData, jit, type Tensor, valueAndGrad } from "../../tensor/index.ts";
import { type Batch, shapesOf } from "./calibrate.ts";
import type { Masks } from "./masked.ts";

export interface DistillOptions {
  readonly steps: number;
  /** The largest of one cycle. Default 5e-4. */
  readonly learningRate?: number;
  /** Inputs of both networks, one batch a step: in a new random order each time round, or made for each step. */
  readonly batches: readonly Batch[] | ((step: number) => Batch);
  readonly seed?: number;
  /** Told the loss of every step whose number divides by `every`, 10 by default. */
  readonly report?: (step: number, loss: number) => void;
  readonly every?: number;
}

/** Gradients are no longer than this together: the first steps after pruning are steep. */
const MAX_NORM = 1;

/** An output, and whether it is what a softmax gives probabilities of. */
interface Target {
  readonly name: string;
  readonly axis: number | null;
}

/** The graph whose outputs are logits where the network gives probabilities, and floats only. */
function withLogits(graph: Graph): { readonly graph: Graph; readonly targets: readonly Target[] } {
  const floats = graph.outputs.filter(({ value }) => isFloat(value.type.dtype));
  const outputs = floats.map(({ name, value }) => {
    const { op, inputs, attrs } = value.node;
    const isSoftmax = op.name === "Softmax";
    return { name, value: isSoftmax ? inputs[0]! : value, axis: isSoftmax ? (attrs.axis as number) : null }; // a softmax has an input and an axis
  });
  if (outputs.length === 0) throw new HeddleError("unsupported", "distill: the network has no output of floats");
  return { graph: { inputs: graph.inputs, outputs }, targets: outputs };
}

function outputsOf(
  network: OnnxModule,
  inputs: Record<string, Tensor>,
): { readonly values: Record<string, Tensor>; readonly targets: readonly Target[] } {
  const { graph, targets } = withLogits(network.graph(shapesOf(inputs)));
  const weights = Object.fromEntries([...network.namedState()].map(([name, { value }]) => [name, value]));
  return { values: applyGraph(graph, { ...inputs, ...weights }), targets };
}

/** Of probabilities their divergence, the mean over all places; of other outputs the squared distance in parts of their squared length. */
function distance(got: Tensor, wanted: Tensor, axis: number | null): Tensor {
  if (axis === null) return got.sub(wanted).square().sum().div(wanted.square().sum().add(1e-12)); // biome-ignore format: a formula
  const places = got.shape.reduce((n, d) => n * d, 1) / got.shape.at(axis)!; // an axis of its own
  return klDivergence(got.logSoftmax(axis), wanted.softmax(axis), "sum").div(places);
}

/** Each once, then each once again in another order. */
function inRandomOrder(batches: readonly Batch[], seed: number): (step: number) => Batch {
  if (batches.length === 0) throw new HeddleError("bad-argument", "distill: there are no inputs");
  let order: Uint32Array = new Uint32Array(0);
  return (step) => {
    const place = step % batches.length;
    if (place === 0 || order.length === 0) order = permutation(batches.length, new Random(seed, Math.floor(step / batches.length)));
    return batches[order[place]];
  };
}

/** Trains `pruned`. Returns the losses of all steps. Throws HeddleError ("bad-argument", "unsupported"). */
export async function distill(dense: OnnxModule, pruned: OnnxModule, masks: Masks, options: DistillOptions): Promise<readonly number[]> {
  const { steps, learningRate = 5e-4, batches, seed = 1, report = () => {}, every = 10 } = options;
  const batchOf = typeof batches === "function" ? batches : inRandomOrder(batches, seed);
  const parameters = pruned.parameters();
  const optimizer = new Adam(parameters, { learningRate: schedule.oneCycle(learningRate, steps, { up: 0.1 }) });
  const step = jit((inputs: Record<string, Tensor>) => {
    const wanted = outputsOf(dense, inputs);
    const { value, grads } = valueAndGrad(() => {
      const { values, targets } = outputsOf(pruned, inputs);
      return targets.map(({ name, axis }) => distance(values[name], wanted.values[name], axis)).reduce((a, b) => a.add(b));
    }, parameters);
    masks.step(optimizer, clipGradNorm(grads, MAX_NORM).grads);
    return value;
  });
  const losses: Tensor[] = [];
  try {
    for (let i = 0; i < steps; i++) {
      const loss = step(Object.fromEntries(Object.entries(batchOf(i)).map(([name, data]) => [name, fromData(data)])));
      losses.push(loss);
      if (losses.length % every === 0) report(losses.length, await loss.item());
    }
    return await Promise.all(losses.map((loss) => loss.item()));
  } finally {
    step.dispose();
  }
}
