// Sparse matrices times one vector, by windows and by gathers: error bound, any number of threads, empty rows, full rows, ragged edges, infinities.
import { describe, expect, test } from "vitest";
import { lowerAddresses } from "../../src/codegen/addresses.ts";
import { avx512Target } from "../../src/codegen/x86/target.ts";
import type { SimdTarget } from "../../src/ir/kernel.ts";
import { fromNumbers, zeros } from "../../src/ir/tensor.ts";
import { noEpilogue } from "../../src/kernels/epilogue.ts";
import { shareSlices } from "../../src/kernels/sparse_slices.ts";
import { turnedKernels, turnedMatrixOf, turnedSumBytes } from "../../src/kernels/sparse_turned.ts";
import { sparseVectorKernel, type VectorMatrix, vectorIndexOf, vectorMatrixOf } from "../../src/kernels/sparse_vector.ts";
import { isWhole } from "../../src/kernels/sparse_window.ts";
import { cooFromDense } from "../../src/sparse/coo.ts";
import { csbFromCoo } from "../../src/sparse/csb.ts";
import { runLowered, TARGETS } from "../codegen/simd_run.ts";
import { random } from "../lower/run_group.ts";
import { unevenMatrix } from "../sparse/matrices.ts";

/** With AVX-512 also as where look-ups of words are slow, which gets plans and kernels of its own. */
const KINDS = [
  ...TARGETS.map((target) => ({ kind: target.name as string, target })),
  ...TARGETS.filter(({ name }) => name === "avx512").map((target) => ({
    kind: "avx512, slow words",
    target: avx512Target(target.l1, target.l2, { slowWordLookups: true }),
  })),
];

interface Problem {
  readonly rows: number;
  readonly columns: number;
  readonly w: Float32Array;
  readonly x: Float32Array;
}

function problemOf(rows: number, columns: number, density: number): Problem {
  const next = random(rows * 31 + columns);
  const w = unevenMatrix(rows, columns, density).data as Float32Array; // made of it
  return { rows, columns, w, x: Float32Array.from({ length: columns }, () => next() * 2 - 1) };
}

const matrixOf = ({ rows, columns, w }: Problem, target: SimdTarget): VectorMatrix =>
  vectorMatrixOf(csbFromCoo(cooFromDense(fromNumbers("f32", [rows, columns], w)), { block: 64 }), target);

function product(problem: Problem, target: SimdTarget, threads: number): Float32Array {
  const { rows, columns, w, x } = problem;
  const csb = csbFromCoo(cooFromDense(fromNumbers("f32", [rows, columns], w)), { block: 64 });
  const matrix = vectorMatrixOf(csb, target);
  const kernel = sparseVectorKernel("vector", matrix.shape, noEpilogue({ dtype: "f32", shape: [1, rows] }), target, threads);
  const values = Float32Array.from(matrix.place, (p) => (p < 0 ? 0 : csb.values[p]));
  const out = zeros("f32", [rows]).data as Float32Array;
  const scratch = kernel.params.filter((p) => p.access === "scratch").map((p) => new Uint8Array(p.bytes).fill(0xa7));
  const views = [values, ...vectorIndexOf(matrix, threads), x, out].map((a) => new Uint8Array(a.buffer, a.byteOffset, a.byteLength));
  runLowered(target, lowerAddresses(kernel), [...views, ...scratch], threads);
  return out;
}

/** Holds every row against float64, within u·|y| + 4·√nonzeros·2⁻²⁴·Σ|w||x|. */
function expectProduct(y: Float32Array, { rows, columns, w, x }: Problem): void {
  for (let r = 0; r < rows; r++) {
    let [sum, size, count] = [0, 0, 0];
    for (let c = 0; c < columns; c++) {
      const p = w[r * columns + c] * x[c];
      sum += p;
      size += Math.abs(p);
      if (w[r * columns + c] !== 0) count++;
    }
    const bound = 2 ** -24 * Math.abs(sum) + 4 * Math.sqrt(count) * 2 ** -24 * size;
    if (!(Math.abs(y[r] - sum) <= bound)) expect.fail(`row ${r}: ${y[r]}, wanted ${sum} ± ${bound}`);
  }
}

