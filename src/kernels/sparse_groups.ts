// The walk of a sparse matrix in either direction: block by block, groups of rows of the result whose nonzeros are interleaved, so that several sums run side by side.
import { HeddleError } from "../ir/error.ts";
import type { Csb } from "../sparse/csb.ts";

/** forward: W·X, the result's rows are W's; transposed: Wᵀ·G, they are W's columns. */
export type Direction = "forward" | "transposed";

/** The index of one direction over the nonzeros of a CSB matrix, in the order in which a kernel meets them. */
export interface Groups {
  readonly block: number;
  /** Rows of a group. */
  readonly height: number;
  /** Rows of the result, and of the dense operand. */
  readonly rows: number;
  readonly depth: number;
  readonly blockRows: number;
  readonly blockColumns: number;
  /** Of the matrix: what places lie below. */
  readonly nonzeros: number;
  /** First group of each block, blocks row by row of the result, and the end. */
  readonly starts: Int32Array;
  /** Where each group starts, and the end. */
  readonly bounds: Int32Array;
  /** Rows of the result inside the block, `height` a group. */
  readonly row: Uint8Array;
  /** The row of the dense operand inside its block. Rows of a group take turns; shorter ones meet a row of zeros, number `block`, in the end. */
  readonly coordinate: Uint8Array;
  /** Where the value is in the matrix, -1: a zero that fills up. */
  readonly place: Int32Array;
}

/** A coordinate is a byte, and names a row of zeros, too. */
const MAX_BLOCK = 128;

/** CSB blocks for a density: panels of 64 rows leave room in the first-level cache, but few nonzeros a row do not pay for a visit. */
export const sparseBlock = (density: number): number => (density > 0.15 ? 64 : MAX_BLOCK);

/** Rows of a block are grouped by their numbers of nonzeros: little is filled up, and the processor foresees where loops end. */
export function groupsOf(w: Csb, direction: Direction, height: number): Groups {
  if (w.block > MAX_BLOCK) throw new HeddleError("unsupported", `sparse product: CSB blocks of ${w.block}, wanted at most ${MAX_BLOCK}`);
  const isForward = direction === "forward";
  const [blockRows, blockColumns] = isForward ? [w.blockRows, w.blockColumns] : [w.blockColumns, w.blockRows];
  const nonzeros = w.values.length;
  const walk: Walk = {
    major: isForward ? w.row : w.column,
    minor: isForward ? w.column : w.row,
    height,
    counts: new Int32Array(w.block),
    first: new Int32Array(w.block),
    sorted: new Int32Array(nonzeros),
    bounds: [],
    row: [],
    coordinate: new Uint8Array(0),
    place: new Int32Array(0),
    next: 0,
  };
  const starts = new Int32Array(blockRows * blockColumns + 1);
  for (let r = 0, b = 0; r < blockRows; r++)
    for (let c = 0; c < blockColumns; c++) {
      const block = isForward ? r * blockColumns + c : c * blockRows + r;
      addBlock(walk, w.pointers[block], w.pointers[block + 1]);
      starts[++b] = walk.row.length / height;
    }
  return {
    block: w.block,
    height,
    rows: isForward ? w.rows : w.columns,
    depth: isForward ? w.columns : w.rows,
    blockRows,
    blockColumns,
    nonzeros,
    starts,
    bounds: Int32Array.from(walk.bounds.concat(walk.next)),
    row: Uint8Array.from(walk.row),
    coordinate: walk.coordinate.subarray(0, walk.next),
    place: walk.place.subarray(0, walk.next),
  };
}

interface Walk {
  readonly major: ArrayLike<number>;
  readonly minor: ArrayLike<number>;
  readonly height: number;
  readonly counts: Int32Array;
  readonly first: Int32Array;
  readonly sorted: Int32Array;
  readonly bounds: number[];
  readonly row: number[];
  coordinate: Uint8Array;
  place: Int32Array;
  next: number;
}

function addBlock(walk: Walk, from: number, to: number): void {
  if (from === to) return;
  // Filled up, no block is longer than all of it.
  reserve(walk, walk.counts.length ** 2);
  const { counts, first, sorted, major, height } = walk;
  counts.fill(0);
  for (let i = from; i < to; i++) counts[major[i]]++;
  let at = from;
  for (let m = 0; m < counts.length; m++) {
    first[m] = at;
    at += counts[m];
  }
  for (let i = from; i < to; i++) sorted[first[major[i]]++] = i;
  const rows = Array.from(counts, (_, m) => m).sort((x, y) => counts[x] - counts[y] || x - y);
  for (let g = 0; g < rows.length; g += height)
    if (counts[rows[g + height - 1]] > 0) addGroup(walk, rows.slice(g, g + height), counts.length);
}

/** Room for `more` nonzeros. */
function reserve(walk: Walk, more: number): void {
  if (walk.next + more <= walk.place.length) return;
  const { coordinate, place } = walk;
  const room = Math.ceil(walk.next * 1.5) + more;
  walk.coordinate = new Uint8Array(room);
  walk.coordinate.set(coordinate);
  walk.place = new Int32Array(room);
  walk.place.set(place);
}

/** Rows in the order of their lengths: the last is the longest. */
function addGroup(walk: Walk, rows: readonly number[], block: number): void {
  const { counts, first, sorted, minor, bounds, row, coordinate, place } = walk;
  const longest = rows[rows.length - 1];
  row.push(...rows);
  bounds.push(walk.next);
  for (let i = 0; i < counts[longest]; i++)
    for (const m of rows) {
      const isReal = i < counts[m];
      const from = isReal ? sorted[first[m] - counts[m] + i] : -1; // `first` has moved to the end of the row
      coordinate[walk.next] = isReal ? minor[from] : block;
      place[walk.next++] = from;
    }
}

/** Block rows of the result that each thread works on: thread t has [shares[t], shares[t + 1]), equal in nonzeros. */
export function shareBlockRows({ starts, bounds, blockRows, blockColumns, block }: Groups, threads: number): Int32Array {
  // A row costs something without nonzeros, too: it is set and stored.
  const before = (r: number): number => bounds[starts[r * blockColumns]] + r * block;
  const all = before(blockRows);
  const shares = new Int32Array(threads + 1);
  for (let t = 1, r = 0; t <= threads; t++) {
    // A block row goes to the thread whose part its middle lies in.
    while (r < blockRows && ((before(r) + before(r + 1)) / 2) * threads < all * t) r++;
    shares[t] = t === threads ? blockRows : r;
  }
  return shares;
}
