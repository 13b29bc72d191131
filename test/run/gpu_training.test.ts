// Training on a GPU: parameters, optimizer and random words live there, and the losses follow the CPU's.
import { afterAll, describe, expect, test } from "vitest";
import type { DeviceOptions } from "../../src/devices/open.ts";
import { BatchNorm2d, Conv2d, crossEntropy, Dropout, Linear, Module, RandomStream } from "../../src/nn/index.ts";
import { Adam } from "../../src/optim/index.ts";
import { jit, key, Parameter, random, setDevice, type Tensor, tensor, valueAndGrad } from "../../src/tensor/index.ts";
import { GPU_DEVICES } from "./gpu_devices.ts";
import { learnText } from "./text_model.ts";

const BATCH = 8;
const SIZE = 6;
const CLASSES = 3;
/** A GPU in software compiles some fifty kernels. */
const PATIENCE_MS = 240_000;

class Network extends Module {
  private readonly conv: Conv2d;
  private readonly norm = new BatchNorm2d(4);
  private readonly dropout = new Dropout(0.2, new RandomStream(key(5)));
  private readonly linear: Linear;

  constructor() {
    super();
    const [first, second] = random.split(key(7), 2);
    this.conv = new Conv2d(1, 4, 3, { padding: 1, key: first });
    this.linear = new Linear((4 * SIZE * SIZE) / 4, CLASSES, { key: second });
  }
  forward(x: Tensor): Tensor {
    const h = this.norm.forward(this.conv.forward(x)).relu().maxPool(2);
    return this.linear.forward(this.dropout.forward(h.reshape([BATCH, SIZE * SIZE])));
  }
}

/** Losses of 20 steps of Adam, and a weight at the end. */
async function learn(options: DeviceOptions): Promise<{ losses: number[]; weights: readonly number[] }> {
  setDevice(options);
  const model = new Network();
  const parameters = model.parameters();
  const optimizer = new Adam(parameters, { learningRate: 0.01 });
  using step = jit((x: Tensor, y: Tensor) => {
    const { value, grads } = valueAndGrad(() => crossEntropy(model.forward(x), y), parameters);
    optimizer.step(grads);
    return value;
  });
  const x = random.normal(key(1), [BATCH, 1, SIZE, SIZE]);
  const y = tensor(Array.from({ length: BATCH }, (_, i) => i % CLASSES), "i32"); // biome-ignore format: short
  const losses: number[] = [];
  for (let i = 0; i < 20; i++) losses.push(await step(x, y).item());
  return { losses, weights: [...(await parameters[0].value.numbers())] };
}

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ options }) => {
  afterAll(() => setDevice({}));

  test("twenty steps of a small network follow the CPU's", { timeout: PATIENCE_MS }, async () => {
    const wanted = await learn({ threads: 1 });
    const got = await learn(options);
    expect(wanted.losses[19]).toBeLessThan(wanted.losses[0] / 2);
    for (const [i, loss] of got.losses.entries()) expect(Math.abs(loss - wanted.losses[i]), `step ${i}`).toBeLessThan(1e-3);
    for (const [i, w] of got.weights.entries()) expect(Math.abs(w - wanted.weights[i]), `weight ${i}`).toBeLessThan(1e-3);
  });

  test("attention with 16-bit products follows the CPU", { timeout: PATIENCE_MS }, async () => {
    const wanted = await learnText({ threads: 1 }, { width: 16, optimizer: Adam });
    const got = await learnText(options, { width: 16, optimizer: Adam });
    // Gradients of biases are sums of what products read, which is rounded to 8 bits.
    for (const [i, loss] of got.losses.entries()) expect(Math.abs(loss - wanted.losses[i]), `step ${i}`).toBeLessThan(2e-3);
    expect(got.losses[3]).toBeLessThan(got.losses[0]);
    expect(got.nodes).toBeGreaterThan(20);
  });

  test("parameters move to the GPU and back", async () => {
    setDevice({ threads: 1 });
    const p = new Parameter(tensor([1, 2]));
    const step = jit(() => {
      p.value = p.value.mul(3);
      return p.value.sum();
    });
    const sums: number[] = [];
    for (const device of [{ threads: 1 }, options, { device: "reference" }, options] as const) {
      setDevice(device);
      sums.push(await step().item());
    }
    expect(sums).toEqual([9, 27, 81, 243]);
    setDevice({ threads: 1 });
    expect(await p.value.array()).toEqual([81, 162]);
  });
});
