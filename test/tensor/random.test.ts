// Random numbers: the published test vectors, the same bits from host and programs, and the right distributions.
import { describe, expect, test } from "vitest";
import { dropout, jit, type Key, key, ones, random, tensor } from "../../src/tensor/index.ts";
import { encrypted } from "../../src/tensor/threefry.ts";

test("Threefry's published vectors (Random123, kat_vectors: threefry2x32, 20 rounds)", () => {
  const all = 0xffffffff;
  expect(encrypted([0, 0], [0, 0])).toEqual([0x6b200159, 0x99ba4efe]);
  expect(encrypted([all, all], [all, all])).toEqual([0x1cb996fc, 0xbb002be7]);
  expect(encrypted([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3])).toEqual([0xc4923a9c, 0x483df7a0]);
});

describe("programs draw what the host draws", () => {
  const k = key(123456789012);
  test.each([1, 2, 5, 1000])("%i words", async (count) => {
    expect(await jit((from: Key) => random.bits(from, [count]))(k).data()).toEqual(await random.bits(k, [count]).data());
  });
  test("uniform numbers are the same, normal ones but for rounding", async () => {
    expect(await jit((from: Key) => random.uniform(from, [3, 7]))(k).data()).toEqual(await random.uniform(k, [3, 7]).data());
    const [a, b] = [await jit((from: Key) => random.normal(from, [500]))(k).numbers(), await random.normal(k, [500]).numbers()];
    for (const [i, v] of a.entries()) expect(v).toBeCloseTo(b[i], 4);
  });
  test("keys split and folded are the same", async () => {
    const inside = jit((from: Key) => [...random.split(from, 3), random.fold(from, 7), random.fold(from, tensor(7, "i32"))])(k);
    const outside = [...random.split(k, 3), random.fold(k, 7), random.fold(k, 7)];
    for (const [i, one] of inside.entries()) expect(await one.data()).toEqual(await outside[i].data());
    expect(new Set(await Promise.all(outside.map(async (o) => `${await o.data()}`))).size).toBe(4);
  });
});

describe("distributions", () => {
  const n = 20_000;
  test("uniform", async () => {
    const u = await random.uniform(key(1), [n], -1, 3).numbers();
    expect(Math.min(...u)).toBeGreaterThanOrEqual(-1);
    expect(Math.max(...u)).toBeLessThan(3);
    expect(mean(u)).toBeCloseTo(1, 1);
    expect(mean(u.map((v) => (v - 1) ** 2))).toBeCloseTo(16 / 12, 1);
  });
  test("normal", async () => {
    const z = await random.normal(key(2), [n], 2, 3).numbers();
    expect(mean(z)).toBeCloseTo(2, 0);
    expect(Math.sqrt(mean(z.map((v) => (v - 2) ** 2)))).toBeCloseTo(3, 1);
    expect(mean(z.map((v) => Number(Math.abs(v - 2) < 3)))).toBeCloseTo(0.6827, 1);
  });
  test("permutations", async () => {
    const order = [...(await random.permutation(key(3), 1000).numbers())];
    expect(order.toSorted((a, b) => a - b)).toEqual([...Array(1000).keys()]);
    expect(order.filter((v, i) => v === i).length).toBeLessThan(10);
  });
  test("dropout keeps the mean", async () => {
    const y = await dropout(ones([100, 200]), key(4), 0.25).numbers();
    expect(new Set([...y].map((v) => v.toFixed(3)))).toEqual(new Set(["0.000", "1.333"]));
    expect(mean(y)).toBeCloseTo(1, 1);
  });
  test("what is refused", () => {
    expect(() => key(-1)).toThrow(/seed is -1/);
    expect(() => random.normal(tensor([1, 2]) as never, [3])).toThrow(/a key is u32\[2\], got f32\[2\]/);
    expect(() => dropout(ones([3]), key(1), 1)).toThrow(/p is 1/);
  });
});

const mean = (numbers: Float64Array): number => numbers.reduce((a, b) => a + b, 0) / numbers.length;
