// The walk of a sparse matrix in either direction: panel by panel of the dense operand, and in each some rows of the result at a time, ordered by how many nonzeros they have there.
import { HeddleError } from "../ir/error.ts";
import type { SimdTarget } from "../ir/kernel.ts";
import type { Csb } from "../sparse/csb.ts";
import { isBroad, MOST_IN_TURNS } from "./sparse_broad.ts";
import { sharesTiles } from "./sparse_columns.ts";
import { MetRows } from "./sparse_met.ts";
import { Bundles, bundlesByCount, countOf, sortedBy } from "./sparse_pairs.ts";
import { bundlesByColumns, ColumnBits, LEAST_SHARING, sharedFirst } from "./sparse_sharing.ts";

/** forward: W·X, the result's rows are W's; transposed: Wᵀ·G, they are W's columns. */
export type Direction = "forward" | "transposed";

/** Nonzeros of a row that a kernel takes in a turn. */
export const STEP = 4;
/** Bundles of rows are grouped by what turns leave of their nonzeros: 0 to 3, which have code of their own. More groups would leave out loops, but code has to come, too. */
export const GROUPS = STEP;
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
  const walk = (panel: number, abreast: number, broad: boolean): Groups => {
    const sharers = isForward && !broad && sharesTiles({ rows, depth, n }, target, threads) ? 1 : threads;
    const strip = blocksOfStrip(blockRows, w.block, sharers, rowsOfStrip(direction, panel * density));
    const shares = abreast > 1 && density >= LEAST_SHARING;
    const size = { block: w.block, strip, rows, depth, panel, panels: Math.ceil(depth / panel), abreast, shares, broad };
    return { ...size, blockRows, nonzeros: w.values.length, ...new Walk(w, isForward, size).run() };
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
  return nonzerosOfRows(w, direction === "forward").every((count) => count <= MOST_IN_TURNS);
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

function nonzerosOfRows({ rows, columns, block, blockRows, blockColumns, pointers, row, column }: Csb, isForward: boolean): Int32Array {
  const counts = new Int32Array(isForward ? rows : columns);
  for (let r = 0, b = 0; r < blockRows; r++)
    for (let c = 0; c < blockColumns; c++, b++) {
      const [of, base] = isForward ? [row, r * block] : [column, c * block];
      for (let i = pointers[b]; i < pointers[b + 1]; i++) counts[base + of[i]]++;
    }
  return counts;
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
  private readonly met: MetRows;
  private readonly bundles: Bundles;
  /** Of a row its entries in the order in which they go. */
  private order = new Int32Array(NAMED);
  /** Words of 32 bits. */
  private readonly perBundle: number;

  constructor(
    w: Csb,
    isForward: boolean,
    private readonly size: Size,
  ) {
    const { strip, block, abreast, broad } = size;
    this.perBundle = 2 * abreast;
    this.met = new MetRows(w, isForward, strip * block);
    this.bundles = new Bundles(abreast, 2 * strip * block);
    const room = Math.ceil(1.05 * w.values.length) + 2 * PADDING;
    this.coordinate = coordinatesOf(broad, room);
    this.place = new Int32Array(room).fill(-1);
  }

  run(): Pick<Groups, "starts" | "visits" | "coordinate" | "place" | "length" | "shared"> {
    const { block, strip, rows, panels } = this.size;
    const height = strip * block;
    for (let top = 0; top < rows; top += height) for (let c = 0; c < panels; c++) this.panel(top, Math.min(rows, top + height), c);
    const { starts, visits, length, shared } = this;
    const [coordinate, place] = [this.coordinate, this.place].map((array) => array.subarray(0, length + PADDING));
    return {
      starts: Int32Array.from(starts.concat(visits.length / this.perBundle)),
      visits: Int32Array.from(visits),
      coordinate: coordinate as Coordinates,
      place: place as Int32Array,
      length,
      shared,
    };
  }

  /** Rows [top, end) that meet panel c. */
  private panel(top: number, end: number, c: number): void {
    const { met, bundles, size, visits, starts, perBundle } = this;
    const [from, to] = [c * size.panel, Math.min(size.depth, (c + 1) * size.panel)];
    const base = size.broad ? 0 : panelBase(from, size.depth);
    met.meet({ top, end, from, to }, base);
    const bits = size.shares ? new ColumnBits(met, end - top, to - base) : null;
    bundles.count = 0;
    this.bundle(end - top, c, bits);
    const { shared, own } = bundles;
    const order = sortedBy(
      bundles.count,
      (i) => groupOf(own[i]) * (NAMED + 1) + shared[i],
      (i) => own[i],
    );
    let group = 0;
    for (const i of order) {
      for (; group <= groupOf(own[i]); group++) starts.push(visits.length / perBundle);
      this.write(i, bits);
    }
    for (; group < GROUPS; group++) starts.push(visits.length / perBundle);
  }

  /** So many rows of panel c. */
  private bundle(rows: number, c: number, bits: ColumnBits | null): void {
    const { met, size, bundles } = this;
    // Not of several blocks, so that the order of sums does not depend on the number of threads.
    const height = bits ? size.block : rows;
    // All rows begin in the first panel and may be stored after the last.
    const hasAll = c === 0 || c === size.panels - 1;
    const chosen = new Int32Array(height);
    for (let top = 0; top < rows; top += height)
      // Rows without nonzeros keep to themselves: they cannot be filled up, as zeros times infinities are none.
      for (const isEmpty of hasAll ? [false, true] : [false]) {
        let count = 0;
        for (let row = top; row < Math.min(rows, top + height); row++) if ((countOf(met, row) === 0) === isEmpty) chosen[count++] = row;
        const some = chosen.subarray(0, count);
        if (bits) bundlesByColumns(some, met, bits, STEP, bundles);
        else bundlesByCount(some, met, bundles);
      }
  }

  private write(bundle: number, bits: ColumnBits | null): void {
    const { bundles, visits, length, met, size } = this;
    const { abreast } = size;
    const [shared, own] = [bundles.shared[bundle], bundles.own[bundle]];
    const count = shared + own;
    const turns = own - groupOf(own);
    this.reserve(abreast * count);
    for (let h = 0; h < abreast; h++) {
      const row = bundles.rows[bundle * abreast + h];
      visits.push((row * ROW_UNIT) | (turns << COUNT_SHIFT) | (shared / STEP), 2 * length);
      if (countOf(met, row) > this.order.length) this.order = new Int32Array(2 * countOf(met, row));
      if (bits && shared > 0) sharedFirst(met, bits, row, bundles.rows[bundle * abreast + (h ^ 1)], shared, this.order);
      else for (let i = met.first[row], j = 0; i < met.first[row + 1]; i++, j++) this.order[j] = i;
      this.row(row, h, count);
    }
    this.length = length + abreast * count;
    this.shared += abreast * shared;
  }

  /** Entries of row h of a bundle, zeros where the row has a nonzero anyway: zero times an infinity of another column is none. */
  private row(row: number, h: number, count: number): void {
    const { coordinate, place, length, met, order } = this;
    const { abreast } = this.size;
    const filled = countOf(met, row);
    for (let j = 0; j < count; j += STEP) {
      const width = Math.min(STEP, count - j);
      const at = length + abreast * j + h * width;
      for (let k = 0; k < width; k++) {
        const isZero = j + k >= filled;
        const i = order[isZero ? filled - 1 : j + k];
        coordinate[at + k] = met.column[i];
        place[at + k] = isZero ? -1 : met.place[i];
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

/** The buffer of shares of W·X for n columns that lie side by side, where threads share strips. */
export const sharesOf = (groups: Groups, n: number, target: SimdTarget, threads: number): Int32Array[] =>
  !groups.broad && sharesTiles({ ...groups, n }, target, threads) ? [] : [shareBlockRows(groups, threads)];

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
