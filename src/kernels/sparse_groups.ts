// The walk of a sparse matrix in either direction: panel by panel of the dense operand, and in each the rows of the result, ordered by how many nonzeros they have there.
import { HeddleError } from "../ir/error.ts";
import type { Csb } from "../sparse/csb.ts";

/** forward: W·X, the result's rows are W's; transposed: Wᵀ·G, they are W's columns. */
export type Direction = "forward" | "transposed";

/** Nonzeros that a kernel takes in a turn. */
export const STEP = 4;
/** Rows of a panel are grouped by their nonzeros: fewer than GROUPS take code without a loop, more take turns in a loop first, and end in the code of one of the last STEP groups. */
export const GROUPS = 16;
/** Rows of the dense operand that a byte can name: no panel has more. */
export const NAMED = 256;
/** Values and coordinates that follow the last ones: a visit that begins at the last reads as far. */
export const PADDING = NAMED + GROUPS + STEP;
/** A visit's word of 64 bits: the row times ROW_UNIT, nonzeros of turns in a loop from COUNT_SHIFT on, where its nonzeros begin from START_SHIFT on. */
export const ROW_UNIT = 64;
export const COUNT_SHIFT = 23;
export const START_SHIFT = 33;

/**
 * The index of one direction over the nonzeros of a CSB matrix, in the order in which a kernel meets them.
 * A visit is a row of the result that meets a panel. Each panel has GROUPS groups of visits; in a group they are ordered by count, so that a processor foresees where loops end.
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
  /** First visit of each strip, panel and group, and the end. */
  readonly starts: Int32Array;
  /** Two words of 32 bits a visit, the lower one first. */
  readonly visits: Int32Array;
  /** The row of the dense operand, counted from `panelBase`. */
  readonly coordinate: Uint8Array;
  /** Where the value is in the matrix, -1: padding. */
  readonly place: Int32Array;
}

/** What a product's kernel is given of the index, in the order of its buffers. */
export const indexOf = ({ coordinate, visits, starts }: Groups): readonly [Uint8Array, Int32Array, Int32Array] => [
  coordinate,
  visits,
  starts,
];

/** CSB blocks for products: threads share block rows out. */
export const SPARSE_BLOCK = 128;
/** Rows of a strip: their sums stay in the second-level cache. */
const ROWS_OF_STRIP = 1024;
/** Nonzeros of a strip in a panel, transposed: values that are brought into order come from as few lines of the matrix. */
const NONZEROS_OF_STRIP = 8192;

/** From which row of the dense operand on a panel's coordinates count: all NAMED of them exist, where the operand has as many. */
export const panelBase = (first: number, depth: number): number => Math.max(0, Math.min(first, depth - NAMED));

export function groupsOf(w: Csb, direction: Direction, threads = 1): Groups {
  if (w.block > NAMED) throw new HeddleError("unsupported", `sparse product: CSB blocks of ${w.block}, wanted at most ${NAMED}`);
  const isForward = direction === "forward";
  const [rows, depth] = isForward ? [w.rows, w.columns] : [w.columns, w.rows];
  const blockRows = isForward ? w.blockRows : w.blockColumns;
  const density = w.values.length / (rows * depth);
  const panel = rowsOfPanel(depth, density);
  const most = isForward ? ROWS_OF_STRIP : Math.min(ROWS_OF_STRIP, Math.ceil(NONZEROS_OF_STRIP / (panel * density)));
  const strip = blocksOfStrip(blockRows, w.block, threads, most);
  const size = { block: w.block, strip, rows, depth, blockRows, panel, panels: Math.ceil(depth / panel), nonzeros: w.values.length };
  return { ...size, ...walk(sortedByRows(w, isForward), size) };
}

/** Strips of equal heights, and a multiple of `threads` of them. */
const blocksOfStrip = (blockRows: number, block: number, threads: number, most: number): number =>
  Math.ceil(blockRows / (threads * Math.ceil((blockRows * block) / (threads * most))));

/** Panels in the first-level cache beside what streams through it; where rows have few nonzeros in each, larger ones, so that their sums come and go less often. Whole vectors, which may be turned around. */
export function rowsOfPanel(depth: number, density: number): number {
  const most = density > 0.3 ? 128 : density > 0.07 ? 176 : NAMED;
  return 16 * Math.ceil(depth / Math.ceil(depth / most) / 16);
}

interface SortedRows {
  /** Where each row's nonzeros begin, and the end. */
  readonly first: Int32Array;
  /** Row by row, by column: the row of the dense operand, and the place in the matrix. */
  readonly minor: Int32Array;
  readonly place: Int32Array;
}

