// The walk of a sparse matrix written plainly: lists of rows and entries, all pairs compared column by column; what groupsOf must find.
import {
  COUNT_SHIFT,
  type Coordinates,
  coordinatesOf,
  GROUPS,
  type Groups,
  PADDING,
  panelBase,
  ROW_UNIT,
  STEP,
} from "../../src/kernels/sparse_groups.ts";
import type { Csb } from "../../src/sparse/csb.ts";

type Written = Pick<Groups, "starts" | "visits" | "coordinate" | "place" | "length" | "shared">;

/** What groups of these sizes have of a matrix. */
export const plainWalk = (w: Csb, isForward: boolean, size: Size): Written => new Walk(sortedByRows(w, isForward), size).run();

interface SortedRows {
  /** Where each row's nonzeros begin, and the end. */
  readonly first: Int32Array;
  /** Row by row, by column: the row of the dense operand, and the place in the matrix. */
  readonly minor: Int32Array;
  readonly place: Int32Array;
}

/** Blocks come row by row, so that nonzeros of a row come by column, and those of a column by row, however they lie inside of blocks by one coordinate. */
function sortedByRows(w: Csb, isForward: boolean): SortedRows {
  const { block, blockRows, blockColumns, pointers, row, column, values } = w;
  const [major, minor] = isForward ? [row, column] : [column, row];
  const first = new Int32Array((isForward ? w.rows : w.columns) + 1);
  const minors = new Int32Array(values.length);
  const place = new Int32Array(values.length);
  const visit = (put: (majorBase: number, minorBase: number, from: number, to: number) => void): void => {
    for (let r = 0, b = 0; r < blockRows; r++)
      for (let c = 0; c < blockColumns; c++, b++)
        put((isForward ? r : c) * block, (isForward ? c : r) * block, pointers[b], pointers[b + 1]);
  };
  visit((base, _, from, to) => {
    for (let i = from; i < to; i++) first[base + major[i] + 1]++;
  });
  for (let k = 1; k < first.length; k++) first[k] += first[k - 1];
  const next = first.slice();
  visit((base, minorBase, from, to) => {
    for (let i = from; i < to; i++) {
      const at = next[base + major[i]]++;
      minors[at] = minorBase + minor[i];
      place[at] = i;
    }
  });
  return { first, minor: minors, place };
}

type Size = Pick<Groups, "block" | "strip" | "rows" | "depth" | "panel" | "panels" | "abreast" | "shares" | "broad">;

/** Writes the index, strip by strip and panel by panel. */
class Walk {
  private readonly starts: number[] = [];
  private readonly visits: number[] = [];
  private coordinate: Coordinates;
  private place: Int32Array;
  private length = 0;
  private shared = 0;
  /** Where each row's nonzeros of the next panel begin. */
  private readonly next: Int32Array;
  /** Words of 32 bits. */
  private readonly perBundle: number;

  constructor(
    private readonly sorted: SortedRows,
    private readonly size: Size,
  ) {
    this.perBundle = 2 * size.abreast;
    this.next = sorted.first.slice(0, size.rows);
    const room = Math.ceil(1.05 * sorted.place.length) + 2 * PADDING;
    this.coordinate = coordinatesOf(this.size.broad, room);
    this.place = new Int32Array(room).fill(-1);
  }

  run(): Pick<Groups, "starts" | "visits" | "coordinate" | "place" | "length" | "shared"> {
    const { block, strip, rows, panels } = this.size;
    const height = strip * block;
    for (let top = 0; top < rows; top += height) for (let c = 0; c < panels; c++) this.panel(top, Math.min(rows, top + height), c);
    const { starts, visits, coordinate, place, length, shared } = this;
    return {
      starts: Int32Array.from(starts.concat(visits.length / this.perBundle)),
      visits: Int32Array.from(visits),
      coordinate: coordinate.slice(0, length + PADDING),
      place: place.slice(0, length + PADDING),
      length,
      shared,
    };
  }

  /** Rows [top, end) that meet panel c. */
  private panel(top: number, end: number, c: number): void {
    const groups: Bundle[][] = Array.from({ length: GROUPS }, () => []);
    for (const bundle of this.bundles(top, end, c)) groups[groupOf(bundle.own)].push(bundle);
    for (const group of groups) {
      this.starts.push(this.visits.length / this.perBundle);
      group.sort((x, y) => x.shared - y.shared || x.own - y.own);
      for (const bundle of group) this.bundle(bundle, top, c);
    }
  }

  private bundles(top: number, end: number, c: number): Bundle[] {
    const { block, shares, abreast } = this.size;
    const columns = this.columns(c);
    // Not of several blocks, so that the order of sums does not depend on the number of threads.
    const blockOf = ({ row }: Part): number => (shares ? Math.floor((row - top) / block) : 0);
    const parts: Part[][] = [];
    for (const part of this.parts(top, end, c)) {
      // Rows without nonzeros keep to themselves: they cannot be filled up, as zeros times infinities are none.
      const kind = 2 * blockOf(part) + (part.to > part.from ? 0 : 1);
      parts[kind] ??= [];
      parts[kind].push(part);
    }
    return parts.flatMap((some) => (shares ? bundlesByColumns(some, abreast, columns, STEP) : bundlesByCount(some, abreast)));
  }

