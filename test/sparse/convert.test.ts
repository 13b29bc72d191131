// Every sparse format gives back the dense matrix it was made from, directly and by way of any other, and lays its nonzeros out as it says.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { bitOf, columnOfBit, popcount, rowOfBit } from "../../src/sparse/bitmap.ts";
import {
  gather,
  toBitmap,
  toBsr,
  toCoo,
  toCsb,
  toCsc,
  toCsr,
  toDense,
  toNibble,
  toTwoFour,
  transpose,
  withType,
  withValues,
} from "../../src/sparse/convert.ts";
import { cooFromDense, sortCoo, transposeCoo } from "../../src/sparse/coo.ts";
import { csbFromCoo } from "../../src/sparse/csb.ts";
import { countNonzeros, csbFromFloats } from "../../src/sparse/csb_dense.ts";
import { transposedCsr } from "../../src/sparse/csc.ts";
import { invertOrder, permuteRows, rowsByLength } from "../../src/sparse/csr.ts";
import type { SparseMatrix } from "../../src/sparse/matrix.ts";
import { stableOrder } from "../../src/sparse/order.ts";
import { statisticsOf } from "../../src/sparse/statistics.ts";
import { validate } from "../../src/sparse/validate.ts";
import { anyMatrix, FORMATS, prunedTwoFour, randomMatrix, randomNumbers } from "./matrices.ts";

const transposedDense = ({ dtype, shape: [rows, columns], data }: TensorData): TensorData => {
  const source = data as Float32Array; // of the random matrices
  return { dtype, shape: [columns, rows], data: Float32Array.from(source, (_, i) => source[(i % rows) * columns + Math.floor(i / rows)]) };
};

/** Coordinates come in the order of what they were made from. */
const inRowOrder = (m: SparseMatrix): SparseMatrix => (m.kind === "coo" ? sortCoo(m) : m);

describe("round trips", () => {
  for (const [name, convert] of Object.entries(FORMATS)) {
    test(`${name}: dense and back`, () => {
      fc.assert(
        fc.property(anyMatrix, (dense) => {
          expect(toDense(validate(convert(dense)))).toEqual(dense);
        }),
        { numRuns: 40 },
      );
    });
    test(`${name}: transposed`, () => {
      fc.assert(
        fc.property(anyMatrix, (dense) => {
          expect(toDense(validate(transpose(convert(dense))))).toEqual(transposedDense(dense));
        }),
        { numRuns: 20 },
      );
    });
  }

  test("any format into any other", () => {
    const formats = fc.constantFrom(...Object.values(FORMATS));
    fc.assert(
      fc.property(anyMatrix, formats, formats, (dense, first, second) => {
        const straight = second(dense);
        expect(inRowOrder(second(first(dense)))).toEqual(inRowOrder(straight));
      }),
    );
  });

  test("2:4", () => {
    fc.assert(
      fc.property(anyMatrix, (dense) => {
        const pruned = prunedTwoFour(dense);
        expect(toDense(validate(toTwoFour(pruned)))).toEqual(pruned);
      }),
    );
    const board = fromNumbers(
      "f32",
      [6, 9],
      Array.from({ length: 54 }, (_, i) => ((Math.floor(i / 9) + (i % 9)) % 2) * (i + 1)),
    );
    expect(toDense(validate(transpose(toTwoFour(board))))).toEqual(transposedDense(board));
  });

  test("2:4 refuses three of four", () => {
    const dense = fromNumbers("f32", [2, 6], [0, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0]);
    expect(() => toTwoFour(dense)).toThrow("2:4: row 1 has 3 nonzeros in columns 0 to 3; prune to 2:4 first");
  });

  test.each(["f32", "f64", "f16", "bf16", "i8"] as const)("values of %s", (dtype) => {
    const dense = fromNumbers(dtype, [3, 4], [0, 1.5, 0, -2, 0, 0, 0, 0, 127, 0, 3, 0]);
    for (const convert of Object.values(FORMATS)) expect(toDense(validate(convert(dense)))).toEqual(dense);
    expect(toDense(validate(toTwoFour(dense)))).toEqual(dense);
  });

  test("NaN and infinity are nonzeros, -0 is not", () => {
    const dense = fromNumbers("bf16", [1, 4], [Number.NaN, -0, Number.POSITIVE_INFINITY, 0]);
    const { column } = validate(toCsr(dense));
    expect([...column]).toEqual([0, 2]);
  });

  test("what is no matrix is refused", () => {
    expect(() => toCsr(fromNumbers("f32", [2, 2, 1], [1, 2, 3, 4]))).toThrow("dense matrix: wanted (rows, columns), got (2,2,1)");
    expect(() => toCsr(fromNumbers("i32", [1, 1], [1]))).toThrow("sparse matrices of i32");
    expect(() => toCsb(fromNumbers("f32", [1, 1], [1]), { block: 100 })).toThrow("block 100, wanted a power of two");
    expect(() => toCsb({ ...toCoo(fromNumbers("f32", [1, 1], [1])), rows: 2 ** 31 - 1, columns: 2 ** 31 - 1 }, { block: 8 })).toThrow(
      "take larger ones",
    );
  });
});

