// Nonzeros of a slice of rows to steps: in each, every lane takes one of its rows' from a window of columns that two registers hold.
import type { Rows } from "./sparse_slices.ts";

/** Called for each window, and for each nonzero. */
export interface Marched {
  window(window: number, column: number): void;
  take(taken: Taken): void;
}

/** A nonzero that has a step. */
export interface Taken {
  readonly step: number;
  readonly lane: number;
  /** Of the lane's rows. */
  readonly row: number;
  /** In its window. */
  readonly column: number;
  /** Among the matrix's. */
  readonly i: number;
  /** Whether another one of this step has the same column modulo lanes, so that the step's columns do not fit into the lanes of one register. */
  readonly isExtra: boolean;
}

/**
 * Each window starts at the first column that any row still wants, at a whole vector; each lane then takes what lies in it, the first columns first.
 * `apart`: in a step columns differ modulo lanes, but for extra ones, which no later window would have: then products go from the rows' lanes to the columns' by one permutation.
 * Returns how many steps: windows have `length` each, rounded so that sums are whole.
 */
export function march(rows: Rows, slice: Int32Array, lanes: number, length: number, apart: boolean, marched?: Marched): number {
  const queues = Array.from({ length: lanes }, (_, lane) => new Queue(rows, slice, lane, lanes));
  for (let window = 0; ; window++) {
    const [from, to] = [Math.round(window * length), Math.round((window + 1) * length)];
    const first = queues.reduce((least, queue) => Math.min(least, queue.first()), BEYOND);
    if (first === BEYOND) return from;
    const start = first - (first % lanes);
    marched?.window(window, start);
    const steps = new Steps(lanes, to - from);
    if (apart) takeApart(queues, steps, start);
    else
      for (const queue of queues)
        while (queue.first() < start + 2 * lanes && steps.addAnywhere(queue.lane, queue.head, lanes)) queue.take(queue.head);
    if (marched)
      steps.visit((step, lane, at, isExtra) => marched.take({ step: from + step, lane, ...queues[lane].at(at, start), isExtra }));
  }
}
const BEYOND = 2 ** 30;

/** Column after column, so that none waits for long; those that clash and are not in the next window are extra. */
function takeApart(queues: readonly Queue[], steps: Steps, start: number): void {
  const lanes = queues.length;
  const cursor = queues.map((queue) => queue.head);
  for (let column = start; column < start + 2 * lanes; column++)
    for (let turn = 0; turn < lanes; turn++) {
      const lane = (turn + column) % lanes;
      const queue = queues[lane];
      for (; queue.column(cursor[lane]) <= column; cursor[lane]++)
        if (!queue.isTaken(cursor[lane]) && steps.add(lane, column % lanes, cursor[lane])) queue.take(cursor[lane]);
    }
  for (const queue of queues)
    for (let at = queue.head; queue.column(at) < start + lanes; at++)
      if (!queue.isTaken(at) && steps.addAnywhere(queue.lane, at, lanes - 1)) queue.take(at);
}

/** Nonzeros of a lane's rows, by column. */
class Queue {
  head = 0;
  private readonly columns: number[] = [];
  private readonly places: number[] = [];
  private readonly owners: number[] = [];
  private readonly taken: Uint8Array;

  constructor(
    { starts, column }: Rows,
    slice: Int32Array,
    readonly lane: number,
    lanes: number,
  ) {
    const last = starts.length - 1;
    const mine = slice.filter((_, i) => i % lanes === lane);
    const next = mine.map((r) => starts[Math.min(r, last)]);
    const end = mine.map((r) => starts[Math.min(r + 1, last)]);
    for (;;) {
      let row = -1;
      for (let r = 0; r < mine.length; r++) if (next[r] < end[r] && (row < 0 || column[next[r]] < column[next[row]])) row = r;
      if (row < 0) break;
      this.columns.push(column[next[row]]);
      this.places.push(next[row]++);
      this.owners.push(row);
    }
    this.taken = new Uint8Array(this.columns.length);
  }

