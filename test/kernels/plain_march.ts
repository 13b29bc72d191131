// What lanes take of a slice of rows, nonzero by nonzero as docs/decisions.md tells it: what src/kernels/sparse_march.ts and sparse_apart.ts must find.
import { type Windows as SharedWindows, stepsOfWindows } from "../../src/kernels/sparse_march.ts";
import type { Rows } from "../../src/kernels/sparse_slices.ts";

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

/** A window of lanes that may share steps: where it begins, its steps, how many of these, the last, the next lane's row may have, and what is taken, in any order. */
export interface SharedWindow {
  readonly start: number;
  readonly steps: number;
  readonly shared: number;
  readonly items: readonly number[];
}

/** One after another a nonzero gets a place of its row's lane, or a shared one of the lane before, if others can move so that one is free (Kuhn). */
export function marchShared({ count, column, lane, i }: Queue, windows: SharedWindows, lanes: number): readonly SharedWindow[] {
  const left = new Set(Array.from({ length: count }, (_, at) => at));
  const parts = stepsOfWindows(windows);
  const found: SharedWindow[] = [];
  while (left.size > 0) {
    const [head] = left;
    const { steps, shared } = parts[found.length % parts.length];
    const start = column[head] - (column[head] % lanes);
    const holder = new Map<number, number>();
    const placesOf = Array.from({ length: lanes }, (_, own) => [
      ...Array.from({ length: steps }, (_, s) => own * steps + s),
      ...Array.from({ length: shared }, (_, s) => ((own + lanes - 1) % lanes) * steps + steps - 1 - s),
    ]);
    const seenBy = new Int32Array(lanes * steps).fill(-1);
    const place = (at: number, first: number): boolean => {
      for (const to of placesOf[lane[at]]) {
        if (seenBy[to] === first) continue;
        seenBy[to] = first;
        const other = holder.get(to);
        if (other !== undefined && !place(other, first)) continue;
        holder.set(to, at);
        return true;
      }
      return false;
    };
    for (const at of left) if (column[at] < start + windows.columns) place(at, at);
    const taken = [...holder.values()];
    for (const at of taken) left.delete(at);
    found.push({ start, steps, shared, items: taken.map((at) => i[at]) });
  }
  return found;
}

/**
 * Each window has two `unit`s of columns and starts at the first column that any row still wants, at a whole unit; each lane then takes what lies in it, the first columns first.
 * `apart`: in a step columns differ modulo lanes, but for extra ones, which no later window would have: then products go from the rows' lanes to the columns' by one permutation.
 * Returns how many steps: windows have `length` each, rounded so that sums are whole.
 */
export function march(queue: Queue, { lanes, unit, length, apart }: Windows, marched?: Marched): number {
  const { column, lane, row, i, count } = queue;
  const isTaken = new Uint8Array(count + 1);
  const steps = new Steps(lanes, Math.ceil(length));
  let head = 0;
  for (let window = 0; ; window++) {
    const [from, to] = [Math.round(window * length), Math.round((window + 1) * length)];
    while (isTaken[head]) head++;
    if (head === count) return from;
    const start = column[head] - (column[head] % unit);
    marched?.window(window, start);
    steps.begin(to - from);
    for (let at = head; at < count && column[at] < start + 2 * unit && !steps.isFull(); at++)
      if (!isTaken[at] && (apart ? steps.add(lane[at], column[at] % lanes, at) : steps.addAnywhere(lane[at], at, lanes))) isTaken[at] = 1;
    if (apart) takeLast(queue, isTaken, steps, head, start + lanes);
    if (marched)
      steps.visit((step, at, isExtra) =>
        marched.take({ step: from + step, lane: lane[at], row: row[at], column: column[at] - start, i: i[at], isExtra }),
      );
  }
}

/** How windows are: the unit of columns is that of lanes where columns are apart. */
export interface Windows {
  readonly lanes: number;
  readonly unit: number;
  readonly length: number;
  readonly apart: boolean;
}

