// Pairs of rows that have nonzeros in the same columns: a processor with registers for both loads what these columns name once.
import type { MetRows } from "./sparse_met.ts";
import { type Bundles, countOf, descending, longestFirst, sortedBy } from "./sparse_pairs.ts";

/** From this density on rows have enough columns in common. */
export const LEAST_SHARING = 0.15;
/** A zero that a pair is filled up with costs about as much as this many columns save by being shared. */
const FILLED = 4;

/** Of rows which columns they have, a bit each. */
export class ColumnBits {
  /** Words of a row: an even number, as two are counted at a time. */
  private readonly words: number;
  private readonly bits: Int32Array;

  constructor(met: MetRows, rows: number, columns: number) {
    this.words = 2 * Math.ceil(columns / 64);
    this.bits = new Int32Array(rows * this.words);
    for (let r = 0; r < rows; r++) this.set(met, r);
  }

  private set({ first, column }: MetRows, row: number): void {
    const { bits, words } = this;
    for (let i = first[row]; i < first[row + 1]; i++) bits[row * words + (column[i] >> 5)] |= 1 << (column[i] & 31);
  }

  /** 1, or 0. */
  has(row: number, column: number): number {
    return (this.bits[row * this.words + (column >> 5)] >>> (column & 31)) & 1;
  }

  /** Columns that both have. */
  common(a: number, b: number): number {
    const { bits, words } = this;
    const [from, other] = [a * words, b * words];
    let bytes = 0; // eight words have at most 64 bits in each
    for (let w = 0; w < words; w += 2) {
      const fours = inFours(bits[from + w] & bits[other + w]) + inFours(bits[from + w + 1] & bits[other + w + 1]);
      bytes += (fours & 0x0f0f0f0f) + ((fours >>> 4) & 0x0f0f0f0f);
    }
    const halves = (bytes & 0x00ff00ff) + ((bytes >>> 8) & 0x00ff00ff);
    return (halves & 0xffff) + (halves >>> 16);
  }
}

/** How many of each four bits are set. */
function inFours(word: number): number {
  const twos = word - ((word >>> 1) & 0x55555555);
  return (twos & 0x33333333) + ((twos >>> 2) & 0x33333333);
}

/** Rows by twos. */
class Pairs {
  count = 0;
  readonly rows: Int32Array;
  readonly shared: Int32Array;
  readonly own: Int32Array;

  constructor(room: number) {
    [this.rows, this.shared, this.own] = [new Int32Array(2 * room), new Int32Array(room), new Int32Array(room)];
  }

  add(row: number, partner: number, shared: number, own: number): void {
    this.rows[2 * this.count] = row;
    this.rows[2 * this.count + 1] = partner;
    this.shared[this.count] = shared;
    this.own[this.count++] = own;
  }
}

/** Pairs, and where more rows are side by side some of about as many columns in common together. They share a multiple of `step`. */
export function bundlesByColumns(rows: Int32Array, met: MetRows, bits: ColumnBits, step: number, bundles: Bundles): void {
  const pairs = pairsByColumns(longestFirst(rows, met), met, bits, step);
  const { shared, own, count } = pairs;
  const order = sortedBy(
    count,
    (i) => descending(shared[i]),
    (i) => descending(own[i]),
  );
  const together = bundles.abreast / 2;
  for (let i = 0; i < count; i += together) {
    let [least, most] = [Number.POSITIVE_INFINITY, 0];
    for (let h = i; h < Math.min(i + together, count); h++) {
      least = Math.min(least, shared[order[h]]);
      most = Math.max(most, shared[order[h]] + own[order[h]]);
    }
    const at = bundles.add(least, most - least);
    for (let h = 0; h < together; h++) {
      const pair = order[Math.min(i + h, count - 1)];
      bundles.rows[at + 2 * h] = pairs.rows[2 * pair];
      bundles.rows[at + 2 * h + 1] = pairs.rows[2 * pair + 1];
    }
  }
}

/** Each row, longest first, with that of the others left from which it gains most. */
function pairsByColumns(rows: Int32Array, met: MetRows, bits: ColumnBits, step: number): Pairs {
  const { length } = rows;
  const counts = rows.map((row) => countOf(met, row));
  const pairs = new Pairs(length);
  // The row after each of those left.
  const after = rows.map((_, i) => i + 1);
  for (let i = 0; i < length; i = after[i]) {
    let [best, before, most, both] = [i, i, Number.NEGATIVE_INFINITY, 0];
    for (let j = after[i], last = i; j < length; last = j, j = after[j]) {
      // Neither this one nor the shorter ones that follow have more in common than all of their columns.
      if ((1 + FILLED) * counts[j] <= most) break;
      const shared = bits.common(rows[i], rows[j]);
      const gain = shared + FILLED * counts[j];
      if (gain > most) [best, before, most, both] = [j, last, gain, shared];
    }
    const shared = both - (both % step);
    pairs.add(rows[i], rows[best], shared, counts[i] - shared);
    after[before] = after[best];
  }
  return pairs;
}

/** Nonzeros of a row to `order`, first those in columns that the other has, too, as many as the pair shares. */
export function sharedFirst(
  { first, column }: MetRows,
  bits: ColumnBits,
  row: number,
  other: number,
  shared: number,
  order: Int32Array,
): void {
  let [front, back] = [0, shared];
  for (let i = first[row]; i < first[row + 1]; i++) {
    // Which it is nobody foresees: no branch.
    const isShared = bits.has(other, column[i]) & ((front - shared) >>> 31);
    order[back + isShared * (front - back)] = i;
    front += isShared;
    back += 1 - isShared;
  }
}
