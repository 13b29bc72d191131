// Nonzeros of a slice of rows to steps, as the transposed product wants them: in each, columns differ modulo lanes, so that products go from the rows' lanes to the columns' by one permutation.
import { asExtra, type March, OTHER, stepsOfWindows, type Taken } from "./sparse_march.ts";
import { type Rows, spansOf } from "./sparse_slices.ts";

/**
 * Each window has two vectors of columns and starts at the first column that any row still wants, at a whole vector.
 * What no later window would have is taken in any step, where that leaves nothing behind.
 */
export function marchApartOf(rows: Rows, slice: Int32Array, lanes: number): March {
  const { wanted, item, first } = columnsOf(rows, slice);
  const itemOf = (c: number, r: number): number => item[first[c] + bitCount(wanted[c] & ((1 << r) - 1))];
  const { length: width } = wanted;
  return (windows, taken) => {
    const parts = stepsOfWindows(windows);
    const left = wanted.slice();
    const steps = new Steps(lanes, slice.length);
    const window = new WindowOfColumns(left, steps);
    let head = 0;
    for (let w = 0, from = 0; ; w++) {
      while (head < width && left[head] === 0) head++;
      if (head === width) return from;
      const to = from + parts[w % parts.length].steps;
      const start = Math.floor(head / lanes);
      steps.begin(to - from);
      window.take(head, Math.min((start + 2) * lanes, width));
      window.takeLast(head, Math.min((start + 1) * lanes, width));
      if (taken) steps.write(taken, taken.window(w, start, to) + from * lanes, start * lanes, itemOf);
      from = to;
    }
  };
}

/** Nonzeros of a slice column after column. */
interface Columns {
  /** Of each column, a bit for each row of the slice that has it. */
  readonly wanted: Int32Array;
  /** Among the matrix's, a column's by row. */
  readonly item: Int32Array;
  /** Where each column's begin. */
  readonly first: Int32Array;
}

function columnsOf(rows: Rows, slice: Int32Array): Columns {
  const { column } = rows;
  const { first: begin, end, width } = spansOf(rows, slice);
  const first = new Int32Array(width + 1);
  const wanted = new Int32Array(width);
  for (let r = 0; r < slice.length; r++)
    for (let i = begin[r]; i < end[r]; i++) {
      first[column[i] + 1]++;
      wanted[column[i]] |= 1 << r;
    }
  for (let c = 0; c < width; c++) first[c + 1] += first[c];
  const next = first.slice();
  const item = new Int32Array(first[width]);
  for (let r = 0; r < slice.length; r++) for (let i = begin[r]; i < end[r]; i++) item[next[column[i]]++] = i;
  return { wanted, item, first };
}

/** Columns of a window to its steps; each column begins with another row. */
class WindowOfColumns {
  constructor(
    /** Rows that still want each column. */
    private readonly left: Int32Array,
    private readonly steps: Steps,
  ) {}

  take(from: number, to: number): void {
    const { left, steps } = this;
    const { lanes, height } = steps;
    for (let c = from; c < to && steps.open !== 0; c++) {
      const cls = c & (lanes - 1);
      const turn = -1 << (c & (height - 1));
      for (let half = 0; half < 2; half++)
        for (let bits = left[c] & steps.open & (half === 0 ? turn : ~turn); bits !== 0; bits &= bits - 1) {
          const r = lowest(bits);
          if (steps.add(r & (lanes - 1), cls, cellOf(c, r))) left[c] &= ~(1 << r);
        }
    }
  }

  /** Those that clash and are not in the next window, unless that begins where this one does because of others. */
  takeLast(from: number, to: number): void {
    const { left, steps } = this;
    const { lanes, height } = steps;
    for (let c = from; c < to; c++) if ((left[c] & ~steps.open) !== 0) return;
    for (let c = from; c < to; c++) {
      const turn = -1 << (c & (height - 1));
      for (let half = 0; half < 2; half++)
        for (let bits = left[c] & (half === 0 ? turn : ~turn); bits !== 0; bits &= bits - 1) {
          const r = lowest(bits);
          if (steps.addAnywhere(r & (lanes - 1), cellOf(c, r))) left[c] &= ~(1 << r);
        }
    }
  }
}

/** A column, and a row of a slice, which has 32 at most. */
const cellOf = (column: number, row: number): number => (column << 5) | row;

const lowest = (bits: number): number => 31 - Math.clz32(bits & -bits);