  private columns(c: number): Columns {
    return { of: this.sorted.minor, base: c * this.size.panel, count: this.size.panel };
  }

  /** All rows begin in the first panel and may be stored after the last. */
  private parts(top: number, end: number, c: number): Part[] {
    const { panel, panels } = this.size;
    const { next, sorted } = this;
    const found: Part[] = [];
    for (let row = top; row < end; row++) {
      const from = next[row];
      while (next[row] < sorted.first[row + 1] && sorted.minor[next[row]] < (c + 1) * panel) next[row]++;
      if (next[row] > from || c === 0 || c === panels - 1) found.push({ row, from, to: next[row] });
    }
    return found;
  }

  private bundle({ parts, shared, own }: Bundle, top: number, c: number): void {
    const { visits, length } = this;
    const count = shared + own;
    const turns = own - groupOf(own);
    this.reserve(parts.length * count);
    for (const [h, part] of parts.entries()) {
      visits.push(((part.row - top) * ROW_UNIT) | (turns << COUNT_SHIFT) | (shared / STEP), 2 * length);
      const places = shared === 0 ? null : sharedFirst(part, parts[h ^ 1], shared, this.columns(c));
      this.row(part, places, { h, count, rows: parts.length }, c);
    }
    this.length = length + parts.length * count;
    this.shared += parts.length * shared;
  }
  /** Entries of row h of a bundle, zeros where the row has a nonzero anyway: zero times an infinity of another column is none. */
  private row(
    { from, to }: Part,
    places: readonly number[] | null,
    { h, count, rows }: { readonly h: number; readonly count: number; readonly rows: number },
    c: number,
  ): void {
    const { coordinate, place, length, sorted, size } = this;
    const { minor, place: placeOf } = sorted;
    const base = size.broad ? 0 : panelBase(c * size.panel, size.depth);
    const filled = to - from;
    let last = 0;
    for (let j = 0; j < count; j += STEP) {
      const width = Math.min(STEP, count - j);
      const at = length + rows * j + h * width;
      for (let k = 0; k < width; k++) {
        const isZero = j + k >= filled;
        if (!isZero) last = places === null ? from + j + k : places[j + k];
        coordinate[at + k] = minor[last] - base;
        place[at + k] = isZero ? -1 : placeOf[last];
      }
    }
  }
  /** Room for so many more entries, and what follows the last. */
  private reserve(count: number): void {
    const { coordinate, place, length } = this;
    if (length + count + PADDING <= place.length) return;
    const room = 2 * (length + count + PADDING);
    this.coordinate = coordinatesOf(this.size.broad, room);
    this.coordinate.set(coordinate);
    this.place = new Int32Array(room).fill(-1);
    this.place.set(place);
  }
}

const groupOf = (count: number): number => count % STEP;

/** The part of a row that meets a panel: places [from, to) in an order by rows and columns. */
interface Part {
  readonly row: number;
  readonly from: number;
  readonly to: number;
}

/** Columns of places, of which a panel has `count` from `base` on. */
interface Columns {
  readonly of: Int32Array;
  readonly base: number;
  readonly count: number;
}

/** Rows that meet a panel side by side. */
interface Bundle {
  /** Where rows run out the last ones are there again. */
  readonly parts: readonly Part[];
  /** Columns that the first and the second row have, and the third and the fourth, and that come first. */
  readonly shared: number;
  /** Further entries of each row: shorter ones are filled up to as many. */
  readonly own: number;
}

const countOf = ({ from, to }: Part): number => to - from;
const longestFirst = (parts: readonly Part[]): Part[] => parts.slice().sort((x, y) => countOf(y) - countOf(x) || x.row - y.row);

/** Rows of equal counts, or nearly. */
function bundlesByCount(parts: readonly Part[], abreast: number): Bundle[] {
  const ordered = longestFirst(parts);
  const bundles: Bundle[] = [];
  for (let i = 0; i < ordered.length; i += abreast) {
    const last = Math.min(i + abreast, ordered.length) - 1;
    const some = Array.from({ length: abreast }, (_, h) => ordered[Math.min(i + h, last)]);
    bundles.push({ parts: some, shared: 0, own: countOf(some[0]) });
  }
  return bundles;
}

/** A zero that a pair is filled up with costs about as much as this many columns save by being shared. */
const FILLED = 4;

/** Pairs, and where more rows are side by side some of about as many columns in common together. They share a multiple of `step`. */
function bundlesByColumns(parts: readonly Part[], abreast: number, columns: Columns, step: number): Bundle[] {
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
function sharedFirst(part: Part, other: Part, count: number, columns: Columns): readonly number[] {
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