/** Wᵀ·g from the values in the order of W·x. */
function turnedProduct(problem: Problem, g: Float32Array, target: SimdTarget, threads: number): Float32Array {
  const { rows, columns, w } = problem;
  const csb = csbFromCoo(cooFromDense(fromNumbers("f32", [rows, columns], w)), { block: 64 });
  const matrix = vectorMatrixOf(csb, target, true);
  const turned = turnedMatrixOf(matrix);
  if (!turned) throw new Error("made without what the transposed product needs");
  const values = Float32Array.from(matrix.place, (p) => (p < 0 ? 0 : csb.values[p]));
  const sums = new Float32Array(turnedSumBytes(turned.shape, target, threads) / 4).fill(7);
  const out = zeros("f32", [columns]).data as Float32Array;
  const kernels = turnedKernels("turned", turned.shape, noEpilogue({ dtype: "f32", shape: [1, columns] }), target, threads);
  const inputs = [values, ...turned.index, g];
  const buffers =
    kernels.length === 1
      ? [[...inputs, out]]
      : [
          [...inputs, sums],
          [sums, out],
        ];
  for (const [i, kernel] of kernels.entries()) {
    const scratch = kernel.params.filter((p) => p.access === "scratch").map((p) => new Uint8Array(p.bytes).fill(0xa7));
    const views = buffers[i].map((a) => new Uint8Array(a.buffer, a.byteOffset, a.byteLength));
    runLowered(target, lowerAddresses(kernel), [...views, ...scratch], threads);
  }
  return out;
}

/** The problem of Wᵀ. */
function transposed({ rows, columns, w }: Problem, g: Float32Array): Problem {
  const turned = Float32Array.from(w, (_, i) => w[(i % rows) * columns + Math.floor(i / rows)]);
  return { rows: columns, columns: rows, w: turned, x: g };
}

const cases = [
  [1, 1, 1],
  [70, 90, 0.5],
  [33, 130, 0.1],
  [129, 65, 0.05],
  [64, 64, 1],
  [128, 16, 0.3],
  [300, 40, 0.2],
  [300, 700, 0.05],
  [20, 5000, 0.02],
  [150, 3000, 0.001],
] as const;

