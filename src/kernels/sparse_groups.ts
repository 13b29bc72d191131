// The walk of a sparse matrix in either direction: panel by panel of the dense operand, and in each some rows of the result at a time, ordered by how many nonzeros they have there.
import { HeddleError } from "../ir/error.ts";
import type { SimdTarget } from "../ir/kernel.ts";
import type { Csb } from "../sparse/csb.ts";
import { isBroad, MOST_BROAD } from "./sparse_broad.ts";
import { type Bundle, bundlesByCount, type Columns, type Part } from "./sparse_pairs.ts";
import { bundlesByColumns, LEAST_SHARING, sharedFirst } from "./sparse_sharing.ts";

/** forward: W·X, the result's rows are W's; transposed: Wᵀ·G, they are W's columns. */
export type Direction = "forward" | "transposed";

/** Nonzeros of a row that a kernel takes in a turn. */
export const STEP = 4;
/** Bundles of rows are grouped by their nonzeros: fewer than GROUPS take code without a loop, more take turns in a loop first, and end in the code of one of the last STEP groups. */
export const GROUPS = 8;
/** Rows of the dense operand that a byte can name: no panel has more. */
export const NAMED = 256;
/** Values and coordinates that follow the last ones: code for a bundle that begins at the last would reach as far. */
export const PADDING = 9 * NAMED;
/** A visit's word of 64 bits: the row times ROW_UNIT, its entries of turns in a loop from COUNT_SHIFT on, where the bundle's entries begin from START_SHIFT on. Below ROW_UNIT: turns that rows share two by two. */
export const ROW_UNIT = 64;
export const COUNT_SHIFT = 23;
export const START_SHIFT = 33;

/** Rows side by side: as many chains of sums as keep a processor's multipliers busy, where there are registers for them. */
export const rowsAbreast = ({ loadsFirst, registers }: SimdTarget): number => (loadsFirst ? 1 : registers >= 32 ? 4 : 2);

/**
 * The index of one direction over the nonzeros of a CSB matrix, in the order in which a kernel meets them.
 * A visit is a row of the result that meets a panel; a bundle of them, of as many entries, are made side by side. Each panel has GROUPS groups of bundles; in a group they are ordered by counts, so that a processor foresees where loops end.
 * A row's entries are its nonzeros, first those in columns that its partner has, too, and zeros that fill it up. A bundle has STEP entries of each row in turn, and the last ones of each row at its end.
 */
export interface Groups {
  readonly block: number;
  /** Block rows of the result that meet a panel of the dense operand before the next panel comes. */
  readonly strip: number;
  /** Rows of the result, and of the dense operand. */
  readonly rows: number;
  readonly depth: number;
  readonly blockRows: number;
  /** Rows of the dense operand in a panel, and panels. */
  readonly panel: number;
  readonly panels: number;
  /** Of the matrix: what places lie below. */
  readonly nonzeros: number;
  /** Entries, and those in columns that pairs of rows share. */
  readonly length: number;
  readonly shared: number;
  /** Rows side by side, and whether columns that pairs of them share come first. */
  readonly abreast: number;
  readonly shares: boolean;
  /** One row at a time meets the whole operand, for many columns at once (sparse_broad.ts). */
  readonly broad: boolean;
  /** First bundle of each strip, panel and group, and the end. */
  readonly starts: Int32Array;
  /** Two words of 32 bits a visit, the lower one first. */
  readonly visits: Int32Array;
  /** The row of the dense operand, counted from `panelBase`; two bytes in a broad walk. */
  readonly coordinate: Coordinates;
  /** Where the value is in the matrix, -1: a zero. */
  readonly place: Int32Array;
}

export type Coordinates = Uint8Array | Uint16Array;
export const coordinatesOf = (broad: boolean, room: number): Coordinates => (broad ? new Uint16Array(room) : new Uint8Array(room));

/** What a product's kernel is given of the index, in the order of its buffers. */
export const indexOf = ({ coordinate, visits, starts }: Groups): readonly [Coordinates, Int32Array, Int32Array] => [
  coordinate,
  visits,
  starts,
];

/** CSB blocks for products: threads share block rows out. */
export const SPARSE_BLOCK = 128;
/** Rows of a strip: their sums stay in the second-level cache. */
const ROWS_OF_STRIP = 1024;
/** Nonzeros of a strip in a panel. Transposed, values that are brought into order come from as few lines of the matrix; forward, two bytes tell them apart. */
const NONZEROS_OF_STRIP: Readonly<Record<Direction, number>> = { forward: 60000, transposed: 8192 };

