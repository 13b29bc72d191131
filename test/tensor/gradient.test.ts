// Gradients of functions of tensors against central differences and against each other.
import { describe, expect, test } from "vitest";
import {
  checkpoint,
  customVjp,
  type Dims,
  grad,
  jit,
  jvp,
  key,
  Parameter,
  random,
  stopGradient,
  type Tensor,
  tensor,
  valueAndGrad,
  vjp,
} from "../../src/tensor/index.ts";
import { expectNear } from "./near.ts";

/** (f(x + h·e) − f(x − h·e)) / 2h for each element, in float64. */
async function differences(f: (x: Tensor) => Tensor, x: Tensor, h = 1e-4): Promise<number[]> {
  const numbers = await x.numbers();
  const slopes: number[] = [];
  for (let i = 0; i < numbers.length; i++) {
    const shifted = (by: number) => tensor([...numbers.with(i, numbers[i] + by)], "f64").reshape(x.shape);
    slopes.push(((await f(shifted(h)).item()) - (await f(shifted(-h)).item())) / (2 * h));
  }
  return slopes;
}

const x = tensor([[0.3, -0.7, 1.2], [0.9, 0.1, -1.4]], "f64"); // biome-ignore format: a matrix
const w = tensor([[0.5, -0.2], [0.3, 0.8], [-0.6, 0.4]], "f64"); // biome-ignore format: a matrix

const losses: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  product: (v) => v.matmul(w).tanh().square().sum(),
  softmax: (v) =>
    v
      .softmax()
      .mul(tensor([1, 2, 3], "f64"))
      .sum(),
  "log softmax": (v) => v.logSoftmax().slice(null, 1).mean().neg(),
  "layer norm": (v) =>
    v
      .sub(v.mean(1, true))
      .div(v.variance(1, true).add(1e-5).sqrt())
      .mul(tensor([1, -2, 3], "f64"))
      .sum(),
  gather: (v) => v.gather([0, 0, 1]).square().sum(),
  where: (v) => v.gt(0).where(v.square(), v.mul(3)).sum(),
  "max over an axis": (v) => v.max(1).square().sum(),
  "views": (v) => v.reshape([3, 2]).transpose().pad([[0, 0], [1, 1]]).slice(null, [0, 4]).exp().sum(), // biome-ignore format: one line
  activations: (v) => v.gelu().add(v.silu()).add(v.sigmoid()).add(v.erf()).sum(),
};

describe("grad is the slope", () => {
  test.each(Object.entries(losses))("%s", async (_, f) => {
    expectNear(await grad(f)(x).numbers(), await differences(f, x), 1e-6);
  });
});

test("several arguments, and lists of them", async () => {
  const f = (a: Tensor, b: { readonly c: readonly Tensor[] }) => a.mul(b.c[0]).sum().add(b.c[1].square().sum());
  const [ga, gb] = grad(f, [0, 1])(tensor([1, 2]), { c: [tensor([3, 4]), tensor([5])] });
  expect(await ga.array()).toEqual([3, 4]);
  expect(await gb.c[0].array()).toEqual([1, 2]);
  expect(await gb.c[1].array()).toEqual([10]);
});

test("an argument is differentiated, not what else refers to the same tensor", async () => {
  const a = tensor([2, 3]);
  expect(await grad((v: Tensor) => v.mul(a).sum())(a).array()).toEqual([2, 3]);
});

test("what the loss does not depend on has gradient zero", async () => {
  const p = new Parameter(tensor([1, 2]));
  const { grads } = valueAndGrad(() => tensor([1]).sum(), [p]);
  expect(await grads[0].array()).toEqual([0, 0]);
});

test("second derivatives", async () => {
  const cube = (v: Tensor) => v.mul(v).mul(v).sum();
  const second = grad((v: Tensor) => grad(cube)(v).sum());
  expect(await second(tensor([1, 2])).array()).toEqual([6, 12]);
});

test("valueAndGrad gives the loss once, gradients of parameters, and what else the function gives", async () => {
  const p = new Parameter(tensor([1, 2]));
  const { value, grads, aux } = valueAndGrad(() => [p.value.square().sum(), p.value.add(1)] as const, [p]);
  expect([await value.item(), await grads[0].array(), await aux.array()]).toEqual([5, [2, 4], [2, 3]]);
  const ofArgument = valueAndGrad((v: Tensor) => v.square().sum())(tensor([3]));
  expect([await ofArgument.value.item(), await ofArgument.grads.array()]).toEqual([9, [6]]);
});

