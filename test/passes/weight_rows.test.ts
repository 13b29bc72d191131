// Rows of weights in WebAssembly against the same loop in JavaScript, bit by bit: short rows, many rows, rows longer than the window.
import { expect, it } from "vitest";
import { foldRows, foldRowsPlainly } from "../../src/passes/weight_rows.ts";
import { noise } from "./support.ts";

it.each([
  [1, 1], [3, 1], [1, 7], [5, 25], [4097, 1], [9000, 3], [2, 16384], [3, 16385], [2, 40000], [17, 963], [0, 5], [4, 0],
])("%i rows of %i numbers", (rows, length) => {
  const from = new Float32Array(noise(rows * length + 3, rows + length)).subarray(3);
  const factors = noise(rows, 5);
  const [a, b] = [foldRows, foldRowsPlainly].map((fold) => {
    const [to, sums] = [new Float32Array(from.length), new Float64Array(rows)];
    fold(from, to, factors, sums, length);
    return { to, sums };
  });
  expect(a.to).toEqual(b.to);
  const close = (x: number, i: number) => Math.abs(x - b.sums[i]) <= 1e-12 * length; // pieces of a long row are added up in another order
  expect(a.sums.every(close)).toBe(true);
}); // biome-ignore format: a table

it("adds to the sums that are there, and takes float64", () => {
  const sums = Float64Array.of(10, 20);
  const to = new Float64Array(4);
  foldRows(Float64Array.of(1, 2, 3, 4), to, Float64Array.of(2, -1), sums, 2);
  expect([...to, ...sums]).toEqual([2, 4, -3, -4, 13, 27]);
  foldRows(Float32Array.of(1, 2, 3, 4), new Float32Array(4), Float64Array.of(2, -1), sums, 2);
  expect([...sums]).toEqual([16, 34]);
});
