// Memory of long trainings: nothing grows, and what is held is named.
import { expect, test } from "vitest";
import { jit, key, leakCheck, Parameter, random, type Tensor, tensor, valueAndGrad } from "../../src/tensor/index.ts";

/** Collects garbage, finalizers included, where vitest's processes may; else waits for it. */
async function collect(): Promise<void> {
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

test("10,000 steps take no more memory than 1,000", async () => {
  const w = new Parameter(random.normal(key(1), [8, 4]) as Tensor);
  const x = random.normal(key(2), [16, 8]) as Tensor;
  const step = jit((v: Tensor) => {
    const { value, grads } = valueAndGrad(() => v.matmul(w.value).tanh().square().mean(), [w]);
    w.value = w.value.sub(grads[0].mul(0.01));
    return value;
  });
  const used = async (steps: number): Promise<number> => {
    for (let i = 0; i < steps; i++) await step(x).item();
    await collect();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  await used(1000);
  const [arena, before] = [await step.arenaBytes(), await used(10)];
  const after = await used(9000);
  expect(await step.arenaBytes()).toBe(arena);
  expect(step.programs).toBe(1);
  expect(after - before).toBeLessThan(globalThis.gc ? 2 << 20 : 64 << 20); // what vitest itself notes down; without gc() garbage counts too
});

test("eager steps do not keep what they were computed from", async () => {
  const w = new Parameter(random.normal(key(1), [64, 64]) as Tensor);
  for (let i = 0; i < 300; i++) {
    w.value = w.value.mul(0.99).add(0.01);
    if (i % 10 === 9) await w.value.data();
  }
  await w.value.data();
  expect(w.value.handle.value.node.inputs).toEqual([]);
});

test("leakCheck names the lines", async () => {
  using check = leakCheck();
  const kept = [tensor([1, 2, 3]), tensor([4, 5, 6])];
  const sum = kept[0].add(kept[1]);
  await sum.data();
  const report = check.report();
  expect(report.map(({ count, bytes }) => ({ count, bytes }))).toEqual([
    { count: 2, bytes: 24 },
    { count: 1, bytes: 12 },
  ].map((want) => want).toSorted((a, b) => b.bytes - a.bytes)); // biome-ignore format: short
  expect(report.every(({ from }) => /^memory\.test\.ts:\d+$/.test(from))).toBe(true);
  for (const t of [...kept, sum]) t.dispose();
  expect(check.report()).toEqual([]);
});