describe("layout", () => {
  // 1 . 2
  // . . .
  // 3 4 .
  const small = fromNumbers("f32", [3, 3], [1, 0, 2, 0, 0, 0, 3, 4, 0]);

  test("CSR and CSC", () => {
    expect(toCsr(small)).toMatchObject({
      pointers: Uint32Array.of(0, 2, 2, 4),
      column: Uint32Array.of(0, 2, 0, 1),
      values: Float32Array.of(1, 2, 3, 4),
    });
    expect(toCsc(small)).toMatchObject({
      pointers: Uint32Array.of(0, 2, 3, 4),
      row: Uint32Array.of(0, 2, 2, 0),
      values: Float32Array.of(1, 3, 4, 2),
    });
    expect(toDense(transposedCsr(toCsr(small)))).toEqual(transposedDense(small));
  });

  test("CSB: blocks row by row, inside by the order asked for", () => {
    const dense = new Float32Array(16 * 16);
    for (const [r, c] of [[0, 9], [9, 1], [8, 2], [1, 1], [0, 7], [2, 0], [15, 15]]) dense[r * 16 + c] = r * 16 + c; // biome-ignore format: places
    const values = (order: "row" | "column" | "z") => toCsb({ dtype: "f32", shape: [16, 16], data: dense }, { block: 8, order });
    expect(values("row")).toMatchObject({
      pointers: Uint32Array.of(0, 3, 4, 6, 7),
      row: Uint8Array.of(0, 1, 2, 0, 0, 1, 7),
      column: Uint8Array.of(7, 1, 0, 1, 2, 1, 7),
      values: Float32Array.of(7, 17, 32, 9, 130, 145, 255),
    });
    expect([...values("column").values]).toEqual([32, 17, 7, 9, 145, 130, 255]);
    expect([...values("z").values]).toEqual([17, 32, 7, 9, 145, 130, 255]);
  });

  test("CSB: bytes up to 256, then 16 bits", () => {
    const dense = randomMatrix(300, 600, 0.05);
    expect(toCsb(dense, { block: 256 }).row).toBeInstanceOf(Uint8Array);
    expect(toCsb(dense, { block: 512 }).column).toBeInstanceOf(Uint16Array);
  });

  test("bitmaps: each place has its bit, counts are those of the bits", () => {
    const seen = new Set<number>();
    for (let row = 0; row < 64; row++)
      for (let column = 0; column < 64; column++) {
        const bit = bitOf(row, column);
        expect([rowOfBit(bit), columnOfBit(bit)]).toEqual([row, column]);
        seen.add(bit);
      }
    expect(seen.size).toBe(4096);
    const dense = fromNumbers("f32", [64, 128], new Float32Array(64 * 128).fill(1));
    const { pointers, prefix, bits } = toBitmap(dense);
    expect([...pointers]).toEqual([0, 4096, 8192]);
    expect([...prefix]).toEqual(Array.from({ length: 32 }, (_, g) => (g % 16) * 256));
    expect(bits.every((word) => word === 0xffffffff)).toBe(true);
    expect([0, 1, 0x80000000, 0xffffffff, 0x12345678].map(popcount)).toEqual([0, 1, 1, 32, 13]);
  });

  test("BSR stores blocks whole", () => {
    const { pointers, blockColumn, values } = toBsr(randomMatrix(9, 17, 1), 8);
    expect([...pointers]).toEqual([0, 3, 6]);
    expect([...blockColumn]).toEqual([0, 1, 2, 0, 1, 2]);
    expect(values.length).toBe(6 * 64);
  });

  test("2:4 stores two bits a place", () => {
    const { places, values } = toTwoFour(fromNumbers("f32", [1, 9], [0, 5, 0, 6, 0, 0, 0, 7, 8]));
    expect([...places]).toEqual([0b1110_1101, 0b0100]);
    expect([...values]).toEqual([5, 6, 0, 7, 8, 0]);
  });
});

