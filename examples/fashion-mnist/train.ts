// Learns Fashion-MNIST: settings → a trained network, its accuracy on the test pictures, and how fast it went.
import { createHash } from "node:crypto";
import { crossEntropy } from "../../src/nn/index.ts";
import { AdamW, schedule } from "../../src/optim/index.ts";
import { jit, key, random, setDevice, type Tensor, valueAndGrad } from "../../src/tensor/index.ts";
import { type Images, inOrder, readImages, shuffled } from "./images.ts";
import { type Network, type NetworkName, networkOf } from "./networks.ts";

export interface Settings {
  readonly network: NetworkName;
  readonly epochs: number;
  readonly batch: number;
  readonly learningRate: number;
  readonly seed: number;
  /** Default: all cores. */
  readonly threads?: number;
  readonly data?: string;
  /** Ends before the epochs do: for tests. */
  readonly maxSteps?: number;
}

export interface Progress {
  readonly epoch: number;
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  readonly stepsPerSecond: number;
}

export interface Result {
  /** Mean losses of a tenth of an epoch each. */
  readonly losses: readonly number[];
  /** Of the test pictures, after each epoch. */
  readonly accuracies: readonly number[];
  readonly seconds: number;
  readonly stepsPerSecond: number;
  /** Of the forward pass three times over: backward counts double. */
  readonly gflops: number;
  /** SHA-256 of all weights: equal for equal seeds. */
  readonly digest: string;
}

/** Two programs: a step of learning, and a count of right answers. Each knows whether it is training when it is traced. */
function programsOf(model: Network, { learningRate }: Settings, steps: number) {
  const parameters = model.parameters();
  const optimizer = new AdamW(parameters, {
    learningRate: schedule.oneCycle(learningRate, steps, { up: 0.2 }),
    weightDecay: 0.02,
    decays: (p) => p.shape.length > 1,
  });
  const step = jit((images: Tensor, labels: Tensor) => {
    model.train();
    const { value, grads } = valueAndGrad(() => crossEntropy(model.forward(images), labels, { labelSmoothing: 0.05 }), parameters);
    optimizer.step(grads);
    return value;
  });
  const count = jit((images: Tensor, labels: Tensor) => {
    model.eval();
    return model.forward(images).argmax(1).eq(labels).cast("i32").sum();
  });
  return { step, count };
}

async function accuracyOf(count: (images: Tensor, labels: Tensor) => Tensor, images: Images): Promise<number> {
  let right = 0;
  for (const batch of inOrder(images, 500)) right += await count(batch.images, batch.labels).item();
  return right / images.count;
}

async function digestOf(model: Network): Promise<string> {
  const hash = createHash("sha256");
  for (const { data } of Object.values(await model.stateDict())) hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return hash.digest("hex");
}

export async function train(settings: Settings, report: (progress: Progress) => void = () => {}): Promise<Result> {
  const { epochs, batch, seed, data, threads, maxSteps = Number.POSITIVE_INFINITY } = settings;
  if (threads !== undefined) setDevice({ threads });
  const [learned, judged] = await Promise.all([readImages("train", data), readImages("t10k", data)]);
  const model = networkOf(settings.network, seed);
  const perEpoch = Math.floor(learned.count / batch);
  const steps = Math.min(maxSteps, epochs * perEpoch);
  const { step, count } = programsOf(model, settings, steps);
  const losses: number[] = [];
  const accuracies: number[] = [];
  let [done, learnedMs] = [0, 0];
  for (let epoch = 0; epoch < epochs && done < steps; epoch++) {
    let pending: Tensor[] = [];
    let start = performance.now();
    for await (const { images, labels } of shuffled(learned, batch, random.fold(key(seed), epoch), settings.network === "cnn")) {
      pending.push(step(images, labels));
      done++;
      if (pending.length < Math.ceil(perEpoch / 10) && done < steps && done % perEpoch) continue;
      const loss = (await Promise.all(pending.map((t) => t.item()))).reduce((a, b) => a + b) / pending.length;
      const now = performance.now();
      learnedMs += now - start;
      report({ epoch: epoch + 1, step: done, steps, loss, stepsPerSecond: pending.length / ((now - start) / 1000) });
      losses.push(loss);
      pending = [];
      start = now;
      if (done >= steps) break;
    }
    accuracies.push(await accuracyOf(count, judged));
  }
  const digest = await digestOf(model);
  step.dispose();
  count.dispose();
  const stepsPerSecond = done / (learnedMs / 1000);
  return {
    losses,
    accuracies,
    seconds: learnedMs / 1000,
    stepsPerSecond,
    gflops: (3 * batch * model.flops * stepsPerSecond) / 1e9,
    digest,
  };
}
