// Fashion-MNIST: the same network trained dense, and pruned while it learns; both for as many steps.
import { cubicSparsity, GradualPruner, type Grain } from "../../src/compress/prune/index.ts";
import { crossEntropy, Dropout, Linear, Module, RandomStream } from "../../src/nn/index.ts";
import { AdamW, schedule } from "../../src/optim/index.ts";
import { jit, key, random, type Tensor, valueAndGrad } from "../../src/tensor/index.ts";
import { type Images, inOrder, shuffled } from "../fashion-mnist/images.ts";

/** 784 → 512 → 512 → 10. */
export class Perceptron extends Module {
  readonly first: Linear;
  readonly second: Linear;
  readonly last: Linear;
  readonly dropout: Dropout;

  constructor(stream: RandomStream, dropout: number) {
    super();
    this.first = new Linear(784, 512, { key: stream });
    this.second = new Linear(512, 512, { key: stream });
    this.last = new Linear(512, 10, { key: stream });
    this.dropout = new Dropout(dropout, stream);
  }

  forward(images: Tensor): Tensor {
    const x = images.cast("f32").flatten(1).div(255).sub(0.286).div(0.353); // biome-ignore format: a formula
    const drop = (t: Tensor): Tensor => this.dropout.forward(t);
    return this.last.forward(drop(this.second.forward(drop(this.first.forward(x).relu())).relu()));
  }
}

export interface Settings {
  readonly epochs: number;
  readonly batch: number;
  readonly rate: number;
  readonly seed: number;
  /** The part of the weights of all three layers that goes; 0: none. */
  readonly sparsity: number;
  readonly dropout: number;
  readonly grain: Grain;
}

export interface Trained {
  readonly model: Perceptron;
  /** Of the test pictures. */
  readonly accuracy: number;
  /** The part of the weights that stays. */
  readonly density: number;
  readonly seconds: number;
}

/** Weights go between these parts of the steps. */
const [BEGIN, END] = [0.1, 0.65];

export async function train(learned: Images, judged: Images, settings: Settings, say: (text: string) => void): Promise<Trained> {
  const { epochs, batch, rate, seed, sparsity, dropout, grain } = settings;
  const model = new Perceptron(new RandomStream(seed), dropout);
  const steps = epochs * Math.floor(learned.count / batch);
  const parameters = model.parameters();
  const optimizer = new AdamW(parameters, {
    learningRate: schedule.oneCycle(rate, steps, { up: 0.2 }),
    weightDecay: 0.02,
    decays: (p) => p.shape.length > 1,
  });
  const part = cubicSparsity({ final: sparsity, begin: Math.round(BEGIN * steps), end: Math.round(END * steps) });
  const weights = [model.first, model.second, model.last].map((layer) => layer.weight);
  const pruner = new GradualPruner(weights, { sparsity: part, scope: "global", grain });
  const step = jit((x: Tensor, labels: Tensor) => {
    model.train();
    const { value, grads } = valueAndGrad(() => crossEntropy(model.forward(x), labels, { labelSmoothing: 0.05 }), parameters);
    if (sparsity > 0) pruner.masks.step(optimizer, grads);
    else optimizer.step(grads);
    return value;
  });
  const start = performance.now();
  let done = 0;
  for (let epoch = 0; epoch < epochs; epoch++) {
    let loss: Tensor | undefined;
    for await (const { images, labels } of shuffled(learned, batch, random.fold(key(seed), epoch), true)) {
      await pruner.before(done++);
      loss = step(images, labels);
    }
    say(
      `epoch ${epoch + 1}/${epochs}  loss ${(await loss?.item())?.toFixed(4)}  density ${((await pruner.masks.density()) * 100).toFixed(1)} %`,
    );
  }
  const seconds = (performance.now() - start) / 1000;
  step.dispose();
  return { model, accuracy: await accuracyOf(model, judged), density: await pruner.masks.density(), seconds };
}

async function accuracyOf(model: Perceptron, images: Images): Promise<number> {
  const count = jit((x: Tensor, labels: Tensor) => {
    model.eval();
    return model.forward(x).argmax(1).eq(labels).cast("i32").sum();
  });
  let right = 0;
  for (const { images: x, labels } of inOrder(images, 500)) right += await count(x, labels).item();
  count.dispose();
  return right / images.count;
}
