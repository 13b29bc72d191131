// Sparse times sparse is the product of the dense matrices, in compressed sparse rows that are valid.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { toCsr, toDense, transpose, withType } from "../../src/sparse/convert.ts";
import { spmm } from "../../src/sparse/reference.ts";
import { spgemm } from "../../src/sparse/spgemm.ts";
import { validate } from "../../src/sparse/validate.ts";
import { valuesToNumbers } from "../../src/sparse/values.ts";
import { FORMATS, randomMatrix } from "./matrices.ts";

const formatBy = (name: string) => FORMATS[name as keyof typeof FORMATS]; // one of its keys

describe.each(Object.keys(FORMATS))("%s", (name) => {
  test("times each other size and density", () => {
    fc.assert(
      fc.property(
        fc.tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 70 })),
        fc.constantFrom(0, 0.02, 0.3, 1),
        fc.constantFrom(0, 0.05, 1),
        fc.nat(99),
        ([rows, depth, columns], left, right, seed) => {
          const [a, b] = [randomMatrix(rows, depth, left, seed + 1), randomMatrix(depth, columns, right, seed + 2)];
          const c = spgemm(formatBy(name)(a), formatBy(name)(b), "f64");
          validate(c);
          const wanted = spmm(toCsr(a), b.data as Float32Array, columns); // of randomMatrix
          const got = toDense(c).data as Float64Array; // as asked for
          for (let i = 0; i < wanted.length; i++) expect(Math.abs(got[i] - wanted[i])).toBeLessThan(1e-12); // at most 40 products below 1
        },
      ),
      { numRuns: 30 },
    );
  });
});

test("columns that meet in the table come out apart and in order", () => {
  // One row of ones times a matrix whose rows are far apart and wide.
  const ones = { dtype: "f32", shape: [1, 3], data: Float32Array.of(1, 1, 1) } as const;
  const wide = randomMatrix(3, 5000, 0.9, 4);
  const c = spgemm(toCsr(ones), toCsr(wide), "f64");
  validate(c);
  expect(Array.from(toDense(c).data, Number)).toEqual(Array.from(spmm(toCsr(ones), wide.data as Float32Array, 5000)));
});

test("sums are rounded once, to float32 unless something else is said", () => {
  const [a, b] = [toCsr(randomMatrix(20, 30, 0.4, 1)), toCsr(randomMatrix(30, 20, 0.4, 2))];
  const exact = spgemm(a, b, "f64");
  expect(spgemm(a, b)).toEqual(withType(exact, "f32"));
  expect(spgemm(withType(a, "f64"), b).dtype).toBe("f64");
  expect(valuesToNumbers("f64", spgemm(withType(a, "bf16"), b, "f64").values)).not.toEqual(valuesToNumbers("f64", exact.values));
});

test("(A·B)ᵀ = Bᵀ·Aᵀ", () => {
  const [a, b] = [toCsr(randomMatrix(50, 60, 0.1, 3)), toCsr(randomMatrix(60, 40, 0.1, 4))];
  const turned = spgemm(transpose(b), transpose(a), "f64");
  const [got, wanted] = [toDense(turned).data, toDense(transpose(spgemm(a, b, "f64"))).data];
  for (let i = 0; i < got.length; i++) expect(Math.abs(Number(got[i]) - Number(wanted[i]))).toBeLessThan(1e-14);
});

test("sums of zero stay where they are", () => {
  const a = toCsr({ dtype: "f32", shape: [1, 2], data: Float32Array.of(1, 1) });
  const b = toCsr({ dtype: "f32", shape: [2, 1], data: Float32Array.of(1, -1) });
  expect(spgemm(a, b)).toMatchObject({ column: Uint32Array.of(0), values: Float32Array.of(0) });
});

test("sizes must meet", () => {
  expect(() => spgemm(toCsr(randomMatrix(2, 3, 1)), toCsr(randomMatrix(2, 3, 1)))).toThrow("3 is not 2");
});
