// Rows of weights in WebAssembly against the same loop in JavaScript, bit by bit: short rows, many rows, rows longer than the window; bytes that are not aligned.
import { expect, it } from "vitest";
import { foldRows, foldRowsPlainly } from "../../src/passes/weight_rows.ts";
import { noise } from "./support.ts";

/** The bytes of float32 numbers, at an odd place. */
function unaligned(numbers: Float32Array): Uint8Array {
  const bytes = new Uint8Array(numbers.byteLength + 1).subarray(1);
  bytes.set(new Uint8Array(numbers.buffer));
  return bytes;
}

it.each([
  [1, 1], [3, 1], [1, 7], [5, 25], [4097, 1], [9000, 3], [2, 16384], [3, 16385], [2, 40000], [17, 963], [0, 5], [4, 0],
])("%i rows of %i numbers", (rows, length) => {
  const wanted = new Float32Array(noise(rows * length, rows + length));
  const factors = noise(rows, 5);
  const [to, sums, wantedSums] = [new Float32Array(wanted.length), new Float64Array(rows), new Float64Array(rows)];
  foldRows(unaligned(wanted), to, factors, sums, length);
  foldRowsPlainly(wanted, factors, wantedSums, length);
  expect(to).toEqual(wanted);
  const close = (x: number, i: number) => Math.abs(x - wantedSums[i]) <= 1e-12 * length; // pieces of a long row are added up in another order
  expect(sums.every(close)).toBe(true);
}); // biome-ignore format: a table

it("adds to the sums that are there, and takes float64", () => {
  const sums = Float64Array.of(10, 20);
  const numbers = Float64Array.of(1, 2, 3, 4);
  foldRowsPlainly(numbers, Float64Array.of(2, -1), sums, 2);
  expect([...numbers, ...sums]).toEqual([2, 4, -3, -4, 13, 27]);
  foldRows(unaligned(Float32Array.of(1, 2, 3, 4)), new Float32Array(4), Float64Array.of(2, -1), sums, 2);
  expect([...sums]).toEqual([16, 34]);
});
