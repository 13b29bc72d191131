// Compiled functions: equal to what they compile, traced once for each signature, with parameters as their state.
import { afterEach, describe, expect, test } from "vitest";
import {
  add,
  evaluate,
  fromArray,
  jit,
  key,
  Parameter,
  random,
  setDevice,
  type Tensor,
  tensor,
  valueAndGrad,
  zeros,
} from "../../src/tensor/index.ts";
import { expectNear } from "./near.ts";

const x = random.normal(key(1), [16, 8]) as Tensor;
const y = random.normal(key(2), [16, 4]) as Tensor;

/** Two layers with momentum, whose step is to be compiled. */
function network() {
  const [k1, k2] = random.split(key(7));
  const weights = [
    new Parameter(random.normal(k1, [8, 32], 0, 0.3) as Tensor),
    new Parameter(random.normal(k2, [32, 4], 0, 0.3) as Tensor),
  ];
  const moments = weights.map((w) => new Parameter(zeros(w.shape) as Tensor));
  const count = new Parameter(tensor(0, "i32"));
  const forward = (v: Tensor): Tensor => v.matmul(weights[0].value).tanh().matmul(weights[1].value);
  const step = (v: Tensor, target: Tensor): Tensor => {
    const { value, grads } = valueAndGrad(() => forward(v).sub(target).square().mean(), weights);
    for (const [i, g] of grads.entries()) {
      moments[i].value = moments[i].value.mul(0.9).add(g);
      weights[i].value = weights[i].value.sub(moments[i].value.mul(0.1));
    }
    count.value = count.value.add(1);
    return value;
  };
  return { weights, count, forward, step };
}

async function losses(step: (v: Tensor, target: Tensor) => Tensor, steps: number): Promise<number[]> {
  const list: number[] = [];
  for (let i = 0; i < steps; i++) list.push(await step(x, y).item());
  return list;
}

describe("training steps", () => {
  test("compiled and not, the losses and weights are the same", async () => {
    const [plain, compiled] = [network(), network()];
    expectNear(await losses(jit(compiled.step), 8), await losses(plain.step, 8), 1e-5);
    expectNear(await compiled.weights[0].value.numbers(), await plain.weights[0].value.numbers(), 1e-5);
    expect(await compiled.count.value.item()).toBe(8);
  });

  test("the loss falls, and the same seed gives the same bits", async () => {
    const [one, two] = [network(), network()];
    const [a, b] = [await losses(jit(one.step), 50), await losses(jit(two.step), 50)];
    expect(a[49]).toBeLessThan(0.8 * a[0]);
    expect(a).toEqual(b);
    expect(await one.weights[1].value.data()).toEqual(await two.weights[1].value.data());
  });

  test("steps need not be waited for", async () => {
    const [waiting, hasty] = [network(), network()];
    const want = await losses(jit(waiting.step), 5);
    const step = jit(hasty.step);
    const made = Array.from({ length: 5 }, () => step(x, y));
    expect(await Promise.all(made.map((loss) => loss.item()))).toEqual(want);
  });

  test("two programs share the parameters", async () => {
    const { weights, forward, step } = network();
    const [train, predict] = [jit(step), jit(forward)];
    const before = await predict(x).numbers();
    await train(x, y).data();
    const after = await predict(x).numbers();
    expect(after).not.toEqual(before);
    expectNear(after, await forward(x).numbers(), 1e-5);
    weights[1].value = zeros(weights[1].shape);
    expect(new Set(await predict(x).numbers())).toEqual(new Set([0]));
  });
});

describe("parameters", () => {
  test("a tensor taken of a parameter stays as it was", async () => {
    const p = new Parameter(tensor([1, 2]));
    const double = jit(() => {
      p.value = p.value.mul(2);
    });
    double();
    const taken = p.value;
    double();
    double();
    expect([await taken.array(), await p.value.array()]).toEqual([[2, 4], [8, 16]]); // biome-ignore format: pairs
  });

  test("two change places", async () => {
    const [a, b] = [new Parameter(tensor([1, 2])), new Parameter(tensor([3, 4]))];
    const swap = jit(() => {
      const old = a.value;
      a.value = b.value;
      b.value = old;
    });
    for (let i = 0; i < 3; i++) swap();
    expect([await a.value.array(), await b.value.array()]).toEqual([[3, 4], [1, 2]]); // biome-ignore format: pairs
  });

  test("assigned outside, read inside; written without being read", async () => {
    const [a, b] = [new Parameter(tensor([1, 2])), new Parameter(tensor([0, 0]))];
    const copy = jit((by: Tensor) => {
      b.value = a.value.mul(by);
      return b.value.sum();
    });
    expect(await copy(tensor(2)).item()).toBe(6);
    a.value = tensor([5, 6]);
    expect(await copy(tensor(3)).item()).toBe(33);
    expect(await b.value.array()).toEqual([15, 18]);
  });

  test("assigned without jit, each step computes only what is new", async () => {
    const p = new Parameter(tensor([1]));
    for (let i = 0; i < 100; i++) {
      p.value = p.value.add(1);
      if (i % 10 === 0) expect(await p.value.item()).toBe(i + 2);
    }
    expect(await p.value.item()).toBe(101);
  });

  test("wrong shapes are refused with the line", () => {
    const p = new Parameter(tensor([1, 2]), { name: "w" });
    expect(() => {
      p.value = tensor([1, 2, 3]);
    }).toThrow(/parameter w: got f32\[3\], it is f32\[2\]; from jit\.test\.ts:\d+/);
  });

  test("a program that cannot be compiled leaves them as they were", async () => {
    const p = new Parameter(tensor([1, 2]));
    const huge = jit((v: Tensor) => {
      p.value = p.value.add(1);
      return v
        .reshape([1, 2])
        .broadcastTo([2 ** 40, 2])
        .exp();
    });
    await expect(huge(tensor([1, 2])).data()).rejects.toThrow();
    expect(await p.value.array()).toEqual([1, 2]);
    const fine = jit(() => {
      p.value = p.value.add(1);
    });
    fine();
    expect(await p.value.array()).toEqual([2, 3]);
  });
});