/** Those that clash and are not in the next window, unless that begins where this one does because of others. */
function takeLast({ column, lane, count }: Queue, isTaken: Uint8Array, steps: Steps, head: number, end: number): void {
  const last: number[] = [];
  for (let at = head; at < count && column[at] < end; at++) {
    if (isTaken[at]) continue;
    if (!steps.hasRoom(lane[at])) return;
    last.push(at);
  }
  for (const at of last) if (steps.addAnywhere(lane[at], at, steps.lanes - 1)) isTaken[at] = 1;
}

/** Nonzeros of a slice, column after column, each beginning with another lane. */
export interface Queue {
  readonly count: number;
  readonly column: Int32Array;
  readonly lane: Uint8Array;
  /** Of the lane's rows. */
  readonly row: Uint8Array;
  /** Among the matrix's. */
  readonly i: Int32Array;
}

export function queueOf({ starts, column }: Rows, slice: Int32Array, lanes: number): Queue {
  const last = starts.length - 1;
  const visit = (f: (r: number, column: number, i: number) => void): void => {
    for (let r = 0; r < slice.length; r++)
      for (let i = starts[Math.min(slice[r], last)]; i < starts[Math.min(slice[r] + 1, last)]; i++) f(r, column[i], i);
  };
  let [count, width] = [0, 0];
  visit((_, c) => {
    count++;
    width = Math.max(width, c + 1);
  });
  const next = new Int32Array(width + 1);
  visit((_, c) => next[c + 1]++);
  for (let c = 0; c < width; c++) next[c + 1] += next[c];
  const queue = { count, column: new Int32Array(count), lane: new Uint8Array(count), row: new Uint8Array(count), i: new Int32Array(count) };
  for (const isFirst of [true, false])
    visit((r, c, i) => {
      if (r >= c % slice.length !== isFirst) return;
      const at = next[c]++;
      queue.column[at] = c;
      queue.lane[at] = r % lanes;
      queue.row[at] = Math.floor(r / lanes);
      queue.i[at] = i;
    });
  return queue;
}

/** Steps of a window: what each lane takes, and for which class of columns. */
class Steps {
  /** By lane and step: what was added, -1: nothing; its class, -1: none. */
  private readonly items: Int32Array;
  private readonly classes: Int32Array;
  /** By class and step: the lane, -1: none. */
  private readonly lanesOf: Int32Array;
  /** How many each step has, and all. */
  private readonly filled: Int32Array;
  private all = 0;
  private count = 0;

  constructor(
    readonly lanes: number,
    most: number,
  ) {
    this.items = new Int32Array(lanes * most);
    this.classes = this.items.slice();
    this.lanesOf = this.items.slice();
    this.filled = new Int32Array(most);
  }

  begin(count: number): void {
    this.items.fill(-1);
    this.classes.fill(-1);
    this.lanesOf.fill(-1);
    this.filled.fill(0);
    this.count = count;
    this.all = 0;
  }

  hasRoom(lane: number): boolean {
    for (let s = 0; s < this.count; s++) if (this.items[lane * this.count + s] < 0) return true;
    return false;
  }

  isFull(): boolean {
    return this.all === this.lanes * this.count;
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
      this.all++;
      return true;
    }
    return false;
  }

  visit(f: (step: number, item: number, isExtra: boolean) => void): void {
    const { items, classes, count, lanes } = this;
    for (let at = 0; at < lanes * count; at++) if (items[at] >= 0) f(at % count, items[at], classes[at] < 0);
  }

  private set(lane: number, cls: number, step: number, item: number): void {
    const { items, classes, lanesOf, count, filled } = this;
    items[lane * count + step] = item;
    classes[lane * count + step] = cls;
    lanesOf[cls * count + step] = lane;
    filled[step]++;
    this.all++;
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
      this.all--;
    }
    for (const [lane, c, to, item] of chain) this.set(lane, c, to, item);
  }
}
