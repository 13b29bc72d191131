// The walk of a sparse matrix in either direction: panel by panel, groups of four rows of the result whose nonzeros are interleaved, so that several sums run side by side.
import { HeddleError } from "../ir/error.ts";
import type { Csb } from "../sparse/csb.ts";

/** forward: W·X, the result's rows are W's; transposed: Wᵀ·G, they are W's columns. */
export type Direction = "forward" | "transposed";

/** Rows of a group: with four vectors each, sixteen sums run side by side. */
export const GROUP_HEIGHT = 4;
/** Bytes from one row of the dense operand's panels to the next. */
export const PITCH = 256;
/** Coordinates at odd places are less by this much: a kernel reads two of them as one word, whose upper half has a sign. */
export const MIDDLE = 2 ** 15;

/**
 * The index of one direction over the nonzeros of a CSB matrix, in the order in which a kernel meets them: in turns of GROUP_HEIGHT values and as many coordinates.
 * A group's shared turns come first: its rows 0 and 1 both meet the row that coordinate 0 names, rows 2 and 3 that of coordinate 1. In other turns each row has its own.
 */
export interface Groups {
  readonly block: number;
  /** Block rows of the result that meet a panel of the dense operand before the next panel comes. */
  readonly strip: number;
  /** Rows of the result, and of the dense operand. */
  readonly rows: number;
  readonly depth: number;
  readonly blockRows: number;
  readonly blockColumns: number;
  /** Of the matrix: what places lie below. */
  readonly nonzeros: number;
  /** First group of each strip and panel, strip by strip, and the end. */
  readonly starts: Int32Array;
  /** Of each group its first turn, and its first that is not shared; then the end. */
  readonly bounds: Int32Array;
  /** PITCH · the rows of the result inside the strip, GROUP_HEIGHT a group, less MIDDLE at odd places. */
  readonly row: Uint16Array;
  /** The same for rows of the dense operand inside their block. Shorter rows meet a row of zeros, number `block`, in the end. */
  readonly coordinate: Uint16Array;
  /** Where the value is in the matrix, -1: a zero that fills up. */
  readonly place: Int32Array;
}

/** CSB blocks for products: of panels that fit into the first-level cache the largest, so that rows have many nonzeros in each. */
export const SPARSE_BLOCK = 128;
/** As many can be named by 16 bits. */
const ROWS_OF_STRIP = 256;
/** A turn with coordinates of its own takes one and a half times as long as a shared one. */
const [OWN, SHARED] = [3, 2];

/** Rows are grouped so that they share columns and are of equal lengths: little is loaded twice or filled up. */
export function groupsOf(w: Csb, direction: Direction, threads = 1): Groups {
  if (w.block > SPARSE_BLOCK)
    throw new HeddleError("unsupported", `sparse product: CSB blocks of ${w.block}, wanted at most ${SPARSE_BLOCK}`);
  const isForward = direction === "forward";
  const [blockRows, blockColumns] = isForward ? [w.blockRows, w.blockColumns] : [w.blockColumns, w.blockRows];
  const strip = blocksOfStrip(blockRows, w.block, threads);
  const strips = Math.ceil(blockRows / strip);
  const walk = new Walk(w, isForward);
  for (let s = 0; s < strips; s++) for (let c = 0; c < blockColumns; c++) walk.panel(s * strip, Math.min(blockRows, (s + 1) * strip), c);
  return {
    block: w.block,
    strip,
    rows: isForward ? w.rows : w.columns,
    depth: isForward ? w.columns : w.rows,
    blockRows,
    blockColumns,
    nonzeros: w.values.length,
    ...walk.result(),
  };
}

/** Strips of equal heights, and a multiple of `threads` of them. */
const blocksOfStrip = (blockRows: number, block: number, threads: number): number =>
  Math.ceil(blockRows / (threads * Math.ceil((blockRows * block) / (threads * ROWS_OF_STRIP))));

/** Four rows, by numbers in the strip. */
interface Group {
  readonly rows: readonly number[];
  readonly sharedTurns: number;
  readonly turns: number;
}

