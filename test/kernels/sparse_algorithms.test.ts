// Every algorithm for sparse times dense against float64 sums: error bound, empty rows, full blocks, ragged edges, and the same bits for any number of threads.
import { describe, expect, test } from "vitest";
import type { Algorithm } from "../../bench/sparse/algorithm.ts";
import { ALGORITHMS } from "../../bench/sparse/algorithms.ts";
import { lowerAddresses } from "../../src/codegen/addresses.ts";
import type { SimdTarget } from "../../src/ir/kernel.ts";
import { type Coo, cooFromDense } from "../../src/sparse/coo.ts";
import { spmm, spmmErrorBound } from "../../src/sparse/reference.ts";
import { runLowered, TARGETS } from "../codegen/simd_run.ts";
import { prunedTwoFour, randomNumbers, unevenMatrix } from "../sparse/matrices.ts";

/** Two of four neighbours at most where the algorithm wants that. */
function matrix({ suits, rounded = (w) => w }: Algorithm, rows: number, columns: number, density: number): Coo {
  const dense = unevenMatrix(rows, columns, density);
  return rounded(cooFromDense(suits === "2:4" ? prunedTwoFour(dense) : dense));
}

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/** Scratch is shared: threads run one after another. */
function multiply(algorithm: Algorithm, w: Coo, x: Float32Array, target: SimdTarget, threads: number): Float32Array {
  const n = x.length / w.columns;
  const y = new Float32Array(w.rows * n).fill(Number.NaN);
  const shared = new Map<object, Uint8Array>();
  for (const { kernel, operands } of algorithm.steps(w, n, { target, threads })) {
    const buffers = operands.map((o) => {
      if (o === "x") return bytesOf(x);
      if (o === "y") return bytesOf(y);
      if (ArrayBuffer.isView(o)) return bytesOf(o);
      const memory = shared.get(o) ?? new Uint8Array(o.bytes).fill(0xa7);
      shared.set(o, memory);
      return memory;
    });
    const scratch = kernel.params.filter((p) => p.access === "scratch").map((p) => new Uint8Array(p.bytes).fill(0xa7));
    runLowered(target, lowerAddresses(kernel), [...buffers, ...scratch], kernel.threads);
  }
  return y;
}

const cases = [
  // rows, columns, n, density
  [1, 1, 1, 1],
  [70, 90, 64, 0.5],
  [33, 130, 80, 0.1],
  [129, 65, 17, 0.05],
  [150, 40, 8, 0.2],
  [64, 64, 131, 1],
  [20, 300, 3, 0.02],
  [130, 200, 1, 0.1],
  [300, 37, 1, 0.3],
] as const;

describe.each(ALGORITHMS)("$name", (algorithm) => {
  describe.each(TARGETS)("$name", (target) => {
    test.each(cases)("(%i, %i), n %i, density %f", (rows, columns, n, density) => {
      const w = matrix(algorithm, rows, columns, density);
      const next = randomNumbers(5);
      const x = Float32Array.from({ length: columns * n }, () => next() * 2 - 1);
      const y = multiply(algorithm, w, x, target, 1);
      const wanted = spmm(w, x, n);
      const bound = spmmErrorBound(w, x, n, wanted);
      const wrong = y.findIndex((v, i) => !(Math.abs(v - wanted[i]) <= bound[i]));
      if (wrong >= 0) expect.fail(`(${Math.floor(wrong / n)}, ${wrong % n}): ${y[wrong]}, wanted ${wanted[wrong]} ± ${bound[wrong]}`);
      for (const threads of [2, 3]) expect(multiply(algorithm, w, x, target, threads)).toEqual(y);
    });
  });
});
