// Tensors against values worked out by hand.
import { expect, test } from "vitest";
import { add, arange, concat, tensor, where, zeros } from "../../src/tensor/index.ts";

test("arithmetic broadcasts", async () => {
  const a = tensor([[1, 2], [3, 4]]); // biome-ignore format: a matrix
  expect(await a.add(tensor([10, 20])).array()).toEqual([[11, 22], [13, 24]]); // biome-ignore format: a matrix
  expect(await add(1, a).array()).toEqual([[2, 3], [4, 5]]); // biome-ignore format: a matrix
  expect(await a.matmul(a.transpose()).array()).toEqual([[5, 11], [11, 25]]); // biome-ignore format: a matrix
  expect(await a.sum().item()).toBe(10);
  expect(await a.mean(0).array()).toEqual([2, 3]);
  expect(await a.argmax().array()).toEqual([1, 1]);
  expect(await where(a.gt(2), a, 0).array()).toEqual([[0, 0], [3, 4]]); // biome-ignore format: a matrix
  expect(await concat([a, zeros([1, 2])]).array()).toEqual([[1, 2], [3, 4], [0, 0]]); // biome-ignore format: a matrix
  expect(await arange(6).reshape([2, 3]).slice(1, [0, 2]).array()).toEqual([3, 4]);
});
