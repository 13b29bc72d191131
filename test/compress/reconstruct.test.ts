// Factorisations against products, SparseGPT against the closed form of optimal brain surgeon, and least squares against its normal equations.
import { describe, expect, test } from "vitest";
import {
  cholesky,
  countKept,
  damped,
  fitOnMask,
  type Grain,
  inverseFactor,
  magnitudes,
  outputError,
  reconstructionError,
  selectMasks,
  solveCholesky,
  sparseGpt,
} from "../../src/compress/prune/index.ts";
import { toNumbers } from "../../src/ir/tensor.ts";
import { randomTensor } from "./sample_networks.ts";

const random = (count: number, seed: number): Float64Array => toNumbers(randomTensor([count], seed));

/** Σ x·xᵀ of inputs (count, n) that depend on each other. */
function gramOf(n: number, count: number, seed: number): Float64Array {
  const [x, mix] = [random(n * count, seed), random(n * n, seed + 1)];
  const mixed = multiply(x, mix, count, n, n);
  return multiply(transpose(mixed, count, n), mixed, n, count, n);
}

function multiply(a: Float64Array, b: Float64Array, m: number, k: number, n: number): Float64Array {
  const out = new Float64Array(m * n);
  for (let i = 0; i < m; i++) for (let p = 0; p < k; p++) for (let j = 0; j < n; j++) out[i * n + j] += a[i * k + p] * b[p * n + j];
  return out;
}
const transpose = (a: Float64Array, rows: number, columns: number): Float64Array =>
  Float64Array.from({ length: a.length }, (_, i) => a[(i % rows) * columns + Math.floor(i / rows)]);
const largest = (a: Float64Array): number => a.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
const difference = (a: Float64Array, b: Float64Array): number => largest(a.map((x, i) => x - b[i])) / largest(b);

describe.each([1, 5, 64, 65, 130])("matrices of %d rows", (n) => {
  const a = damped(gramOf(n, 2 * n + 3, n), n);
  test("L·Lᵀ is the matrix", () => {
    const l = cholesky(a, n);
    expect(difference(multiply(l, transpose(l, n, n), n, n, n), a)).toBeLessThan(1e-13);
    for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) expect(l[i * n + j]).toBe(0);
  });
  test("the factor of the inverse is upper triangular, and times the matrix it gives 1", () => {
    const u = inverseFactor(a, n);
    for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) expect(Math.abs(u[i * n + j])).toBe(0);
    const product = multiply(multiply(transpose(u, n, n), u, n, n, n), a, n, n, n);
    for (let i = 0; i < n; i++) product[i * n + i] -= 1;
    expect(largest(product)).toBeLessThan(1e-9); // the condition number is some 1e4
  });
  test("equations are solved", () => {
    const b = random(n, 9);
    expect(difference(multiply(a, solveCholesky(cholesky(a, n), n, b), n, n, 1), b)).toBeLessThan(1e-10);
  });
});

test("a matrix that is not positive is refused", () =>
  expect(() => cholesky(Float64Array.of(1, 2, 2, 1), 2)).toThrow(/not positive at row 1/));

const [ROWS, COLUMNS] = [24, 48];
const weights = random(ROWS * COLUMNS, 5);
const gram = gramOf(COLUMNS, 200, 7);
const byMagnitude = (sparsity: number, grain: Grain = "element") => {
  const [mask] = selectMasks([{ layer: { name: "", rows: ROWS, columns: COLUMNS, taps: 1 }, scores: magnitudes(weights) }], {
    sparsity,
    grain,
    scope: "layer",
  });
  return { mask, matrix: weights.map((w, i) => w * mask[i]) };
};
const errorOf = (matrix: Float64Array) => reconstructionError(weights, matrix, COLUMNS, gram);

