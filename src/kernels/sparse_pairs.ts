// Rows that meet a panel of the dense operand, two by two.

/** The part of a row that meets a panel: places [from, to) in an order by rows and columns. */
export interface Part {
  readonly row: number;
  readonly from: number;
  readonly to: number;
}

/** Columns of places, of which a panel has `count` from `base` on. */
export interface Columns {
  readonly of: Int32Array;
  readonly base: number;
  readonly count: number;
}

/** Two rows that meet a panel side by side, the longer one first; one that is left over is its own partner. */
export interface Pair {
  readonly parts: readonly [Part, Part];
  /** Columns that both have and that come first. */
  readonly shared: number;
  /** Further nonzeros of the longer row: the shorter one is filled up to as many. */
  readonly own: number;
}

export const countOf = ({ from, to }: Part): number => to - from;
export const longestFirst = (parts: readonly Part[]): Part[] => parts.slice().sort((x, y) => countOf(y) - countOf(x) || x.row - y.row);

/** Rows of equal counts, or nearly. */
export function pairsByCount(parts: readonly Part[]): Pair[] {
  const ordered = longestFirst(parts);
  const pairs: Pair[] = [];
  for (let i = 0; i < ordered.length; i += 2) {
    const first = ordered[i];
    pairs.push({ parts: [first, ordered[i + 1] ?? first], shared: 0, own: countOf(first) });
  }
  return pairs;
}
