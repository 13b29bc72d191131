// Networks that learn: XOR and two spirals, each step one compiled program.
import { expect, test } from "vitest";
import { crossEntropy, Linear, Module, mse } from "../../src/nn/index.ts";
import { Adam, SGD, schedule } from "../../src/optim/index.ts";
import { jit, key, random, type Tensor, tensor, valueAndGrad } from "../../src/tensor/index.ts";

class Mlp extends Module {
  private readonly layers: Linear[];

  constructor(seed: number, ...sizes: readonly number[]) {
    super();
    const keys = random.split(key(seed), sizes.length);
    this.layers = sizes.slice(1).map((size, i) => new Linear(sizes[i], size, { key: keys[i] }));
  }
  forward(x: Tensor): Tensor {
    return this.layers.reduce((h, layer, i) => (i ? layer.forward(h.tanh()) : layer.forward(h)), x);
  }
}

async function learnXor(): Promise<{ loss: number; weights: number[] }> {
  const model = new Mlp(1, 2, 8, 1);
  const parameters = model.parameters();
  const optimizer = new SGD(parameters, { learningRate: 0.5, momentum: 0.9 });
  using step = jit((x: Tensor, y: Tensor) => {
    const { value, grads } = valueAndGrad(() => mse(model.forward(x), y), parameters);
    optimizer.step(grads);
    return value;
  });
  const x = tensor([[0, 0], [0, 1], [1, 0], [1, 1]]); // biome-ignore format: a matrix
  const y = tensor([[0], [1], [1], [0]]);
  let loss: Tensor = tensor(0);
  for (let i = 0; i < 300; i++) loss = step(x, y);
  expect(step.programs).toBe(1);
  return { loss: await loss.item(), weights: [...(await parameters[0].value.numbers())] };
}

test("an MLP learns XOR, to the same bits twice", async () => {
  const [first, second] = [await learnXor(), await learnXor()];
  expect(first.loss).toBeLessThan(1e-3);
  expect(second).toEqual(first);
});

test("an MLP tells two spirals apart", async () => {
  const count = 128;
  const points = Array.from({ length: count }, (_, i) => {
    const [turn, arm] = [(i / count) * 3 * Math.PI + 0.5, i % 2];
    return [(turn / 10) * Math.cos(turn + arm * Math.PI), (turn / 10) * Math.sin(turn + arm * Math.PI)];
  });
  const [x, y] = [tensor(points), tensor(points.map((_, i) => i % 2), "i32")]; // biome-ignore format: short
  const model = new Mlp(3, 2, 32, 32, 2);
  const parameters = model.parameters();
  const steps = 600;
  const optimizer = new Adam(parameters, { learningRate: schedule.oneCycle(0.02, steps) });
  using step = jit((x: Tensor, y: Tensor) => {
    const { value, grads } = valueAndGrad(() => crossEntropy(model.forward(x), y), parameters);
    optimizer.step(grads);
    return value;
  });
  for (let i = 0; i < steps; i++) step(x, y);
  const right = model.forward(x).argmax(1).eq(y).cast("f32").mean();
  expect(await right.item()).toBe(1);
  expect(await optimizer.steps.value.item()).toBe(steps);
});
