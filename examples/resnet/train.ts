// Learns to tell pictures apart: a network and pictures → the network trained, and how many of others it tells right.
import { crossEntropy } from "../../src/nn/index.ts";
import { AdamW, schedule } from "../../src/optim/index.ts";
import { jit, key, random, type Tensor, valueAndGrad } from "../../src/tensor/index.ts";
import { type Images, inOrder, shuffled } from "../fashion-mnist/images.ts";
import type { ResNet } from "./network.ts";

export interface Settings {
  readonly epochs: number;
  readonly batch: number;
  /** The largest of a cycle. */
  readonly learningRate: number;
  readonly seed: number;
  /** Ends before the epochs do. */
  readonly maxSteps?: number;
}

export interface Trained {
  /** Of each step. */
  readonly losses: readonly number[];
  readonly steps: number;
  readonly seconds: number;
}

/** Steps between reports, which wait for the numbers. */
const EVERY = 50;

export async function train(
  model: ResNet,
  images: Images,
  { epochs, batch, learningRate, seed, maxSteps = Number.POSITIVE_INFINITY }: Settings,
  report: (step: number, steps: number, loss: number) => void = () => {},
): Promise<Trained> {
  const steps = Math.min(maxSteps, epochs * Math.floor(images.count / batch));
  const parameters = model.parameters();
  const optimizer = new AdamW(parameters, {
    learningRate: schedule.oneCycle(learningRate, steps, { up: 0.2 }),
    weightDecay: 0.05,
    decays: (p) => p.shape.length > 1,
  });
  const step = jit((x: Tensor, labels: Tensor) => {
    model.train();
    const { value, grads } = valueAndGrad(() => crossEntropy(model.forward(x), labels, { labelSmoothing: 0.05 }), parameters);
    optimizer.step(grads);
    return value;
  });
  const pending: Tensor[] = [];
  const start = performance.now();
  for (let epoch = 0; pending.length < steps; epoch++) {
    for await (const { images: x, labels } of shuffled(images, batch, random.fold(key(seed), epoch), true)) {
      const loss = step(x, labels);
      pending.push(loss);
      if (pending.length % EVERY === 0) report(pending.length, steps, await loss.item());
      if (pending.length === steps) break;
    }
  }
  const losses = await Promise.all(pending.map((t) => t.item()));
  step.dispose();
  return { losses, steps, seconds: (performance.now() - start) / 1000 };
}

/** The part of the pictures that the network tells right. */
export async function evaluate(model: ResNet, images: Images, batch = 500): Promise<number> {
  const count = jit((x: Tensor, labels: Tensor) => {
    model.eval();
    return model.forward(x).argmax(1).eq(labels).cast("i32").sum();
  });
  let right = 0;
  for (const { images: x, labels } of inOrder(images, batch)) right += await count(x, labels).item();
  count.dispose();
  return right / images.count;
}
