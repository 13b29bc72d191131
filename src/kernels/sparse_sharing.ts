// Pairs of rows that have nonzeros in the same columns: a processor with registers for both loads what these columns name once.
import { type Bundle, type Columns, countOf, longestFirst, type Part } from "./sparse_pairs.ts";

/** From this density on rows have enough columns in common. */
export const LEAST_SHARING = 0.15;
/** A zero that a pair is filled up with costs about as much as this many columns save by being shared. */
const FILLED = 4;

/** Pairs, and where more rows are side by side some of about as many columns in common together. They share a multiple of `step`. */
export function bundlesByColumns(parts: readonly Part[], abreast: number, columns: Columns, step: number): Bundle[] {
  const pairs = pairsByColumns(parts, columns, step).sort((x, y) => y.shared - x.shared || y.own - x.own);
  const together = abreast / 2;
  const bundles: Bundle[] = [];
  for (let i = 0; i < pairs.length; i += together) {
    const some = Array.from({ length: together }, (_, h) => pairs[Math.min(i + h, pairs.length - 1)]);
    const shared = Math.min(...some.map((pair) => pair.shared));
    bundles.push({ parts: some.flatMap(({ parts }) => parts), shared, own: Math.max(...some.map((p) => p.shared + p.own)) - shared });
  }
  return bundles;
}

/** Each row, longest first, with that of the others left from which it gains most. */
function pairsByColumns(parts: readonly Part[], columns: Columns, step: number): Bundle[] {
  const rows = longestFirst(parts);
  const bits = rows.map((part) => bitsOf(part, columns));
  const isLeft = rows.map(() => true);
  const pairs: Bundle[] = [];
  for (let i = 0; i < rows.length; i++) {
    if (!isLeft[i]) continue;
    let [best, most, both] = [i, Number.NEGATIVE_INFINITY, 0];
    for (let j = i + 1; j < rows.length; j++) {
      if (!isLeft[j]) continue;
      const shared = bitsOfBoth(bits[i], bits[j]);
      const gain = shared + FILLED * countOf(rows[j]);
      if (gain > most) [best, most, both] = [j, gain, shared];
    }
    isLeft[best] = false;
    const shared = both - (both % step);
    pairs.push({ parts: [rows[i], rows[best]], shared, own: countOf(rows[i]) - shared });
  }
  return pairs;
}

/** Places of a row, first those in columns that the other has, too, as many as the pair shares. */
export function sharedFirst(part: Part, other: Part, count: number, columns: Columns): readonly number[] {
  const bits = bitsOf(other, columns);
  const shared: number[] = [];
  const rest: number[] = [];
  for (let i = part.from; i < part.to; i++) {
    const k = columns.of[i] - columns.base;
    (shared.length < count && (bits[k >> 5] >> (k & 31)) & 1 ? shared : rest).push(i);
  }
  return shared.concat(rest);
}

function bitsOf({ from, to }: Part, { of, base, count }: Columns): Int32Array {
  const bits = new Int32Array(Math.ceil(count / 32));
  for (let i = from; i < to; i++) bits[(of[i] - base) >> 5] |= 1 << ((of[i] - base) & 31);
  return bits;
}
function bitsOfBoth(a: Int32Array, b: Int32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += bitCount(a[i] & b[i]);
  return sum;
}
function bitCount(word: number): number {
  const pairs = word - ((word >>> 1) & 0x55555555);
  const fours = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
