// The three products of every sparse format are those of the dense matrix, and of each other.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { toCsb, toCsr, toTwoFour } from "../../src/sparse/convert.ts";
import { type SparseMatrix, visitStored } from "../../src/sparse/matrix.ts";
import { sddmm, spmm, spmmErrorBound, spmmTransposed } from "../../src/sparse/reference.ts";
import { valuesToNumbers } from "../../src/sparse/values.ts";
import { anyMatrix, FORMATS, prunedTwoFour, randomMatrix } from "./matrices.ts";

const all = { ...FORMATS, "2:4": (m: Parameters<typeof toTwoFour>[0]) => toTwoFour(m) };

/** a (m, k) · b (k, n), each read by a function. */
function product(m: number, k: number, n: number, a: (i: number, j: number) => number, b: (i: number, j: number) => number): number[] {
  return Array.from({ length: m * n }, (_, at) => {
    let sum = 0;
    for (let j = 0; j < k; j++) sum += a(Math.floor(at / n), j) * b(j, at % n);
    return sum;
  });
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a, (x, i) => x * b[i]).reduce((s, x) => s + x, 0);

const expectClose = (got: ArrayLike<number>, wanted: ArrayLike<number>): void => {
  expect(got.length).toBe(wanted.length);
  for (let i = 0; i < got.length; i++) expect(Math.abs(got[i] - wanted[i])).toBeLessThan(1e-12); // float64, at most 150 products below 1
};

const columnsOf = (rows: number, n: number, seed: number) => randomMatrix(rows, n, 1, seed).data as Float32Array; // of randomMatrix

function checkProducts(w: SparseMatrix, { shape: [rows, columns], data }: TensorData): void {
  const n = 3;
  const x = columnsOf(columns, n, 7);
  const g = columnsOf(rows, n, 8);
  const at = (r: number, c: number) => data[r * columns + c] as number;
  expectClose(
    spmm(w, x, n),
    product(rows, columns, n, at, (c, k) => x[c * n + k]),
  );
  expectClose(
    spmmTransposed(w, g, n),
    product(
      columns,
      rows,
      n,
      (c, r) => at(r, c),
      (r, k) => g[r * n + k],
    ),
  );
  const full = product(
    rows,
    n,
    columns,
    (r, k) => g[r * n + k],
    (k, c) => x[c * n + k],
  );
  const sampled = sddmm(w, g, x, n);
  expect(sampled.length).toBe(w.values.length);
  const wanted = new Float64Array(w.values.length);
  visitStored(w, (r, c, slot) => {
    wanted[slot] = full[r * columns + c];
  });
  expectClose(sampled, wanted);
}

describe("products", () => {
  for (const [name, convert] of Object.entries(all)) {
    test(name, () => {
      fc.assert(
        fc.property(anyMatrix, (drawn) => {
          const dense = name === "2:4" ? prunedTwoFour(drawn) : drawn;
          checkProducts(convert(dense), dense);
        }),
        { numRuns: 15 },
      );
    });
  }

  test("⟨WX, G⟩ = ⟨X, WᵀG⟩ = ⟨W, (G·Xᵀ)∘W's pattern⟩", () => {
    const w = toCsb(randomMatrix(130, 70, 0.3), { block: 64 });
    const [x, g] = [columnsOf(70, 5, 2), columnsOf(130, 5, 3)];
    const forward = dot(spmm(w, x, 5), g);
    expect(dot(x, spmmTransposed(w, g, 5))).toBeCloseTo(forward, 10);
    expect(dot(valuesToNumbers(w.dtype, w.values), sddmm(w, g, x, 5))).toBeCloseTo(forward, 10);
  });

  test("bfloat16 values are read as what they stand for", () => {
    expect([...spmm(toCsr(fromNumbers("bf16", [1, 2], [1.5, -2])), [1, 10], 1)]).toEqual([-18.5]);
  });

  test("operands of other sizes are refused", () => {
    const w = toCsr(randomMatrix(2, 3, 1));
    expect(() => spmm(w, new Float32Array(5), 2)).toThrow("W·X: wanted (3, 2), got 5 elements");
    expect(() => spmmTransposed(w, new Float32Array(6), 2)).toThrow("wanted (2, 2)");
    expect(() => sddmm(w, new Float32Array(4), new Float32Array(4), 2)).toThrow("wanted (3, 2)");
  });
});

test("float32 sums stay inside the error bound, which is not loose", () => {
  const w = toCsr(randomMatrix(20, 500, 0.5, 4));
  const x = columnsOf(500, 4, 5);
  const exact = spmm(w, x, 4);
  const bound = spmmErrorBound(w, x, 4, exact);
  const rounded = new Float32Array(80);
  visitStored(w, (row, column, slot) => {
    for (let k = 0; k < 4; k++) rounded[row * 4 + k] += Math.fround(w.values[slot] * x[column * 4 + k]);
  });
  for (let i = 0; i < 80; i++) {
    expect(Math.abs(rounded[i] - exact[i])).toBeLessThan(bound[i]);
    expect(bound[i]).toBeLessThan(1e-3);
  }
});