/** Counting twice: by column, then, in that order, by row. */
function sortedByRows(w: Csb, isForward: boolean): SortedRows {
  const count = w.values.length;
  const major = new Int32Array(count);
  const minor = new Int32Array(count);
  for (let r = 0, b = 0; r < w.blockRows; r++)
    for (let c = 0; c < w.blockColumns; c++, b++)
      for (let i = w.pointers[b]; i < w.pointers[b + 1]; i++) {
        const [row, column] = [r * w.block + w.row[i], c * w.block + w.column[i]];
        major[i] = isForward ? row : column;
        minor[i] = isForward ? column : row;
      }
  const [rows, depth] = isForward ? [w.rows, w.columns] : [w.columns, w.rows];
  const byMinor = countingOrder(minor, depth, null).order;
  const { order, first } = countingOrder(major, rows, byMinor);
  return { first, minor: order.map((i) => minor[i]), place: order };
}

/** `before` (or all places in order) sorted by key, places with equal keys as they were. */
function countingOrder(
  key: Int32Array,
  keys: number,
  before: Int32Array | null,
): { readonly order: Int32Array; readonly first: Int32Array } {
  const first = new Int32Array(keys + 1);
  for (let i = 0; i < key.length; i++) first[key[i] + 1]++;
  for (let k = 0; k < keys; k++) first[k + 1] += first[k];
  const next = first.slice();
  const order = new Int32Array(key.length);
  for (let j = 0; j < key.length; j++) {
    const i = before ? before[j] : j;
    order[next[key[i]]++] = i;
  }
  return { order, first };
}

type Size = Pick<Groups, "block" | "strip" | "rows" | "depth" | "panel" | "panels" | "nonzeros">;

function walk(sorted: SortedRows, size: Size): Pick<Groups, "starts" | "visits" | "coordinate" | "place"> {
  const { block, rows, depth, panel, panels, nonzeros } = size;
  const height = size.strip * block;
  const coordinate = new Uint8Array(nonzeros + PADDING);
  const place = new Int32Array(nonzeros + PADDING).fill(-1);
  const starts: number[] = [];
  const visits: number[] = [];
  // Where each row's nonzeros of the next panel begin.
  const next = sorted.first.slice(0, rows);
  let at = 0;
  for (let top = 0; top < rows; top += height)
    for (let c = 0; c < panels; c++) {
      const found = visitsOf(sorted, next, [top, Math.min(rows, top + height)], (c + 1) * panel, c === 0 || c === panels - 1);
      const base = panelBase(c * panel, depth);
      for (const [g, group] of found.entries()) {
        starts.push(visits.length / 2);
        for (const { row, count } of group) {
          visits.push(((row - top) * ROW_UNIT) | ((count - g) << COUNT_SHIFT), 2 * at);
          for (let i = 0; i < count; i++, at++) {
            const from = next[row]++;
            coordinate[at] = sorted.minor[from] - base;
            place[at] = sorted.place[from];
          }
        }
      }
    }
  starts.push(visits.length / 2);
  return { starts: Int32Array.from(starts), visits: Int32Array.from(visits), coordinate, place };
}

interface Visit {
  readonly row: number;
  readonly count: number;
}

/** Rows [from, to) with nonzeros before column `end`, by group and count. All rows begin in the first panel and may be stored after the last. */
function visitsOf(
  { first, minor }: SortedRows,
  next: Int32Array,
  [from, to]: readonly [number, number],
  end: number,
  withEmpty: boolean,
): Visit[][] {
  const groups: Visit[][] = Array.from({ length: GROUPS }, () => []);
  for (let row = from; row < to; row++) {
    let i = next[row];
    while (i < first[row + 1] && minor[i] < end) i++;
    const count = i - next[row];
    if (count > 0 || withEmpty) groups[count < GROUPS ? count : GROUPS - STEP + (count % STEP)].push({ row, count });
  }
  for (const group of groups) group.sort((x, y) => x.count - y.count || x.row - y.row);
  return groups;
}

/** Strips of the result that each thread works on: thread t has [shares[t], shares[t + 1]), equal in nonzeros. */
export function shareBlockRows(groups: Groups, threads: number): Int32Array {
  const { starts, visits, blockRows, panels, strip, block, nonzeros } = groups;
  // A row costs something without nonzeros, too: it is set and stored.
  const before = (s: number): number => {
    const at = 2 * starts[s * panels * GROUPS] + 1;
    return (at < visits.length ? visits[at] / 2 : nonzeros) + s * strip * block;
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