describe("signatures", () => {
  test("shapes, types, structure and numbers among the arguments make programs", async () => {
    let traced = 0;
    const f = jit((v: { readonly a: Tensor; readonly by: number }) => {
      traced++;
      return { double: v.a.mul(v.by), both: [v.a, v.a.add(1)] as const };
    });
    const one = f({ a: tensor([1, 2]), by: 2 });
    expect([await one.double.array(), await one.both[0].array(), await one.both[1].array()]).toEqual([[2, 4], [1, 2], [2, 3]]); // biome-ignore format: short
    f({ a: tensor([3, 4]), by: 2 });
    expect([traced, f.programs]).toEqual([1, 1]);
    f({ a: tensor([3, 4]), by: 3 });
    f({ a: tensor([3, 4, 5]), by: 2 });
    f({ a: tensor([3, 4], "f64"), by: 2 });
    expect([traced, f.programs]).toEqual([4, 4]);
    f.dispose();
    expect(await f({ a: tensor([3, 4]), by: 3 }).double.array()).toEqual([9, 12]);
    expect(f.programs).toBe(1);
  });

  test("tensors from outside, computed or not, small or large", async () => {
    const [small, large] = [tensor([1, 2]), fromArray(new Float32Array(100).fill(3), [50, 2])];
    const lazy = large.add(small);
    const f = jit((v: Tensor) => v.mul(lazy).add(small).sum(0));
    expect(await f(tensor([1, 10])).array()).toEqual([250, 2600]);
    expect(await f(tensor([0, 0])).array()).toEqual([50, 100]);
  });

  test("a compiled function inside of another becomes part of it", async () => {
    const p = new Parameter(tensor([1]));
    const inner = jit((v: Tensor) => {
      p.value = p.value.add(v);
      return p.value;
    });
    const outer = jit((v: Tensor) => inner(inner(v)));
    expect(await outer(tensor([2])).array()).toEqual([6]);
    expect([inner.programs, outer.programs, await p.value.item()]).toEqual([0, 1, 6]);
  });

  test("results are arguments of others", async () => {
    const f = jit((v: Tensor) => v.add(1));
    expect(await f(f(f(tensor([1])).mul(2))).array()).toEqual([6]);
  });

  test("what is refused", async () => {
    let leaked: Tensor | undefined;
    jit((v: Tensor) => {
      leaked = v.add(1);
      return v;
    })(tensor([1]));
    expect(() => leaked?.add(1)).toThrow(/made inside of jit\(\) and used outside of it; return it.*from jit\.test\.ts:\d+/);
    await expect(leaked?.data()).rejects.toThrow(/inside of jit/);
    expect(() => jit((m: Map<string, Tensor>) => m.get("a"))(new Map())).toThrow(/class Map/);
    expect(() => jit((v: Tensor) => v.matmul(v))(tensor([[1, 2]]))).toThrow(/inner sizes differ.*from jit\.test\.ts:\d+/);
  });
});

describe("devices", () => {
  afterEach(() => setDevice({}));

  test("parameters move along", async () => {
    const p = new Parameter(tensor([1, 2]));
    const step = jit(() => {
      p.value = p.value.mul(3);
      return p.value.sum();
    });
    const sums: number[] = [];
    for (const device of ["cpu", "wasm", "reference", "x86"] as const) {
      setDevice({ device, threads: 1 });
      sums.push(await step().item());
    }
    expect(sums).toEqual([9, 27, 81, 243]);
    expect(await p.value.array()).toEqual([81, 162]);
  });

  test("a device that is not there", async () => {
    setDevice({ device: "gpu" as "cpu" });
    await expect(jit((v: Tensor) => v.add(1))(tensor([1])).data()).rejects.toThrow(/device gpu: there is none/);
  });
});

test("evaluate computes several tensors at once", async () => {
  const a = random.normal(key(3), [64, 64]).matmul(random.normal(key(4), [64, 64])) as Tensor;
  const [b, c] = [a.add(1), add(a, 2)];
  await evaluate(b, c);
  expectNear(await c.numbers(), await b.add(1).numbers(), 1e-6);
});

test("disposed tensors are refused", async () => {
  const a = tensor([1]);
  {
    using b = a.add(1);
    await b.data();
  }
  a.dispose();
  expect(() => a.add(1)).toThrow(/used after dispose/);
});
