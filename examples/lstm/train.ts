// Learns where words end: letters → a network trained, and how well it finds the ends in other letters.
import { bceWithLogits } from "../../src/nn/index.ts";
import { AdamW, clipGradNorm, schedule } from "../../src/optim/index.ts";
import { jit, key, random, type Tensor, valueAndGrad } from "../../src/tensor/index.ts";
import type { Segmenter } from "./network.ts";
import { type Letters, randomWindows, windows } from "./text.ts";

export interface Settings {
  readonly steps: number;
  readonly batch: number;
  /** Letters that are seen at once. */
  readonly length: number;
  /** The largest of a cycle. */
  readonly learningRate: number;
  readonly seed: number;
}

export interface Trained {
  /** Of each step. */
  readonly losses: readonly number[];
  readonly seconds: number;
}

/** Steps between reports, which wait for the numbers. */
const EVERY = 25;

export async function train(
  model: Segmenter,
  text: Letters,
  { steps, batch, length, learningRate, seed }: Settings,
  report: (step: number, loss: number) => void = () => {},
): Promise<Trained> {
  const parameters = model.parameters();
  const optimizer = new AdamW(parameters, { learningRate: schedule.oneCycle(learningRate, steps, { up: 0.1 }) });
  const step = jit((letters: Tensor, ends: Tensor) => {
    const { value, grads } = valueAndGrad(() => bceWithLogits(model.forward(letters), ends.cast("f32")), parameters);
    optimizer.step(clipGradNorm(grads, 1).grads);
    return value;
  });
  const pending: Tensor[] = [];
  const start = performance.now();
  while (pending.length < steps) {
    const { letters, ends } = await randomWindows(text, batch, length, random.fold(key(seed), pending.length));
    const loss = step(letters, ends);
    pending.push(loss);
    if (pending.length % EVERY === 0) report(pending.length, await loss.item());
  }
  const losses = await Promise.all(pending.map((t) => t.item()));
  step.dispose();
  return { losses, seconds: (performance.now() - start) / 1000 };
}

/** The ends that the network finds, in windows of which only the middle halves count: near the margins it sees one side only. */
export async function foundEnds(model: Segmenter, text: Letters, length: number, batch = 64): Promise<Uint8Array> {
  const find = jit((letters: Tensor) => model.forward(letters).gt(0).cast("u8"));
  const margin = Math.floor(length / 4);
  const stride = length - 2 * margin;
  const padded = { letters: new Uint8Array(text.letters.length + 2 * length), ends: new Uint8Array(text.letters.length + 2 * length) };
  padded.letters.set(text.letters, margin);
  const found = new Uint8Array(text.letters.length);
  for (let first = 0; first < found.length; first += batch * stride) {
    const starts = Array.from({ length: batch }, (_, i) => Math.min(first + i * stride, found.length));
    const marks = await find(windows(padded, starts, length).letters).data();
    for (const [i, start] of starts.entries())
      for (let j = 0; j < stride && start + j < found.length; j++) found[start + j] = Number(marks[i * length + margin + j]);
  }
  find.dispose();
  return found;
}

export interface Score {
  /** The part of the found ends that are ends, the part of the ends that are found, and the harmonic mean of both. */
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
}

export function scoreOf(found: Uint8Array, { ends }: Letters): Score {
  let [right, given, wanted] = [0, 0, 0];
  for (const [i, end] of ends.entries()) {
    right += end & found[i];
    given += found[i];
    wanted += end;
  }
  return { precision: right / Math.max(1, given), recall: right / Math.max(1, wanted), f1: (2 * right) / Math.max(1, given + wanted) };
}

/** How well the network finds the ends of words in a text. */
export const evaluate = async (model: Segmenter, text: Letters, length: number): Promise<Score> =>
  scoreOf(await foundEnds(model, text, length), text);
