// Rows that meet a panel of the dense operand, some of them side by side.
import type { MetRows } from "./sparse_met.ts";

/** Rows that meet a panel side by side; where rows run out the last ones are there again. */
export class Bundles {
  count = 0;
  /** Rows of each bundle. */
  readonly rows: Int32Array;
  /** Columns that the first and the second row have, and the third and the fourth, and that come first. */
  readonly shared: Int32Array;
  /** Further entries of each row: shorter ones are filled up to as many. */
  readonly own: Int32Array;

  constructor(
    readonly abreast: number,
    /** Of bundles, at most. */
    room: number,
  ) {
    this.rows = new Int32Array(room * abreast);
    this.shared = new Int32Array(room);
    this.own = new Int32Array(room);
  }

  /** The next bundle, of which rows follow. */
  add(shared: number, own: number): number {
    this.shared[this.count] = shared;
    this.own[this.count] = own;
    return this.count++ * this.abreast;
  }
}

export const countOf = ({ first }: MetRows, row: number): number => first[row + 1] - first[row];

/** Sorted by how many nonzeros they have, and where these are as many, as before. */
export function longestFirst(rows: Int32Array, met: MetRows): Int32Array {
  let most = 0;
  for (const row of rows) most = Math.max(most, countOf(met, row));
  const next = new Int32Array(most + 2);
  for (const row of rows) next[most - countOf(met, row) + 1]++;
  for (let k = 0; k <= most; k++) next[k + 1] += next[k];
  const sorted = new Int32Array(rows.length);
  for (const row of rows) sorted[next[most - countOf(met, row)]++] = row;
  return sorted;
}

/** Numbers of what is sorted, and of what it is sorted by, are below these: keys are whole numbers of 52 bits. */
const NUMBERS = 2 ** 20;
const COUNTS = 2 ** 16;

/** 0 … count - 1 by two small numbers of each, and where these are the same, as before. */
export function sortedBy(count: number, major: (i: number) => number, minor: (i: number) => number): Float64Array {
  const keys = new Float64Array(count);
  for (let i = 0; i < count; i++) keys[i] = (major(i) * COUNTS + minor(i)) * NUMBERS + i;
  keys.sort();
  for (let i = 0; i < count; i++) keys[i] %= NUMBERS;
  return keys;
}

/** What a sort that begins with the most takes for a count. */
export const descending = (count: number): number => COUNTS - 1 - count;

/** Rows of equal counts, or nearly. */
export function bundlesByCount(rows: Int32Array, met: MetRows, bundles: Bundles): void {
  const { abreast } = bundles;
  const ordered = longestFirst(rows, met);
  for (let i = 0; i < ordered.length; i += abreast) {
    const at = bundles.add(0, countOf(met, ordered[i]));
    for (let h = 0; h < abreast; h++) bundles.rows[at + h] = ordered[Math.min(i + h, ordered.length - 1)];
  }
}