describe.each(KINDS)("$kind", ({ target }) => {
  test.each(cases)("(%i, %i), density %f", (rows, columns, density) => {
    const problem = problemOf(rows, columns, density);
    const y = product(problem, target, 1);
    expectProduct(y, problem);
    for (const threads of [2, 3]) expect(product(problem, target, threads)).toEqual(y);
    expect(product(problem, target, 1)).toEqual(y);
  });

  test.each([...cases, [700, 120, 0.05], [1100, 50, 0.03], [130, 200, 0.3]] as const)(
    "transposed (%i, %i), density %f",
    (rows, columns, density) => {
      const problem = problemOf(rows, columns, density);
      const next = random(rows + columns);
      const g = Float32Array.from({ length: rows }, () => next() * 2 - 1);
      const y = turnedProduct(problem, g, target, 1);
      expectProduct(y, transposed(problem, g));
      for (const threads of [2, 3]) expect(turnedProduct(problem, g, target, threads)).toEqual(y);
    },
  );

  test("transposed: infinities and NaN stay in the columns that have them", () => {
    const problem = problemOf(300, 200, 0.1);
    const g = new Float32Array(300).fill(0.5);
    g[8] = Number.NEGATIVE_INFINITY;
    g[290] = Number.NaN;
    const touched = Array.from(turnedProduct(problem, g, target, 2), (y) => !Number.isFinite(y));
    expect(touched).toEqual(Array.from({ length: 200 }, (_, c) => problem.w[8 * 200 + c] !== 0 || problem.w[290 * 200 + c] !== 0));
  });

  test("what the transposed product takes one by one is little where there are windows", () => {
    for (const density of [0.5, 0.2, 0.1, 0.05]) {
      const next = random(9);
      const w = Float32Array.from({ length: 256 * 512 }, () => (next() < density ? 1 : 0));
      const csb = csbFromCoo(cooFromDense(fromNumbers("f32", [256, 512], w)), { block: 64 });
      const { shape } = turnedMatrixOf(vectorMatrixOf(csb, target, true))!;
      if (shape.matrix.walk === "windows") expect(shape.extras).toBeLessThan(0.05 * csb.values.length);
      if (target.name === "avx512") expect(shape.matrix.walk).toBe("windows");
    }
  });

  test("infinities and NaN stay in the rows that have them", () => {
    const problem = problemOf(70, 90, 0.1);
    problem.x[0] = Number.POSITIVE_INFINITY;
    problem.x[41] = Number.NaN;
    const touched = Array.from(product(problem, target, 1), (y) => !Number.isFinite(y));
    expect(touched).toEqual(Array.from({ length: 70 }, (_, r) => problem.w[r * 90] !== 0 || problem.w[r * 90 + 41] !== 0));
  });

  test.each([0.05, 0.5])("rows that share a lane share neither infinite weights nor elements, density %f", (density) => {
    const next = random(3);
    const w = Float32Array.from({ length: 256 * 512 }, () => (next() < density ? next() + 0.5 : 0));
    const problem = { rows: 256, columns: 512, w, x: Float32Array.from({ length: 512 }, () => next() + 0.5) };
    const { shape } = matrixOf(problem, target);
    if (target.name === "avx512") expect(shape).toMatchObject(density < 0.1 ? { isWide: true, shared: 4 } : { isWide: false, shared: 2 });
    w.fill(0, 5 * 512, 6 * 512);
    for (const at of [0, 200, 511]) w[5 * 512 + at] = Number.NEGATIVE_INFINITY;
    const y = product(problem, target, 1);
    expect(y[5]).toBe(Number.NEGATIVE_INFINITY);
    w.fill(0, 5 * 512, 6 * 512);
    y[5] = 0;
    expectProduct(y, problem);
  });

  test("windows have as many columns as tables hold", () => {
    for (const density of [0.2, 0.05]) {
      const next = random(7);
      const w = Float32Array.from({ length: 128 * 600 }, () => (next() < density ? next() - 0.5 : 0));
      const problem = { rows: 128, columns: 600, w, x: Float32Array.from({ length: 600 }, () => next() - 0.5) };
      const { shape } = matrixOf(problem, target);
      if (target.name === "avx512") expect(shape).toMatchObject({ isWide: true, byWords: !target.slowWordLookups });
      else if (shape.walk === "windows") expect(shape.isWide).toBe(false);
      expectProduct(product(problem, target, 1), problem);
      problem.x[563] = Number.NaN;
      const touched = Array.from(product(problem, target, 2), Number.isNaN);
      expect(touched).toEqual(Array.from({ length: 128 }, (_, r) => w[r * 600 + 563] !== 0));
    }
  });

  test("a window that has all columns is looked up in registers, wherever rows begin", () => {
    const next = random(11);
    const columns = target.name === "avx512" ? 64 : 2 * target.lanes;
    const w = Float32Array.from({ length: 256 * columns }, () => (next() < 0.06 ? next() - 0.5 : 0));
    // Rows of a slice that have the last columns only.
    for (let r = 0; r < 2 * target.lanes; r++) w.fill(0, r * columns, (r + 1) * columns - 3);
    const problem = { rows: 256, columns, w, x: Float32Array.from({ length: columns }, () => next() - 0.5) };
    const { shape } = matrixOf(problem, target);
    if (target.name === "avx512") expect(shape).toMatchObject({ isWide: true, windows: 1 });
    if (shape.walk === "windows") expect(isWhole(shape, target.lanes)).toBe(true);
    expectProduct(product(problem, target, 1), problem);
    problem.x[columns - 1] = Number.POSITIVE_INFINITY;
    const touched = Array.from(product(problem, target, 2), (y) => !Number.isFinite(y));
    expect(touched).toEqual(Array.from({ length: 256 }, (_, r) => w[(r + 1) * columns - 1] !== 0));
  });

  test("gathers where windows hold little", () => {
    expect(matrixOf(problemOf(128, 512, 1), target).shape.walk).toBe("windows");
    const next = random(5);
    const far: Problem = { rows: 128, columns: 12000, w: new Float32Array(128 * 12000), x: new Float32Array(12000).fill(1) };
    for (let r = 0; r < 128; r++) for (let i = 0; i < 12; i++) far.w[r * 12000 + 1000 * i + Math.floor(next() * 1000)] = 1 + i;
    expect(matrixOf(far, target).shape.walk).toBe("gathered");
    expect([...product(far, target, 1)]).toEqual(new Array(128).fill(78));
    expect(product(far, target, 3)).toEqual(product(far, target, 1));
  });

  test("each nonzero once", () => {
    for (const density of [0.5, 0.1]) {
      const problem = problemOf(200, 300, density);
      const { place } = matrixOf(problem, target);
      const count = problem.w.filter((v) => v !== 0).length;
      expect(Array.from(place.filter((p) => p >= 0)).sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
    }
  });
});

describe.each(KINDS.filter(({ target }) => target.expandsLoads))("$kind, from memory", ({ target }) => {
  // A second-level cache so small that any matrix is streamed.
  const small = { ...target, l2: 64 };
  const unpacked = { ...small, expandsLoads: false };
  test.each(cases)("(%i, %i), density %f, packed", (rows, columns, density) => {
    const problem = problemOf(rows, columns, density);
    const y = product(problem, small, 1);
    expectProduct(y, problem);
    expect(product(problem, small, 3)).toEqual(y);
    expect(y).toEqual(product(problem, unpacked, 1));
  });

  test.each(cases)("transposed (%i, %i), density %f, packed", (rows, columns, density) => {
    const problem = problemOf(rows, columns, density);
    const next = random(rows + columns);
    const g = Float32Array.from({ length: rows }, () => next() * 2 - 1);
    const y = turnedProduct(problem, g, small, 1);
    expectProduct(y, transposed(problem, g));
    expect(turnedProduct(problem, g, small, 3)).toEqual(y);
    expect(y).toEqual(turnedProduct(problem, g, unpacked, 1));
  });

  test("values of streamed matrices are packed where many lanes are empty", () => {
    const isPacked = (problem: Problem, t: SimdTarget): boolean => {
      const { shape } = matrixOf(problem, t);
      return shape.walk === "windows" && shape.isPacked;
    };
    const few = problemOf(256, 512, 0.1);
    const full = { ...few, w: new Float32Array(256 * 512).fill(1) };
    expect([isPacked(few, small), isPacked(few, target), isPacked(full, small)]).toEqual([true, false, false]);
    // Four second-level caches with its zeros, but not two without.
    const quarter = { ...target, l2: 256 * 512 };
    expect([isPacked(few, quarter), isPacked(problemOf(256, 512, 0.4), quarter)]).toEqual([true, false]);
  });
});

test("threads get periods of equal work", () => {
  expect([...shareSlices(Int32Array.from([0, 10, 20, 30, 40]), { together: 1, parts: 4 }, 2)]).toEqual([0, 2, 4]);
  expect([...shareSlices(Int32Array.from([0, 30, 35, 38, 40]), { together: 1, parts: 4 }, 2)]).toEqual([0, 1, 4]);
});

test("more columns than 16 bits tell are refused", () => {
  const wide = csbFromCoo(cooFromDense(fromNumbers("f32", [1, 70000], new Float32Array(70000).fill(1))));
  expect(() => vectorMatrixOf(wide, TARGETS[0])).toThrow(/70000 columns, wanted at most 65535/);
});