/** Rows that meet a panel one after another, where each has so many nonzeros there. */
const rowsOfStrip = (direction: Direction, nonzeros: number): number =>
  Math.min(ROWS_OF_STRIP, Math.ceil(NONZEROS_OF_STRIP[direction] / nonzeros));

/** From which row of the dense operand on a panel's coordinates count: all NAMED of them exist, where the operand has as many. */
export const panelBase = (first: number, depth: number): number => Math.max(0, Math.min(first, depth - NAMED));

/** `n`: the columns of an operand that lie side by side; others come in panels anyway. */
export function groupsOf(w: Csb, direction: Direction, target: SimdTarget, threads = 1, n = 0): Groups {
  if (w.block > NAMED) throw new HeddleError("unsupported", `sparse product: CSB blocks of ${w.block}, wanted at most ${NAMED}`);
  const { rows, depth, density, panel } = panelsOf(w, direction);
  const isForward = direction === "forward";
  const blockRows = isForward ? w.blockRows : w.blockColumns;
  const sorted = sortedByRows(w, isForward);
  const walk = (panel: number, abreast: number, broad: boolean): Groups => {
    const strip = blocksOfStrip(blockRows, w.block, threads, rowsOfStrip(direction, panel * density));
    const shares = abreast > 1 && density >= LEAST_SHARING;
    const size = { block: w.block, strip, rows, depth, panel, panels: Math.ceil(depth / panel), abreast, shares, broad };
    return { ...size, blockRows, nonzeros: w.values.length, ...new Walk(sorted, size).run() };
  };
  if (goesBroad(w, direction, target, n)) return walk(depth, 1, true);
  const widest = walk(panel, rowsAbreast(target), false);
  return widest.abreast > 2 && widest.length > MOST_FILLED * w.values.length ? walk(panel, 2, false) : widest;
}

/** Whether a walk for n columns that lie side by side is a broad one. */
export function goesBroad(w: Csb, direction: Direction, target: SimdTarget, n: number): boolean {
  const { rows, depth, density, panel } = panelsOf(w, direction);
  const met = { depth, panels: Math.ceil(depth / panel), rows: Math.min(rows, rowsOfStrip(direction, panel * density)), density };
  if (!isBroad(met, n, target)) return false;
  const { first } = sortedByRows(w, direction === "forward");
  return first.every((at, row) => row === 0 || at - first[row - 1] <= MOST_BROAD);
}

function panelsOf({ rows, columns, values }: Csb, direction: Direction) {
  const size = direction === "forward" ? { rows, depth: columns } : { rows: columns, depth: rows };
  const density = values.length / (rows * columns);
  return { ...size, density, panel: rowsOfPanel(size.depth, density) };
}

/** With more zeros in rows that are as long as their longest neighbour fewer rows go side by side: a few rows are far longer than the others then, or there are few. */
const MOST_FILLED = 1.05;

/** Strips of equal heights, and a multiple of `threads` of them. */
const blocksOfStrip = (blockRows: number, block: number, threads: number, most: number): number =>
  Math.ceil(blockRows / (threads * Math.ceil((blockRows * block) / (threads * most))));

/** Panels in the first-level cache beside what streams through it; where rows have few nonzeros in each, larger ones, so that their sums come and go less often. Whole vectors, which may be turned around. */
export function rowsOfPanel(depth: number, density: number): number {
  const most = density > 0.25 ? 128 : density > 0.07 ? 176 : NAMED;
  return 16 * Math.ceil(depth / Math.ceil(depth / most) / 16);
}

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
    const turns = own < GROUPS ? 0 : own - groupOf(own);
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

const groupOf = (count: number): number => (count < GROUPS ? count : GROUPS - STEP + (count % STEP));

/** Strips of the result that each thread works on: thread t has [shares[t], shares[t + 1]), equal in nonzeros. */
export function shareBlockRows(groups: Groups, threads: number): Int32Array {
  const { starts, visits, blockRows, panels, strip, block, length, abreast } = groups;
  // A row costs something without nonzeros, too: it is set and stored.
  const before = (s: number): number => {
    const at = 2 * abreast * starts[s * panels * GROUPS] + 1;
    return (at < visits.length ? visits[at] / 2 : length) + s * strip * block;
  };
  const strips = Math.ceil(blockRows / strip);
  const all = before(strips);
  const shares = new Int32Array(threads + 1);
  for (let t = 1, s = 0; t <= threads; t++) {
    // A strip goes to the thread whose part its middle lies in.
    while (s < strips && ((before(s) + before(s + 1)) / 2) * threads < all * t) s++;
    shares[t] = t === threads ? strips : s;
  }
  return shares;
}