test("vjp and jvp are each other's transposes", async () => {
  const f = (v: Tensor) => v.matmul(w).tanh();
  const t = tensor([[1, 0.5, -1], [0.2, 2, 0.1]], "f64"); // biome-ignore format: a matrix
  const u = tensor([[0.3, -1], [2, 0.7]], "f64"); // biome-ignore format: a matrix
  const { tangent } = jvp(f, [x], [t]);
  const [pulled] = vjp(f, x).pullback(u);
  expect(await tangent.mul(u).sum().item()).toBeCloseTo(await pulled.mul(t).sum().item(), 10);
  const h = 1e-5;
  const [up, down] = [f(x.add(t.mul(h))), f(x.sub(t.mul(h)))];
  expectNear(await tangent.numbers(), await up.sub(down).div(2 * h).numbers(), 1e-8); // biome-ignore format: one line
});

test("no gradient flows through stopGradient", async () => {
  expect(await grad((v: Tensor) => v.mul(stopGradient(v)).sum())(tensor([2, 3])).array()).toEqual([2, 3]);
});

test("customVjp says the gradient", async () => {
  const straight = customVjp(
    (v: Tensor) => v.round(),
    (g, [v]) => [g.mul(v.abs().lt(1).cast(v.dtype))],
  );
  expect(await straight(tensor([0.4, 1.6])).array()).toEqual([0, 2]);
  expect(await grad((v: Tensor) => straight(v).mul(3).sum())(tensor([0.4, 1.6])).array()).toEqual([3, 0]);
});

describe("checkpoint", () => {
  const block = (weights: readonly Parameter[]) => (v: Tensor) => weights.reduce((h, p) => h.matmul(p.value).tanh(), v);
  const make = (): Parameter[] => random.split(key(3), 3).map((k) => new Parameter(random.normal(k, [8, 8], 0, 0.5) as Tensor));
  const input = random.normal(key(4), [4, 8]) as Tensor;

  test.each(["eager", "jit"])("gradients are the same, %s", async (mode) => {
    const weights = make();
    const run = (f: (v: Tensor) => Tensor) => {
      const step = (v: Tensor) => valueAndGrad(() => f(v).square().mean(), weights);
      return (mode === "jit" ? jit(step) : step)(input);
    };
    const [plain, again] = [run(block(weights)), run(checkpoint(block(weights)))];
    expect(await again.value.item()).toBeCloseTo(await plain.value.item(), 6);
    for (const [i, g] of again.grads.entries()) expectNear(await g.numbers(), await plain.grads[i].numbers(), 1e-6);
  });

  test("the program holds less", async () => {
    const k = random.split(key(5), 12);
    const weights = k.map((one) => new Parameter(random.normal(one, [16, 16], 0, 0.3) as Tensor));
    const big = random.normal(key(6), [2048, 16]) as Tensor;
    const halves = [weights.slice(0, 4), weights.slice(4, 8), weights.slice(8)];
    const bytes = async (wrap: (f: (v: Tensor) => Tensor) => (v: Tensor) => Tensor) => {
      using step = jit(
        (v: Tensor) =>
          valueAndGrad(
            () =>
              halves
                .reduce((h, part) => wrap(block(part))(h), v)
                .square()
                .mean(),
            weights,
          ).grads,
      );
      await step(big)[0].data();
      return step.arenaBytes();
    };
    expect(await bytes(checkpoint)).toBeLessThan(0.75 * (await bytes((f) => f)));
  });
});

test("errors name the user's line", () => {
  const bad = () => tensor([[1, 2]]).matmul(tensor([[1, 2]]));
  expect(bad).toThrow(/MatMul: inner sizes differ, a is \(1,2\), b is \(1,2\); from gradient\.test\.ts:\d+/);
  expect(() => grad((v: Tensor) => v.mul(2))(tensor([1, 2]))).toThrow(/wanted a scalar.*from gradient\.test\.ts/);
  expect(() => grad((v: Tensor<Dims>) => v.sum())(tensor([1], "i32"))).toThrow(/has no gradient/);
});