  column(at: number): number {
    return at < this.columns.length ? this.columns[at] : BEYOND;
  }
  first(): number {
    return this.column(this.head);
  }
  isTaken(at: number): boolean {
    return this.taken[at] === 1;
  }
  take(at: number): void {
    this.taken[at] = 1;
    while (this.taken[this.head]) this.head++;
  }
  at(at: number, start: number): { readonly row: number; readonly column: number; readonly i: number } {
    return { row: this.owners[at], column: this.columns[at] - start, i: this.places[at] };
  }
}

/** Steps of a window: what each lane takes, and for which class of columns. */
class Steps {
  /** By lane and step: what was added, -1: nothing; its class, -1: none. */
  private readonly items: Int32Array;
  private readonly classes: Int32Array;
  /** By class and step: the lane, -1: none. */
  private readonly lanesOf: Int32Array;
  /** How many each step has. */
  private readonly filled: Int32Array;

  constructor(
    lanes: number,
    private readonly count: number,
  ) {
    this.items = new Int32Array(lanes * count).fill(-1);
    this.classes = this.items.slice();
    this.lanesOf = this.items.slice();
    this.filled = new Int32Array(count);
  }

  /** False: the lane or the class has no step left. If they have, but not the same one, steps along a chain of others are exchanged (König). */
  add(lane: number, cls: number, item: number): boolean {
    const { items, lanesOf, count } = this;
    let ofLane = -1;
    let ofClass = -1;
    for (let s = 0; s < count; s++) {
      const isFree = items[lane * count + s] < 0;
      if (isFree && lanesOf[cls * count + s] < 0) {
        this.set(lane, cls, s, item);
        return true;
      }
      if (isFree) ofLane = s;
      if (lanesOf[cls * count + s] < 0) ofClass = s;
    }
    if (ofLane < 0 || ofClass < 0) return false;
    this.exchange(cls, ofLane, ofClass);
    this.set(lane, cls, ofLane, item);
    return true;
  }

  /** Into a step of the lane that has fewer than `most`, whatever its class. */
  addAnywhere(lane: number, item: number, most: number): boolean {
    const { items, count, filled } = this;
    for (let s = 0; s < count; s++) {
      if (items[lane * count + s] >= 0 || filled[s] >= most) continue;
      items[lane * count + s] = item;
      filled[s]++;
      return true;
    }
    return false;
  }

  visit(f: (step: number, lane: number, item: number, isExtra: boolean) => void): void {
    const { items, classes, count } = this;
    for (const [at, item] of items.entries()) if (item >= 0) f(at % count, Math.floor(at / count), item, classes[at] < 0);
  }

  private set(lane: number, cls: number, step: number, item: number): void {
    const { items, classes, lanesOf, count, filled } = this;
    items[lane * count + step] = item;
    classes[lane * count + step] = cls;
    lanesOf[cls * count + step] = lane;
    filled[step]++;
  }

  /** What the class has in step a goes to b, so that what that lane has in b goes to a, and so on. */
  private exchange(cls: number, a: number, b: number): void {
    const { items, classes, lanesOf, count, filled } = this;
    const chain: [lane: number, cls: number, step: number, item: number][] = [];
    for (let c = cls; ; ) {
      const lane = lanesOf[c * count + a];
      if (lane < 0) break;
      chain.push([lane, c, b, items[lane * count + a]]);
      const item = items[lane * count + b];
      if (item < 0) break;
      c = classes[lane * count + b];
      chain.push([lane, c, a, item]);
    }
    for (const [lane, c, to] of chain) {
      const from = a + b - to;
      items[lane * count + from] = classes[lane * count + from] = lanesOf[c * count + from] = -1;
      filled[from]--;
    }
    for (const [lane, c, to, item] of chain) this.set(lane, c, to, item);
  }
}