/** A row or two that share columns; `count`: the longer one's nonzeros. */
interface Part {
  readonly rows: readonly number[];
  readonly count: number;
  readonly shared: number;
}

/** Parts two by two, so that together they take few turns: each, longest first, with the best of those that come next. `sharedBy`: columns that two share. */
function pairUp(parts: readonly Part[], sharedBy: (a: Part, b: Part) => number): Part[] {
  const rest = parts.slice().sort((x, y) => y.count - x.count || x.rows[0] - y.rows[0]);
  const pairs: Part[] = [];
  while (rest.length > 1) {
    const part = rest.shift()!;
    let [best, least, shared] = [0, Number.POSITIVE_INFINITY, 0];
    for (let i = 0; i < rest.length; i++) {
      const both = sharedBy(part, rest[i]);
      // What the other would take with one like itself is not to be blamed on the two.
      const cost = (SHARED - OWN) * both - (OWN * rest[i].count + (SHARED - OWN) * rest[i].shared) / 2;
      if (cost < least) [best, least, shared] = [i, cost, both];
    }
    const [other] = rest.splice(best, 1);
    pairs.push({ rows: [...part.rows, ...other.rows], count: part.count, shared });
  }
  return pairs;
}

/** Builds the index panel by panel. */
class Walk {
  private groups = 0;
  private readonly starts: number[] = [];
  private readonly major: ArrayLike<number>;
  private readonly minor: ArrayLike<number>;
  private readonly bounds: number[] = [];
  private readonly row: number[] = [];
  private coordinate = new Uint16Array(0);
  private place = new Int32Array(0);
  private next = 0;
  /** The panel's nonzeros row by row, where each row starts, and the end. */
  private sorted = new Int32Array(0);
  private first = new Int32Array(0);
  /** Which columns of the panel each row has nonzeros in, as bits. */
  private bits = new Int32Array(0);
  private readonly words: number;

  constructor(
    private readonly w: Csb,
    private readonly isForward: boolean,
  ) {
    this.major = isForward ? w.row : w.column;
    this.minor = isForward ? w.column : w.row;
    this.words = Math.ceil(w.block / 32);
  }

  result(): Pick<Groups, "starts" | "bounds" | "row" | "coordinate" | "place"> {
    const { starts, bounds, row, coordinate, place, next, groups } = this;
    return {
      starts: Int32Array.from(starts.concat(groups)),
      bounds: Int32Array.from(bounds.concat(next / GROUP_HEIGHT)),
      row: Uint16Array.from(row),
      coordinate: coordinate.subarray(0, next),
      place: place.subarray(0, next),
    };
  }

  /** Block rows [from, to) of the result, and the panel of its block column c. */
  panel(from: number, to: number, c: number): void {
    this.sortByRows(from, to, c);
    const { first, w } = this;
    const groups: Group[] = [];
    for (let row = 0; row < first.length - 1; row += w.block) {
      // Not of several blocks, so that the order of sums does not depend on the number of threads.
      const rows = Array.from({ length: w.block }, (_, r) => ({ rows: [row + r], count: this.count(row + r), shared: 0 }));
      const pairs = pairUp(rows, (x, y) => this.columnsShared(x.rows[0], y.rows[0]));
      // The first panel begins all sums.
      for (const { rows, count, shared } of pairUp(pairs, (x, y) => Math.min(x.shared, y.shared)))
        if (c === 0 || count > 0) groups.push({ rows, sharedTurns: shared, turns: count });
    }
    // So that the processor foresees where loops end.
    groups.sort((x, y) => x.sharedTurns - y.sharedTurns || x.turns - y.turns);
    this.starts.push(this.groups);
    for (const g of groups) this.add(g);
  }

  private count(row: number): number {
    return this.first[row + 1] - this.first[row];
  }

