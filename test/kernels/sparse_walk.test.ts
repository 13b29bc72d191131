// Groups of rows that meet panels are the same arrays as a plain walk over lists makes: either direction, strips, panels that cut blocks, rows side by side that share columns or do not.
import { expect, test } from "vitest";
import { groupsOf } from "../../src/kernels/sparse_groups.ts";
import { MetRows } from "../../src/kernels/sparse_met.ts";
import { ColumnBits } from "../../src/kernels/sparse_sharing.ts";
import { cooFromDense } from "../../src/sparse/coo.ts";
import { csbFromCoo } from "../../src/sparse/csb.ts";
import { TARGETS } from "../codegen/simd_run.ts";
import { randomMatrix, unevenMatrix } from "../sparse/matrices.ts";
import { plainWalk } from "./plain_walk.ts";
import { expectSameArray } from "./same_array.ts";

/** Panels of 128 rows, of 176, which cut blocks, and of 256; and few rows. */
const cases = [
  [1, 1, 1],
  [70, 90, 0.5],
  [300, 700, 0.2],
  [200, 500, 0.05],
  [40, 1000, 0.8],
  [513, 260, 0.4],
] as const;

test.each(cases)("(%i, %i), density %f", (rows, columns, density) => {
  const found = new Set<string>();
  for (const target of TARGETS)
    for (const dense of [randomMatrix(rows, columns, density), unevenMatrix(rows, columns, density)])
      for (const [block, threads] of [
        [64, 1],
        [128, 1],
        [16, 2],
      ])
        for (const direction of ["forward", "transposed"] as const)
          for (const n of [0, 256]) {
            const w = csbFromCoo(cooFromDense(dense), { block });
            const groups = groupsOf(w, direction, target, threads, n);
            const wanted = plainWalk(w, direction === "forward", groups);
            for (const array of ["starts", "visits", "coordinate", "place"] as const) expectSameArray(groups[array], wanted[array], array);
            expect([groups.length, groups.shared]).toEqual([wanted.length, wanted.shared]);
            found.add(`${groups.abreast} rows abreast${groups.broad ? ", broad" : ""}${groups.shares ? ", sharing" : ""}`);
          }
  if (rows === 300) expect(found).toContain("4 rows abreast, sharing");
  if (density === 0.05)
    expect([...found]).toEqual(expect.arrayContaining(["1 rows abreast", "2 rows abreast", "4 rows abreast", "1 rows abreast, broad"]));
});

test("columns in common, of full rows and of random ones", () => {
  const rows = 40;
  for (const columns of [1, 31, 64, 176, 256])
    for (const density of [0.5, 1]) {
      const dense = randomMatrix(rows, columns, density);
      const met = new MetRows(csbFromCoo(cooFromDense(dense), { block: 256 }), true, 256);
      met.meet({ top: 0, end: rows, from: 0, to: columns }, 0);
      const bits = new ColumnBits(met, rows, columns);
      const has = (row: number, column: number): boolean => dense.data[row * columns + column] !== 0;
      for (let a = 0; a < rows; a++) {
        const b = (7 * a + 3) % rows;
        let common = 0;
        for (let c = 0; c < columns; c++) {
          if (has(a, c) && has(b, c)) common++;
          if (bits.has(a, c) !== (has(a, c) ? 1 : 0)) expect.fail(`row ${a}, column ${c}`);
        }
        expect(bits.common(a, b)).toBe(common);
      }
    }
});
