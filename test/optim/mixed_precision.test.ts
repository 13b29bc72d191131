// Learning in bfloat16 and float16: nearly the loss of float32, master weights of float32, and steps left out where float16 overflows.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { machineFacts } from "../../src/devices/machine.ts";
import type { DeviceOptions } from "../../src/devices/open.ts";
import { crossEntropy, Linear } from "../../src/nn/index.ts";
import { Adam, LossScale, SGD } from "../../src/optim/index.ts";
import { jit, key, Parameter, random, setDevice, type Tensor, tensor, valueAndGrad } from "../../src/tensor/index.ts";

const isas = (["avx512", "avx2"] as const).filter((isa) => machineFacts().isa === "avx512" || machineFacts().isa === isa);
const DEVICES: readonly (DeviceOptions & { name: string })[] = [
  ...isas.map((isa) => ({ name: isa, device: "x86", isa, threads: 1 }) as const),
  { name: "wasm", device: "wasm", threads: 1 },
  { name: "reference", device: "reference" },
];

const CLASSES = 4;
const points = random.normal(key(1), [64, 16]) as Tensor;
/** Which of four corners the first two coordinates are in. */
const labels = (points: Tensor): Tensor => {
  const side = (at: number): Tensor =>
    points
      .slice([0, 64], [at, at + 1])
      .gt(0)
      .cast("i32");
  return side(0).mul(2).add(side(1)).reshape([64]);
};

/** Losses of the first and of the last of 60 steps. */
async function learn(precision: "bf16" | "f16" | undefined, scale: LossScale | null): Promise<readonly [number, number]> {
  const layers = [new Linear(16, 32, { key: key(2) }), new Linear(32, CLASSES, { key: key(3) })];
  const parameters = layers.flatMap((layer) => layer.parameters());
  const optimizer = new Adam(parameters, { learningRate: 0.01 });
  const lossOf = (x: Tensor, y: Tensor): Tensor => crossEntropy(layers[1].forward(layers[0].forward(x).relu()), y);
  using step = jit(
    (x: Tensor, y: Tensor) => {
      const { value, grads } = valueAndGrad(() => (scale ? scale.scaled(lossOf(x, y)) : lossOf(x, y)), parameters);
      if (!scale) {
        optimizer.step(grads);
        return value;
      }
      const [loss, ...unscaled] = scale.unscaled([value, ...grads]);
      scale.step(optimizer, unscaled);
      return loss;
    },
    { precision },
  );
  const y = labels(points);
  const losses: Tensor[] = [];
  for (let i = 0; i < 60; i++) losses.push(step(points, y));
  expect(parameters.every((p) => p.dtype === "f32")).toBe(true);
  return [await losses[0].item(), await losses[59].item()];
}

describe.each(DEVICES)("$name", (options) => {
  beforeAll(() => setDevice(options));
  afterAll(() => setDevice({}));

  test("a network learns in bfloat16, and in float16 with loss scaling, as in float32", async () => {
    const [, exact] = await learn(undefined, null);
    const scale = new LossScale({ interval: 20 });
    for (const [first, last] of [await learn("bf16", null), await learn("f16", scale)]) {
      expect(last).toBeLessThan(0.6 * first);
      expect(Math.abs(last - exact)).toBeLessThan(0.03 * exact + 0.003);
    }
    // 2¹⁶, doubled after 20 and 40 good steps, less what was skipped.
    expect(await scale.scale.value.item()).toBeGreaterThan(1);
  });

  test("a step that overflows changes nothing but the scale", async () => {
    const weight = new Parameter(tensor([[1, 2], [3, 4]])); // biome-ignore format: a matrix
    const optimizer = new SGD([weight], { learningRate: 1, momentum: 0.9 });
    const scale = new LossScale({ initial: 2 ** 12, interval: 2 });
    using step = jit(
      (x: Tensor) => {
        const { grads } = valueAndGrad(() => scale.scaled(x.matmul(weight.value).sum() as Tensor), [weight]);
        scale.step(optimizer, scale.unscaled(grads));
        return scale.scale.value;
      },
      { precision: "f16" },
    );
    const numbers = async (p: Parameter): Promise<number[]> => [...(await p.value.numbers())];
    const before = await numbers(weight);
    // 1e5 is no float16: its copy is infinite.
    expect(await step(tensor([[1e5, 1]])).item()).toBe(2 ** 11);
    expect(await numbers(weight)).toEqual(before);
    expect(await optimizer.steps.value.item()).toBe(0);
    expect([await scale.skipped.value.item(), await scale.goodSteps.value.item()]).toEqual([1, 0]);

    expect(await step(tensor([[0.5, 0.25]])).item()).toBe(2 ** 11);
    expect(await numbers(weight)).toEqual([0.5, 1.5, 2.75, 3.75]);
    expect(await step(tensor([[0, 0]])).item()).toBe(2 ** 12);
    expect(await optimizer.steps.value.item()).toBe(2);
    expect((await optimizer.stateDict())["state.0.momentum_buffer"]?.data.length).toBe(4);
  });

  test("small gradients reach the weights only when they are scaled", async () => {
    const learned = async (initial: number): Promise<number> => {
      const weight = new Parameter(tensor([[0]]));
      const optimizer = new SGD([weight], { learningRate: 1 });
      const scale = new LossScale({ initial });
      using step = jit(
        (x: Tensor) => {
          const { grads } = valueAndGrad(
            () =>
              scale.scaled(
                x
                  .matmul(weight.value)
                  .mul(2 ** -26)
                  .sum() as Tensor,
              ),
            [weight],
          );
          scale.step(optimizer, scale.unscaled(grads));
        },
        { precision: "f16" },
      );
      step(tensor([[1]]));
      return weight.value.item();
    };
    expect(await learned(1)).toBe(0);
    expect(await learned(2 ** 16)).toBe(-(2 ** -26));
  });
});

test("the state of a loss scale is saved and read back", async () => {
  const [from, to] = [new LossScale({ initial: 8 }), new LossScale()];
  to.loadStateDict(await from.stateDict());
  expect(await to.scale.value.item()).toBe(8);
  expect(() => to.loadStateDict({})).toThrow(/loss_scale is missing/);
  expect(() => new LossScale({ initial: 0 })).toThrow(/wanted both positive/);
});
