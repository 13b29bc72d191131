// Marches by lists of lanes and by bits of columns take the same nonzeros in the same steps as one that looks at them one by one.
import { describe, expect, test } from "vitest";
import { marchApartOf } from "../../src/kernels/sparse_apart.ts";
import { asExtra, EMPTY, marchOf, SECOND, Taken } from "../../src/kernels/sparse_march.ts";
import { type Rows, rowsOf, type Slices, slicesByLength, slicesInOrder } from "../../src/kernels/sparse_slices.ts";
import { cooFromDense } from "../../src/sparse/coo.ts";
import { csbFromCoo } from "../../src/sparse/csb.ts";
import { unevenMatrix } from "../sparse/matrices.ts";
import { march, queueOf } from "./plain_march.ts";
import { expectSameArray } from "./same_array.ts";

interface Found {
  readonly steps: number;
  readonly items: number[];
  readonly codes: number[];
  readonly starts: number[];
}

interface Plan {
  readonly lanes: number;
  readonly unit: number;
  readonly bundle: number;
  readonly windows: number;
}

function plain(rows: Rows, slice: Int32Array, { lanes, unit, bundle, windows }: Plan, apart: boolean): Found {
  const items: number[] = [];
  const codes: number[] = [];
  const starts: number[] = [];
  const put = (to: number[], at: number, value: number, rest: number): void => {
    while (to.length <= at) to.push(rest);
    to[at] = value;
  };
  const steps = march(
    queueOf(rows, slice, lanes),
    { lanes, unit, length: bundle / windows, apart },
    {
      window: (window, column) => put(starts, window, column / unit, 0),
      take: ({ step, lane, i, isExtra, column, row }) => {
        put(items, step * lanes + lane, apart && isExtra ? asExtra(i) : i, EMPTY);
        put(codes, step * lanes + lane, column + row * SECOND, 0);
      },
    },
  );
  const bundles = Math.ceil(steps / bundle);
  while (items.length < bundles * bundle * lanes) items.push(EMPTY);
  while (codes.length < bundles * bundle * lanes) codes.push(0);
  while (starts.length < bundles * windows) starts.push(0);
  return { steps, items, codes, starts };
}

const rowsOfMatrix = (rows: number, columns: number, density: number): Rows =>
  rowsOf(csbFromCoo(cooFromDense(unevenMatrix(rows, columns, density)), { block: 64 }));

/** All slices of a cut, one after another into the same arrays. */
function expectSame(rows: Rows, { slices }: Slices, plan: Plan, apart: boolean): number {
  const { lanes, unit, bundle, windows } = plan;
  const taken = new Taken(lanes, bundle, windows, 1);
  const wanted = slices.map((slice) => plain(rows, slice, plan, apart));
  for (const [s, slice] of slices.entries()) {
    const take = (apart ? marchApartOf : marchOf)(rows, slice, lanes);
    const steps = take({ unit, length: bundle / windows }, taken);
    expect(take({ unit, length: bundle / windows }, null)).toBe(steps);
    expect(steps).toBe(wanted[s].steps);
    taken.end(steps);
  }
  const { items, codes, starts } = taken.all();
  const all = (of: "starts" | "codes" | "items"): number[] => wanted.flatMap((one) => one[of]);
  expectSameArray(starts, Uint16Array.from(all("starts")), "starts");
  expectSameArray(codes, Uint8Array.from(all("codes")), "codes");
  expectSameArray(items, Int32Array.from(all("items")), "items");
  return items.filter((item) => item < EMPTY).length;
}

const matrices = [
  [70, 90, 0.5],
  [33, 130, 0.1],
  [64, 64, 1],
  [300, 40, 0.2],
  [200, 700, 0.05],
  [20, 5000, 0.02],
  [1, 1, 1],
] as const;

describe.each([4, 8, 16])("%i lanes", (lanes) => {
  test.each(matrices)("(%i, %i), density %f", (count, columns, density) => {
    const rows = rowsOfMatrix(count, columns, density);
    for (const height of [lanes, 2 * lanes])
      for (const cut of [slicesInOrder(count, height), slicesByLength(count, rows, height)])
        for (const [bundle, windows, unit] of [
          [6, 4, lanes],
          [5, 2, lanes],
          [4, 1, 2 * lanes],
        ])
          expectSame(rows, cut, { lanes, unit, bundle, windows }, false);
  });

  test.each(matrices)("(%i, %i), density %f, columns apart", (count, columns, density) => {
    const rows = rowsOfMatrix(count, columns, density);
    for (const height of [lanes, 2 * lanes])
      for (const windows of [1, 2, 3, 5]) expectSame(rows, slicesInOrder(count, height), { lanes, unit: lanes, bundle: 5, windows }, true);
  });

  test("some clash and are taken one by one", () => {
    let extras = 0;
    for (const density of [0.5, 0.2, 0.1])
      extras += expectSame(rowsOfMatrix(256, 512, density), slicesInOrder(256, lanes), { lanes, unit: lanes, bundle: 5, windows: 2 }, true);
    expect(extras).toBeGreaterThan(0);
  });
});