describe("SparseGPT", () => {
  test("one weight that goes: the others change by the closed form −w/[H⁻¹]ⱼⱼ · H⁻¹ⱼ", () => {
    const n = 6;
    const h = damped(gramOf(n, 40, 3), n);
    const u = inverseFactor(h, n);
    const inverse = multiply(transpose(u, n, n), u, n, n, n);
    const w = random(n, 4);
    const mask = Uint8Array.of(0, 1, 1, 1, 1, 1); // the first: all others lie behind it
    const { matrix } = sparseGpt(w, gramOf(n, 40, 3), n, { drop: { mask } });
    const wanted = w.map((x, j) => x - (w[0] / inverse[0]) * inverse[j]);
    expect(matrix[0]).toBe(0);
    expect(difference(matrix, wanted)).toBeLessThan(1e-10);
  });
  test.each([0.3, 0.5, 0.8, 0.95])("errs less than magnitude at sparsity %d, with exactly as many zeros", (sparsity) => {
    const { matrix, mask } = sparseGpt(weights, gram, COLUMNS, { drop: { sparsity } });
    expect(countKept(mask)).toBe(ROWS * COLUMNS - Math.round(ROWS * COLUMNS * sparsity));
    expect(matrix.every((w, i) => mask[i] === 1 || w === 0)).toBe(true);
    expect(errorOf(matrix)).toBeLessThan(errorOf(byMagnitude(sparsity).matrix));
  });
  test("blocks change the order of additions only, where the mask is given", () => {
    const { mask } = byMagnitude(0.6);
    const [small, large] = [5, 48].map((block) => sparseGpt(weights, gram, COLUMNS, { drop: { mask }, block }).matrix);
    expect(difference(small, large)).toBeLessThan(1e-12);
  });
  test("two of four neighbours stay", () => {
    const { mask, matrix } = sparseGpt(weights, gram, COLUMNS, { drop: { n: 2, m: 4 }, block: 10 });
    for (let i = 0; i < mask.length; i += 4) expect(countKept(mask.subarray(i, i + 4))).toBe(2);
    expect(errorOf(matrix)).toBeLessThan(errorOf(byMagnitude(0, { n: 2, m: 4 }).matrix));
  });
  test("inputs that are always 0 lose their weights first", () => {
    const silent = gram.slice();
    for (let i = 0; i < COLUMNS; i++) silent[i * COLUMNS + 3] = silent[3 * COLUMNS + i] = 0;
    const { mask } = sparseGpt(weights, silent, COLUMNS, { drop: { sparsity: 0.5 } });
    expect(Array.from({ length: ROWS }, (_, row) => mask[row * COLUMNS + 3]).reduce((a, b) => a + b)).toBe(0);
  });
});

describe("least squares on the mask", () => {
  const { mask, matrix } = byMagnitude(0.7);
  const fitted = fitOnMask(weights, matrix, mask, COLUMNS, { gram, cross: gram }, 1e-9);
  test("what the mask drops stays 0, and the error falls below SparseGPT's on the same mask", () => {
    expect(fitted.every((w, i) => mask[i] === 1 || w === 0)).toBe(true);
    const surgeon = sparseGpt(weights, gram, COLUMNS, { drop: { mask } }).matrix;
    expect(errorOf(fitted)).toBeLessThan(errorOf(surgeon));
    expect(errorOf(surgeon)).toBeLessThan(errorOf(matrix));
  });
  test("the rest of the error has nothing in common with the inputs that are kept", () => {
    const rest = multiply(
      weights.map((w, i) => w - fitted[i]),
      gram,
      ROWS,
      COLUMNS,
      COLUMNS,
    );
    expect(largest(rest.filter((_, i) => mask[i] === 1)) / largest(rest)).toBeLessThan(1e-6);
  });
  test("with the same inputs for both networks, the error of outputs is that of reconstruction", () =>
    expect(outputError(weights, fitted, COLUMNS, gram, { gram, cross: gram })).toBeCloseTo(errorOf(fitted), 10));
});
