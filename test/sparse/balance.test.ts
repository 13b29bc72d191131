// Nonzeros are shared out over threads evenly and completely, and the statistics say how evenly.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { blockColumnPointers, cutByNonzeros, mergePath } from "../../src/sparse/balance.ts";
import { toCsb, toCsr, transpose } from "../../src/sparse/convert.ts";
import type { Csb } from "../../src/sparse/csb.ts";
import { statisticsOf } from "../../src/sparse/statistics.ts";
import { anyMatrix, randomMatrix } from "./matrices.ts";

const prefixSum = (counts: readonly number[]): Uint32Array => {
  const out = new Uint32Array(counts.length + 1);
  for (const [i, n] of counts.entries()) out[i + 1] = out[i] + n;
  return out;
};

describe("cutting rows by nonzeros", () => {
  test("at the nearest row", () => {
    expect([...cutByNonzeros(prefixSum([4, 4, 4, 4]), 2)]).toEqual([0, 2, 4]);
    expect([...cutByNonzeros(prefixSum([9, 1, 1, 1]), 2)]).toEqual([0, 1, 4]);
    expect([...cutByNonzeros(prefixSum([1, 1, 1, 9]), 2)]).toEqual([0, 3, 4]);
    expect([...cutByNonzeros(prefixSum([0, 0, 6, 0]), 3)]).toEqual([0, 2, 3, 4]);
    expect([...cutByNonzeros(prefixSum([]), 2)]).toEqual([0, 0, 0]);
  });

  test("all units, each once, none over its share by more than one unit", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(50), { maxLength: 60 }), fc.integer({ min: 1, max: 9 }), (counts, parts) => {
        const pointers = prefixSum(counts);
        const cuts = [...cutByNonzeros(pointers, parts)];
        expect(cuts).toEqual(cuts.toSorted((a, b) => a - b));
        expect([cuts.length, cuts[0], cuts[parts]]).toEqual([parts + 1, 0, counts.length]);
        const most = Math.max(...cuts.slice(1).map((end, p) => pointers[end] - pointers[cuts[p]]));
        expect(most).toBeLessThanOrEqual(pointers[counts.length] / parts + Math.max(0, ...counts));
      }),
    );
  });

  test("rows of blocks, and columns of blocks", () => {
    const w = toCsb(randomMatrix(200, 130, 0.3), { block: 64 });
    const cuts = cutByNonzeros(w.pointers, 2, w.blockColumns);
    expect([...cuts]).toEqual([0, 2, 4]);
    const turned = transpose(w) as Csb; // transposing keeps the format
    const rowsOfBlocks = Array.from({ length: turned.blockRows + 1 }, (_, r) => turned.pointers[r * turned.blockColumns]);
    expect([...blockColumnPointers(w)]).toEqual(rowsOfBlocks);
  });
});

describe("merge path", () => {
  test("counts rows and nonzeros alike", () => {
    // 10 rows, of which the fifth holds everything
    const points = mergePath(prefixSum([0, 0, 0, 0, 10, 0, 0, 0, 0, 0]), 4); // the fifth of ten rows holds everything
    expect(points.map(({ row, nonzero }) => [row, nonzero])).toEqual([
      [0, 0],
      [4, 1],
      [4, 6],
      [5, 10],
      [10, 10],
    ]);
  });

  test("equal steps, each point on the path", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(20), { maxLength: 40 }), fc.integer({ min: 1, max: 9 }), (counts, parts) => {
        const pointers = prefixSum(counts);
        const total = counts.length + pointers[counts.length];
        const points = mergePath(pointers, parts);
        expect(points.length).toBe(parts + 1);
        for (const [p, { row, nonzero }] of points.entries()) {
          expect(row + nonzero).toBe(Math.floor((total * p) / parts));
          expect(nonzero).toBeGreaterThanOrEqual(pointers[row]);
          if (row < counts.length) expect(nonzero).toBeLessThanOrEqual(pointers[row + 1]);
        }
      }),
    );
  });
});

describe("statistics", () => {
  test("of a small matrix", () => {
    const m = toCsr(fromNumbers("f32", [4, 4], [1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]));
    expect(statisticsOf(m, { block: 2, threads: 2 })).toEqual({
      nonzeros: 6,
      density: 6 / 16,
      bytes: 4 * (5 + 6 + 6),
      bytesPerElement: (4 * 17) / 16,
      rowNonzeros: { min: 0, mean: 1.5, max: 4 },
      blockFill: [0, 0, 0, 2, 0, 2, 0, 0, 0, 0, 0],
      imbalance: { equalRows: 8 / 6, equalNonzeros: 8 / 6 },
    });
  });

  test("long rows at one end: cutting by nonzeros evens them out", () => {
    const m = toCsr(fromNumbers("f32", [4, 3], [1, 1, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0]));
    expect(statisticsOf(m).imbalance).toEqual({ equalRows: 8 / 6, equalNonzeros: 1 });
  });

  test("every block is counted; fill of blocks at the edges is of what they really have", () => {
    fc.assert(
      fc.property(anyMatrix, (dense) => {
        const { blockFill } = statisticsOf(toCsr(dense), { block: 32 });
        expect(blockFill.reduce((a, b) => a + b, 0)).toBe(Math.ceil(dense.shape[0] / 32) * Math.ceil(dense.shape[1] / 32));
      }),
    );
    expect(statisticsOf(toCsr(randomMatrix(65, 33, 1)), { block: 32 }).blockFill[10]).toBe(6);
  });

  test("of an empty matrix", () => {
    expect(statisticsOf(toCsb(fromNumbers("f32", [0, 5], [])))).toMatchObject({
      density: 0,
      bytesPerElement: 0,
      rowNonzeros: { min: 0, mean: 0, max: 0 },
    });
  });
});