test("bytes an element at half density with 16-bit values are those of the design", () => {
  const dense = withType(toCoo(randomMatrix(1024, 1024, 0.5)), "bf16");
  const { density } = statisticsOf(dense);
  const bytes = (m: Parameters<typeof statisticsOf>[0]) => statisticsOf(m).bytesPerElement;
  expect(bytes(toCsr(dense))).toBeCloseTo(6 * density, 2);
  expect(bytes(toCsb(dense))).toBeCloseTo(4 * density, 2);
  expect(bytes(toNibble(dense))).toBeCloseTo(3 * density + 0.009, 3);
  expect(bytes(toBitmap(dense))).toBeCloseTo(2 * density + 0.134, 3);
});

test("values of another order, type and source fit the pattern", () => {
  const dense = randomMatrix(70, 90, 0.2, 3);
  for (const convert of Object.values(FORMATS)) {
    const m = convert(dense);
    expect(toDense(withValues(m, "f64", gather(m, dense.data as Float32Array)))).toEqual({
      ...dense,
      dtype: "f64",
      data: Float64Array.from(dense.data as Float32Array),
    });
    expect(toDense(withType(m, "bf16"))).toEqual(fromNumbers("bf16", dense.shape, dense.data as Float32Array));
  }
});

describe("rows in another order", () => {
  test("longest first, and back", () => {
    fc.assert(
      fc.property(anyMatrix, (dense) => {
        const m = toCsr(dense);
        const order = rowsByLength(m);
        const sorted = validate(permuteRows(m, order));
        const lengths = Array.from(order, (_, i) => sorted.pointers[i + 1] - sorted.pointers[i]);
        expect(lengths).toEqual(lengths.toSorted((a, b) => b - a));
        expect(permuteRows(sorted, invertOrder(order))).toEqual(m);
      }),
    );
  });
  test("equal rows keep their order", () => {
    expect([...rowsByLength(toCsr(fromNumbers("f32", [4, 2], [1, 0, 1, 1, 0, 1, 0, 0])))]).toEqual([1, 0, 2, 3]);
  });
  test("what is no permutation is refused", () => {
    const m = toCsr(randomMatrix(3, 3, 1));
    for (const order of [
      [0, 1],
      [0, 1, 1],
      [0, 1, 3],
    ])
      expect(() => permuteRows(m, Uint32Array.from(order))).toThrow("no permutation of 3");
  });
});

test("sorting is stable and in order, for keys of one digit and of two", () => {
  const random = randomNumbers(5);
  for (const bound of [1, 2, 1000, 65536, 65537, 2 ** 32]) {
    const key = Uint32Array.from({ length: 500 }, () => Math.floor(random() * Math.min(bound, 2 ** 32)) >>> (random() < 0.5 ? 0 : 31));
    const wanted = [...key.keys()].sort((a, b) => key[a] - key[b]);
    expect([...stableOrder(key, bound)]).toEqual(wanted);
  }
});

describe("blocks straight from a dense matrix", () => {
  const cases = [
    [1, 1, 1],
    [70, 90, 0.4],
    [64, 128, 0],
    [130, 257, 0.1],
    [5, 300, 1],
  ] as const;
  test.each(cases)("(%i, %i), density %f", (rows, columns, density) => {
    for (const block of [16, 64, 128]) {
      const dense = randomMatrix(rows, columns, density);
      const data = dense.data as Float32Array; // made of it
      data[rows * columns - 1] = -0;
      if (density > 0) data[0] = Number.NaN;
      expect(csbFromFloats(data, { rows, columns, block })).toEqual(csbFromCoo(cooFromDense(dense), { block }));
      const turned = csbFromFloats(data, { rows: columns, columns: rows, block, isTurned: true });
      expect(turned).toEqual(csbFromCoo(transposeCoo(cooFromDense(dense)), { block }));
      expect(countNonzeros(data)).toBe(turned.values.length);
    }
  });

  test("of a mask's elements, zeros among them", () => {
    const dense = randomMatrix(70, 200, 0.5);
    const mask = randomMatrix(70, 200, 0.3, 2).data;
    const places = Array.from(mask.keys()).filter((i) => mask[i] !== 0);
    const coo = {
      ...cooFromDense(dense),
      row: Uint32Array.from(places, (i) => Math.floor(i / 200)),
      column: Uint32Array.from(places, (i) => i % 200),
      values: Float32Array.from(places, (i) => dense.data[i] as number),
    };
    for (const isTurned of [false, true]) {
      const [rows, columns] = isTurned ? [200, 70] : [70, 200];
      const made = csbFromFloats(dense.data as Float32Array, { rows, columns, block: 64, isTurned, mask: mask as Float32Array });
      expect(made).toEqual(csbFromCoo(isTurned ? transposeCoo(coo) : coo, { block: 64 }));
    }
  });
});
