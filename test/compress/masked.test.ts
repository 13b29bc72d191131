// Masks that hold over training steps: weights, gradients' traces in the optimizer, exact densities of a schedule, and no other program.
import { expect, test } from "vitest";
import { cubicSparsity, GradualPruner, Masks, whileLearning } from "../../src/compress/prune/index.ts";
import { Linear, mse, RandomStream, Sequential } from "../../src/nn/index.ts";
import { AdamW, type Optimizer, SGD } from "../../src/optim/index.ts";
import { fromData, jit, type Tensor, valueAndGrad } from "../../src/tensor/index.ts";
import { randomTensor } from "./sample_networks.ts";

const [x, y] = [fromData(randomTensor([32, 10], 1)), fromData(randomTensor([32, 6], 2))];

function stepOf(layer: Linear, optimizer: Optimizer, masks: Masks) {
  const parameters = layer.parameters();
  return jit((inputs: Tensor, targets: Tensor) => {
    const { value, grads } = valueAndGrad(() => mse(layer.forward(inputs), targets), parameters);
    masks.step(optimizer, grads);
    return value;
  });
}

test.each([
  ["AdamW", (layer: Linear) => new AdamW(layer.parameters(), { learningRate: 0.05, weightDecay: 0.1 })],
  ["SGD with momentum", (layer: Linear) => new SGD(layer.parameters(), { learningRate: 0.1, momentum: 0.9, nesterov: true })],
] as const)("%s: weights and what is remembered of them stay 0, biases learn", async (_, optimizerOf) => {
  const layer = new Linear(10, 6, { key: new RandomStream(3) });
  const optimizer = optimizerOf(layer);
  const masks = new Masks([layer.weight]);
  using step = stepOf(layer, optimizer, masks);
  const bias = await layer.bias!.value.numbers();
  const losses: number[] = [];
  for (let i = 0; i < 5; i++) losses.push(await step(x, y).item()); // dense: something is remembered
  await masks.prune(0.7);
  const before = await layer.weight.value.numbers();
  const dropped = [...before.keys()].filter((i) => before[i] === 0);
  expect(dropped).toHaveLength(42);
  for (let i = 0; i < 20; i++) losses.push(await step(x, y).item());
  const after = await layer.weight.value.numbers();
  expect([...after.keys()].filter((i) => after[i] === 0)).toEqual(dropped);
  for (const [name, memory] of optimizer.memories) {
    const held = await memory[layer.parameters().indexOf(layer.weight)].value.numbers();
    expect(
      dropped.map((i) => held[i]).every((v) => v === 0),
      name,
    ).toBe(true);
    expect(
      held.some((v) => v !== 0),
      name,
    ).toBe(true);
  }
  expect(await layer.bias!.value.numbers()).not.toEqual(bias);
  expect(losses.at(-1)).toBeLessThan(losses[5]);
  expect(step.programs).toBe(1);
  expect(await masks.density()).toBeCloseTo(0.3, 12);
});

test("a pruner follows its schedule, only takes away, and ends exactly where it should", async () => {
  const layer = new Linear(10, 6, { key: new RandomStream(4) });
  const pruner = new GradualPruner([layer.weight], { sparsity: cubicSparsity({ final: 0.9, begin: 4, end: 17 }), every: 5 });
  using step = stepOf(layer, new AdamW(layer.parameters(), { learningRate: 0.05 }), pruner.masks);
  const sparsity = cubicSparsity({ final: 0.9, begin: 4, end: 17 });
  let gone: number[] = [];
  for (let i = 0; i < 25; i++) {
    await pruner.before(i);
    await step(x, y).item();
    const weights = await layer.weight.value.numbers();
    const zeros = [...weights.keys()].filter((k) => weights[k] === 0);
    const last = i >= 17 ? 17 : Math.floor(i / 5) * 5;
    expect(zeros, `step ${i}`).toHaveLength(60 - Math.round(60 * (1 - sparsity(last))));
    expect(gone.every((k) => zeros.includes(k))).toBe(true);
    gone = zeros;
  }
  expect(gone).toHaveLength(54);
});

test("biases cannot be masked", () => {
  const layer = new Linear(10, 6, { key: new RandomStream(5) });
  expect(() => new Masks(layer.parameters())).toThrow(/wanted two axes or more/);
});

test("weights that stay whole count among those of which a part goes", async () => {
  const [first, last] = [new Linear(10, 6, { key: new RandomStream(5) }), new Linear(6, 5, { key: new RandomStream(6) })];
  const masks = new Masks([first.weight], { whole: [last.weight] });
  await masks.prune(0.5); // 45 of 90 weights
  const zeros = async ({ weight }: Linear) => (await weight.value.numbers()).filter((w) => w === 0).length;
  expect([await zeros(first), await zeros(last)]).toEqual([45, 0]);
  expect(await masks.density()).toBe(0.5);
  await expect(masks.prune(0.7)).rejects.toThrow(/30 of 90 stay whole/);
});

test("while it learns: first and last layer stay whole where they are small, and the end comes with steps to spare", async () => {
  const key = new RandomStream(7);
  const layers = [new Linear(4, 40, { key }), new Linear(40, 400, { key }), new Linear(400, 100, { key }), new Linear(100, 4, { key })];
  const pruner = whileLearning(new Sequential(...layers), { sparsity: 0.8, steps: 100 });
  expect(pruner.masks.parameters).toEqual([layers[1].weight, layers[2].weight]); // 160 and 400 of 56,560
  expect(await pruner.before(20)).toBe(0);
  expect(await pruner.before(84)).toBe(0);
  expect(await pruner.before(85)).toBe(0.8);
  expect(await pruner.masks.density()).toBeCloseTo(0.2, 4);
  const zeros = await Promise.all(layers.map(async ({ weight }) => (await weight.value.numbers()).filter((w) => w === 0).length));
  expect(zeros).toEqual([0, expect.any(Number), expect.any(Number), 0]);
  expect(zeros[1] + zeros[2]).toBe(0.8 * 56_560);
  const alone = whileLearning(new Sequential(layers[1], layers[2]), { sparsity: 0.5, steps: 10 });
  expect(alone.masks.parameters).toHaveLength(2);
  expect(() => whileLearning(new Sequential(), { sparsity: 0.5, steps: 10 })).toThrow(/no weights/);
});
