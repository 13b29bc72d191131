// A language model of one attention layer that learns a line of text, on any device.
import type { DeviceOptions } from "../../src/devices/open.ts";
import { crossEntropy, Embedding, MultiheadAttention, RandomStream } from "../../src/nn/index.ts";
import { type Adam, AdamW } from "../../src/optim/index.ts";
import { jit, setDevice, type Tensor, tensor, valueAndGrad } from "../../src/tensor/index.ts";

const VOCABULARY = 29;

export interface TextModel {
  /** Of two heads together. */
  readonly width: number;
  /** Of attention's weights; the second line's first tokens are hidden as well. Default 0: nothing is hidden. */
  readonly dropout?: number;
  readonly optimizer?: typeof Adam;
}

/** Losses of 4 steps in 16 bits, and how many nodes of a step took time that was measured. */
export async function learnText(
  options: DeviceOptions,
  { width, dropout = 0, optimizer: Optimizer = AdamW }: TextModel,
): Promise<{ losses: number[]; nodes: number }> {
  setDevice(options);
  const random = new RandomStream(3);
  const table = new Embedding(VOCABULARY, width, { key: random, deviation: 0.3 });
  const layer = new MultiheadAttention(width, 2, { key: random, dropout, random });
  const parameters = [table, layer].flatMap((m) => m.parameters());
  const optimizer = new Optimizer(parameters, { learningRate: 0.01 });
  const seen = Array.from({ length: 24 }, (_, i) => (i < 9 || i >= 12 ? 1 : 0));
  const mask = dropout > 0 ? tensor(seen, "bool").reshape([2, 1, 1, 12]) : undefined;
  const attended = (x: Tensor): Tensor => x.add(layer.forward(x, x, x, { causal: true, mask }));
  using step = jit(
    (tokens: Tensor, next: Tensor) => {
      const logits = () => attended(table.forward(tokens)).reshape([-1, width]).matmul(table.weight.value.transpose());
      const { value, grads } = valueAndGrad(() => crossEntropy(logits(), next.reshape([-1])), parameters);
      optimizer.step(grads);
      return value;
    },
    { precision: "bf16" },
  );
  const line = Array.from({ length: 25 }, (_, i) => (i * i * 7) % VOCABULARY);
  const tokens = (from: number) => tensor([line.slice(from, from + 12), line.slice(from + 12, from + 24)], "i32");
  const losses: number[] = [];
  for (let i = 0; i < 4; i++) losses.push(await step(tokens(0), tokens(1)).item());
  return { losses, nodes: (await step.profile(tokens(0), tokens(1))).filter(({ ms }) => ms >= 0).length };
}
