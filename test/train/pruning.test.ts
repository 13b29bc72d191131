// Weights pruned while a training runs: the schedule's densities, masks that hold for weights, moments and averages, and a run that goes on to the same bits.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { loadCheckpoint } from "../../src/formats/checkpoint.ts";
import { loadSafetensors } from "../../src/formats/safetensors.ts";
import { type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { defineTraining, nn, optim, prune, type RunEvent, setDevice } from "../../src/train/index.ts";
import { checkpointPath, weightsPath } from "../../src/train/run.ts";
import { points, tiny } from "./tiny.ts";

const folder = mkdtempSync(join(tmpdir(), "heddle-pruning-test-"));
afterAll(() => rmSync(folder, { recursive: true }));
setDevice({ threads: 1 });
let folders = 0;
const newOut = (): string => join(folder, `${folders++}`);

const FINAL = 0.75;
const training = defineTraining({
  name: "pruned",
  epochs: 3,
  batch: 16,
  async setup({ random }) {
    const [hidden, last] = [new nn.Linear(8, 16, { key: random }), new nn.Linear(16, 3, { key: random })];
    const model = new nn.Sequential(hidden, new nn.ReLU(), last);
    return {
      model,
      data: await points(320, 1),
      loss: ({ x, y }) => nn.crossEntropy(model.forward(x), y),
      optimizer: ({ parameters }) => new optim.AdamW(parameters, { learningRate: 0.01, weightDecay: 0.1 }),
      ema: 0.9,
      pruning: ({ steps }) =>
        new prune.GradualPruner([hidden.weight, last.weight], {
          sparsity: prune.cubicSparsity({ final: FINAL, begin: 0.2 * steps, end: 0.6 * steps }),
          scope: "global",
          every: 5,
        }),
      evaluate: {
        data: await points(50, 2),
        measure: ({ x, y }) => ({ accuracy: model.forward(x).argmax(1).eq(y).cast("f32").mean() }),
      },
    };
  },
});

const WEIGHTS = ["0.weight", "2.weight"];
const COUNT = 8 * 16 + 16 * 3;
const zerosOf = (tensors: Readonly<Record<string, TensorData>>, names: readonly string[]): number[] =>
  names.flatMap((name) => Array.from(toNumbers(tensors[name]))).flatMap((value, i) => (value === 0 ? [i] : []));

test("weights go as the schedule says, and what belongs to them", async () => {
  const out = newOut();
  const { history, isComplete } = await training.run({ out });
  expect(isComplete).toBe(true);
  const sparsity = history.epochs.map(({ metrics }) => metrics.sparsity);
  const schedule = prune.cubicSparsity({ final: FINAL, begin: 12, end: 36 });
  expect(sparsity.map((s) => Math.round(s * COUNT))).toEqual([15, 35, 60].map((step) => Math.round(schedule(step) * COUNT)));
  expect(history.epochs.at(-1)!.metrics.accuracy).toBeGreaterThan(0.8);
  const { model, optimizer, ema } = await loadCheckpoint(checkpointPath(out));
  const zeros = zerosOf(model, WEIGHTS);
  expect(zeros).toHaveLength(FINAL * COUNT);
  expect(zerosOf(ema!, WEIGHTS)).toEqual(zeros); // the run has averages
  const places = [0, 2]; // of the weights among the parameters, between biases
  for (const moment of ["exp_avg", "exp_avg_sq"]) {
    const names = places.map((i) => `state.${i}.${moment}`);
    expect(zerosOf(optimizer!, names), moment).toEqual(zeros); // AdamW remembers
  }
  expect(zerosOf((await loadSafetensors(weightsPath(out))).tensors, WEIGHTS)).toEqual(zeros);
});

test.each([10, 23, 47])("a run that was stopped after %d steps goes on to the same bits", async (steps) => {
  const out = newOut();
  const whole = await training.run({});
  await training.run({ out, steps });
  const resumed = await training.run({ out, resume: true });
  expect(resumed.digest).toBe(whole.digest);
  expect(resumed.history.epochs).toEqual(whole.history.epochs);
});

test("masks are counted in the memory that is planned", async () => {
  const events: RunEvent[] = [];
  const { stateBytes } = await training.run({ steps: 1, report: (event) => events.push(event) });
  const learned = COUNT + 16 + 3;
  const counts = 4 + 8; // of averages; steps, and the rate where the optimizer holds it
  expect(stateBytes).toBe(4 * (4 * learned + COUNT) + counts);
});

test("a checkpoint without masks is refused", async () => {
  const out = newOut();
  await tiny.run({ out, steps: 2 });
  await expect(training.run({ out, resume: true })).rejects.toThrow(/not a checkpoint of this training script/);
});
