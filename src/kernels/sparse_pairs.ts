// Rows that meet a panel of the dense operand, some of them side by side.

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

/** Rows that meet a panel side by side. */
export interface Bundle {
  /** Where rows run out the last ones are there again. */
  readonly parts: readonly Part[];
  /** Columns that the first and the second row have, and the third and the fourth, and that come first. */
  readonly shared: number;
  /** Further entries of each row: shorter ones are filled up to as many. */
  readonly own: number;
}

export const countOf = ({ from, to }: Part): number => to - from;
export const longestFirst = (parts: readonly Part[]): Part[] => parts.slice().sort((x, y) => countOf(y) - countOf(x) || x.row - y.row);

/** Rows of equal counts, or nearly. */
export function bundlesByCount(parts: readonly Part[], abreast: number): Bundle[] {
  const ordered = longestFirst(parts);
  const bundles: Bundle[] = [];
  for (let i = 0; i < ordered.length; i += abreast) {
    const last = Math.min(i + abreast, ordered.length) - 1;
    const some = Array.from({ length: abreast }, (_, h) => ordered[Math.min(i + h, last)]);
    bundles.push({ parts: some, shared: 0, own: countOf(some[0]) });
  }
  return bundles;
}
