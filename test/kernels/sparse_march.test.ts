// Marches by queues and by bits of columns take the same nonzeros as one that looks at them one by one; where columns are apart, in the same steps.
import { describe, expect, test } from "vitest";
import { marchApartOf } from "../../src/kernels/sparse_apart.ts";
import { asExtra, EMPTY, marchOf, OTHER, Taken, type Windows } from "../../src/kernels/sparse_march.ts";
import { PERIOD, type Rows, rowsOf, type Slices, slicesByLength, slicesInOrder } from "../../src/kernels/sparse_slices.ts";
import { cooFromDense } from "../../src/sparse/coo.ts";
import { csbFromCoo } from "../../src/sparse/csb.ts";
import { unevenMatrix } from "../sparse/matrices.ts";
import { march, marchShared, queueOf } from "./plain_march.ts";
import { expectSameArray } from "./same_array.ts";

interface Found {
  readonly steps: number;
  readonly items: readonly number[];
  readonly codes: readonly number[];
  readonly starts: readonly number[];
}

function plainApart(rows: Rows, slice: Int32Array, lanes: number, { bundle, windows }: Windows): Found {
  const items: number[] = [];
  const codes: number[] = [];
  const starts: number[] = [];
  const put = (to: number[], at: number, value: number, rest: number): void => {
    while (to.length <= at) to.push(rest);
    to[at] = value;
  };
  const steps = march(
    queueOf(rows, slice, lanes),
    { lanes, unit: lanes, length: bundle / windows, apart: true },
    {
      window: (window, column) => put(starts, window, column / lanes, 0),
      take: ({ step, lane, i, isExtra, column, row }) => {
        put(items, step * lanes + lane, isExtra ? asExtra(i) : i, EMPTY);
        put(codes, step * lanes + lane, column + row * OTHER, 0);
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
function found(march: typeof marchOf, rows: Rows, { slices }: Slices, windows: Windows, lanes: number) {
  const taken = new Taken(lanes, windows.bundle, windows.windows, 1);
  const ends = slices.map((slice) => {
    const take = march(rows, slice, lanes);
    const steps = take(windows, taken);
    expect(take(windows, null)).toBe(steps);
    return { steps, bundles: taken.end(steps) };
  });
  return { ends, ...taken.all() };
}

/** Returns how many are extra. */
function expectApart(rows: Rows, cut: Slices, windows: Windows, lanes: number): number {
  const wanted = cut.slices.map((slice) => plainApart(rows, slice, lanes, windows));
  const { ends, items, codes, starts } = found(marchApartOf, rows, cut, windows, lanes);
  expect(ends.map(({ steps }) => steps)).toEqual(wanted.map(({ steps }) => steps));
  const all = (of: "starts" | "codes" | "items"): number[] => wanted.flatMap((one) => one[of]);
  expectSameArray(starts, Uint16Array.from(all("starts")), "starts");
  expectSameArray(codes, Uint8Array.from(all("codes")), "codes");
  expectSameArray(items, Int32Array.from(all("items")), "items");
  return items.filter((item) => item < EMPTY).length;
}

/** The same windows, and in them the same nonzeros, each in its row's lane or in a shared step of the one before. Returns how many are there. */
function expectShared(rows: Rows, cut: Slices, windows: Windows, lanes: number): number {
  const { ends, items, codes, starts } = found(marchOf, rows, cut, windows, lanes);
  let lent = 0;
  const wrong: object[] = [];
  for (const [s, slice] of cut.slices.entries()) {
    const wanted = marchShared(queueOf(rows, slice, lanes), windows, lanes);
    const firstBundle = s === 0 ? 0 : ends[s - 1].bundles;
    let at = firstBundle * windows.bundle * lanes;
    expect(ends[s].steps).toBe(wanted.reduce((sum, { steps }) => sum + steps, 0));
    for (const [w, window] of wanted.entries()) {
      expect(starts[firstBundle * windows.windows + w]).toBe(window.start / lanes);
      const places = [...items.subarray(at, at + window.steps * lanes)];
      expect(places.filter((item) => item !== EMPTY).sort((x, y) => x - y)).toEqual([...window.items].sort((x, y) => x - y));
      for (const [place, item] of places.entries()) {
        if (item === EMPTY) continue;
        const isOther = !isOf(rows, slice[place % lanes], item);
        const code = rows.column[item] - window.start + (isOther ? OTHER : 0);
        const isLent = isOf(rows, slice[(place + 1) % lanes], item) && Math.floor(place / lanes) >= window.steps - window.shared;
        if (codes[at + place] !== code || (isOther && !isLent)) wrong.push({ s, w, place, item, code: codes[at + place], wanted: code });
        if (isOther) lent++;
      }
      at += places.length;
    }
  }
  expect(wrong).toEqual([]);
  return lent;
}

const isOf = ({ starts }: Rows, row: number, item: number): boolean => item >= starts[row] && item < starts[row + 1];

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
    for (const cut of [slicesInOrder(count, lanes), slicesByLength(count, rows, lanes, PERIOD)])
      for (const [bundle, windows, shared, vectors] of [
        [6, 4, 0, 2],
        [6, 1, 2, 2],
        [5, 2, 5, 2],
        [4, 1, 1, 4],
        [4, 2, 4, 4],
      ])
        expectShared(rows, cut, { columns: vectors * lanes, bundle, windows, shared }, lanes);
  });

  test.each(matrices)("(%i, %i), density %f, columns apart", (count, columns, density) => {
    const rows = rowsOfMatrix(count, columns, density);
    for (const height of [lanes, 2 * lanes])
      for (const windows of [1, 2, 3, 5])
        expectApart(rows, slicesInOrder(count, height), { columns: 2 * lanes, bundle: 5, windows, shared: 0 }, lanes);
  });

  test("lanes lend steps to the rows of the next ones", () => {
    const rows = rowsOfMatrix(256, 300, 0.1);
    expect(expectShared(rows, slicesInOrder(256, lanes), { columns: 4 * lanes, bundle: 4, windows: 1, shared: 2 }, lanes)).toBeGreaterThan(
      0,
    );
  });

  test("some clash and are taken one by one", () => {
    const windows = { columns: 2 * lanes, bundle: 5, windows: 2, shared: 0 };
    let extras = 0;
    for (const density of [0.5, 0.2, 0.1])
      extras += expectApart(rowsOfMatrix(256, 512, density), slicesInOrder(256, lanes), windows, lanes);
    expect(extras).toBeGreaterThan(0);
  });
});