function bitCount(word: number): number {
  const pairs = word - ((word >>> 1) & 0x55555555);
  const fours = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Steps of a window are bits of a number, and lie this far apart in arrays. */
const STEPS = 8;

/** Steps of a window: what each lane takes, and for which class of columns. */
class Steps {
  /** Rows of lanes that have a step left, a bit each. */
  open = 0;
  /** Steps that each lane has left, and each class; those of a lane that extra ones took. */
  private readonly laneFree: Int32Array;
  private readonly classFree: Int32Array;
  private readonly extras: Int32Array;
  /** By lane and step: what was added, and its class. */
  private readonly cells: Int32Array;
  private readonly classes: Int32Array;
  /** By class and step: the lane. */
  private readonly lanesOf: Int32Array;
  /** How many each step has. */
  private readonly filled = new Int32Array(STEPS);
  /** Of an exchange: lane, class, step and cell. */
  private readonly chain: Int32Array;

  constructor(
    readonly lanes: number,
    readonly height: number,
  ) {
    const some = (count: number): Int32Array => new Int32Array(count * lanes);
    [this.laneFree, this.classFree, this.extras] = [some(1), some(1), some(1)];
    [this.cells, this.classes, this.lanesOf, this.chain] = [some(STEPS), some(STEPS), some(STEPS), some(4 * STEPS)];
  }

  begin(count: number): void {
    const all = (1 << count) - 1;
    this.laneFree.fill(all);
    this.classFree.fill(all);
    this.extras.fill(0);
    this.filled.fill(0);
    this.open = this.height === 32 ? -1 : (1 << this.height) - 1;
  }

  /** False: the lane or the class has no step left. If they have, but not the same one, steps along a chain of others are exchanged (König). */
  add(lane: number, cls: number, cell: number): boolean {
    const [ofLane, ofClass] = [this.laneFree[lane], this.classFree[cls]];
    if (ofLane === 0 || ofClass === 0) return false;
    const both = ofLane & ofClass;
    const step = both !== 0 ? lowest(both) : 31 - Math.clz32(ofLane);
    if (both === 0) this.exchange(cls, step, 31 - Math.clz32(ofClass));
    this.set(lane, cls, step, cell);
    this.close(lane);
    return true;
  }

  /** Into a step of the lane that leaves another lane empty, whatever its class. */
  addAnywhere(lane: number, cell: number): boolean {
    const { lanes, laneFree, filled } = this;
    for (let free = laneFree[lane]; free !== 0; free &= free - 1) {
      const step = lowest(free);
      if (filled[step] >= lanes - 1) continue;
      this.cells[lane * STEPS + step] = cell;
      this.extras[lane] |= 1 << step;
      laneFree[lane] &= ~(1 << step);
      filled[step]++;
      this.close(lane);
      return true;
    }
    return false;
  }

  /** What lanes took, step after step, of columns that are counted from a window's first one. */
  write({ items, codes }: Taken, first: number, start: number, itemOf: (column: number, row: number) => number): void {
    const { lanes, laneFree, cells, extras, filled } = this;
    for (let lane = 0; lane < lanes; lane++)
      for (let step = 0; step < STEPS; step++) {
        if (filled[step] === 0 || laneFree[lane] & (1 << step)) continue;
        const cell = cells[lane * STEPS + step];
        const [column, row] = [cell >> 5, cell & 31];
        const item = itemOf(column, row);
        const slot = first + step * lanes + lane;
        items[slot] = extras[lane] & (1 << step) ? asExtra(item) : item;
        codes[slot] = (column - start) | (row < lanes ? 0 : OTHER);
      }
  }

  private close(lane: number): void {
    if (this.laneFree[lane] === 0) this.open &= ~((1 << lane) | (1 << (lane + this.height - this.lanes)));
  }

  private set(lane: number, cls: number, step: number, cell: number): void {
    const { cells, classes, lanesOf, filled, laneFree, classFree } = this;
    cells[lane * STEPS + step] = cell;
    classes[lane * STEPS + step] = cls;
    lanesOf[cls * STEPS + step] = lane;
    laneFree[lane] &= ~(1 << step);
    classFree[cls] &= ~(1 << step);
    filled[step]++;
  }

  /** What the class has in step a goes to b, so that what that lane has in b goes to a, and so on. */
  private exchange(cls: number, a: number, b: number): void {
    const { cells, classes, lanesOf, filled, laneFree, classFree, chain } = this;
    let count = 0;
    const link = (lane: number, c: number, step: number, cell: number): void => {
      chain[count++] = lane;
      chain[count++] = c;
      chain[count++] = step;
      chain[count++] = cell;
    };
    for (let c = cls; (classFree[c] & (1 << a)) === 0; ) {
      const lane = lanesOf[c * STEPS + a];
      link(lane, c, b, cells[lane * STEPS + a]);
      if (laneFree[lane] & (1 << b)) break;
      c = classes[lane * STEPS + b];
      link(lane, c, a, cells[lane * STEPS + b]);
    }
    for (let i = 0; i < count; i += 4) {
      const from = a + b - chain[i + 2];
      laneFree[chain[i]] |= 1 << from;
      classFree[chain[i + 1]] |= 1 << from;
      filled[from]--;
    }
    for (let i = 0; i < count; i += 4) this.set(chain[i], chain[i + 1], chain[i + 2], chain[i + 3]);
  }
}
