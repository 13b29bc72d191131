// A training for tests: which of three directions a point lies in, with dropout, batch statistics and averages, so that a run has all kinds of state.
import { defineTraining, nn, optim, random, data as sources } from "../../src/train/index.ts";

class TinyNet extends nn.Module {
  readonly hidden: nn.Linear;
  readonly norm = new nn.BatchNorm1d(16);
  readonly drop: nn.Dropout;
  readonly out: nn.Linear;

  constructor(stream: nn.RandomStream) {
    super();
    this.hidden = new nn.Linear(8, 16, { key: stream });
    this.drop = new nn.Dropout(0.1, stream);
    this.out = new nn.Linear(16, 3, { key: stream });
  }
  forward(x: Parameters<nn.Linear["forward"]>[0]) {
    return this.out.forward(this.drop.forward(this.norm.forward(this.hidden.forward(x)).relu()));
  }
}

/** Points around three corners. */
export async function points(count: number, seed: number): Promise<sources.TensorDataset<"x" | "y">> {
  const noise = await random.normal(random.fold(new nn.RandomStream(seed).next(), 1), [count, 8]).numbers();
  const y = Int32Array.from({ length: count }, (_, i) => i % 3);
  const x = Float32Array.from(noise, (n, i) => n + (i % 8 === y[i >> 3] ? 2 : 0));
  return new sources.TensorDataset({
    x: { dtype: "f32", shape: [count, 8], data: x },
    y: { dtype: "i32", shape: [count], data: y },
  });
}

export const tiny = defineTraining({
  name: "tiny",
  epochs: 3,
  batch: 16,
  options: {
    rate: { default: 0.01, help: "Learning rate" },
    examples: { default: 320, help: "How many points" },
    explode: { default: false, help: "Makes the loss infinite" },
    steep: { default: 1, help: "What the loss is multiplied by" },
    note: { default: "none", help: "Is not used" },
  },
  async setup({ options, random: stream }) {
    const model = new TinyNet(stream);
    return {
      model,
      data: await points(options.examples, 1),
      loss: ({ x, y }) =>
        nn
          .crossEntropy(model.forward(x), y)
          .mul(options.steep)
          .div(options.explode ? 0 : 1),
      optimizer: ({ parameters, steps }) => new optim.AdamW(parameters, { learningRate: optim.schedule.cosine(options.rate, steps) }),
      clipNorm: 5,
      ema: 0.9,
      evaluate: {
        data: await points(50, 2),
        measure: ({ x, y }) => ({ accuracy: model.forward(x).argmax(1).eq(y).cast("f32").mean() }),
      },
    };
  },
});

export default tiny;