  private sortByRows(from: number, to: number, c: number): void {
    const { w, isForward, major } = this;
    const blocks = Array.from({ length: to - from }, (_, i) =>
      isForward ? (from + i) * w.blockColumns + c : c * w.blockColumns + from + i,
    );
    const first = new Int32Array(blocks.length * w.block + 1);
    for (const [r, block] of blocks.entries())
      for (let i = w.pointers[block]; i < w.pointers[block + 1]; i++) first[r * w.block + major[i] + 1]++;
    for (let r = 1; r < first.length; r++) first[r] += first[r - 1];
    const sorted = new Int32Array(first[first.length - 1]);
    const next = first.slice();
    for (const [r, block] of blocks.entries())
      for (let i = w.pointers[block]; i < w.pointers[block + 1]; i++) sorted[next[r * w.block + major[i]]++] = i;
    this.first = first;
    this.sorted = sorted;
    this.bits = new Int32Array(blocks.length * w.block * this.words);
    for (let r = 0; r < first.length - 1; r++)
      for (let i = first[r]; i < first[r + 1]; i++) {
        const column = this.minor[sorted[i]];
        this.bits[r * this.words + (column >> 5)] |= 1 << (column & 31);
      }
  }

  private columnsShared(a: number, b: number): number {
    const { bits, words } = this;
    let sum = 0;
    for (let i = 0; i < words; i++) sum += bitCount(bits[a * words + i] & bits[b * words + i]);
    return sum;
  }
  private hasColumn(row: number, column: number): boolean {
    return ((this.bits[row * this.words + (column >> 5)] >> (column & 31)) & 1) === 1;
  }
  /** The first `count` nonzeros of row a in columns that b has, too. */
  private firstShared(a: number, b: number, count: number): number[] {
    const { first, sorted, minor } = this;
    const found: number[] = [];
    for (let i = first[a]; i < first[a + 1] && found.length < count; i++) if (this.hasColumn(b, minor[sorted[i]])) found.push(sorted[i]);
    return found;
  }

  private add({ rows, sharedTurns, turns }: Group): void {
    const { first, sorted, minor, w } = this;
    this.reserve(turns * GROUP_HEIGHT);
    this.bounds.push(this.next / GROUP_HEIGHT, this.next / GROUP_HEIGHT + sharedTurns);
    for (const [h, r] of rows.entries()) this.row.push(nameOf(r, h));
    this.groups++;
    const shared = rows.map((r, h) => this.firstShared(r, rows[h ^ 1], sharedTurns));
    for (let i = 0; i < sharedTurns; i++) {
      // Two coordinates are enough.
      const columns = [minor[shared[0][i]], minor[shared[2][i]], w.block, w.block];
      for (const [h, column] of columns.entries()) this.put(column, shared[h][i]);
    }
    const next = rows.map((r) => first[r]);
    const taken = rows.map(() => 0);
    for (let i = sharedTurns; i < turns; i++)
      for (const [h, r] of rows.entries()) {
        for (; sorted[next[h]] === shared[h][taken[h]] && next[h] < first[r + 1]; next[h]++) taken[h]++;
        const place = next[h] < first[r + 1] ? sorted[next[h]++] : -1;
        this.put(place < 0 ? w.block : minor[place], place);
      }
  }

  private put(column: number, place: number): void {
    this.coordinate[this.next] = nameOf(column, this.next);
    this.place[this.next++] = place;
  }

  /** Room for `more` nonzeros. */
  private reserve(more: number): void {
    const { coordinate, place, next } = this;
    if (next + more <= place.length) return;
    const room = Math.ceil(next * 1.5) + more;
    this.coordinate = new Uint16Array(room);
    this.coordinate.set(coordinate);
    this.place = new Int32Array(room);
    this.place.set(place);
  }
}

/** A row as 16 bits that an Uint16Array takes modulo 2¹⁶. */
const nameOf = (row: number, place: number): number => row * PITCH - (place % 2) * MIDDLE;

function bitCount(word: number): number {
  const pairs = word - ((word >>> 1) & 0x55555555);
  const fours = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Strips of the result that each thread works on: thread t has [shares[t], shares[t + 1]), equal in nonzeros. */
export function shareBlockRows({ starts, bounds, blockRows, blockColumns, strip, block }: Groups, threads: number): Int32Array {
  // A row costs something without nonzeros, too: it is set and stored.
  const before = (s: number): number => GROUP_HEIGHT * bounds[2 * starts[s * blockColumns]] + s * strip * block;
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
