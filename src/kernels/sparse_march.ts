// Nonzeros of a slice of rows to steps: in each, every lane takes one of its rows' from a window of columns that a few registers hold.
import { type Rows, spansOf } from "./sparse_slices.ts";

/** How windows are: how many columns they have, each beginning at a multiple of lanes; steps of a bundle, windows of its steps, and how many of these, the last, lanes share with the next lane's row. */
export interface Windows {
  readonly columns: number;
  readonly bundle: number;
  readonly windows: number;
  readonly shared: number;
}

/** Steps of each of a bundle's windows, and how many of these are shared. */
export function stepsOfWindows({
  bundle,
  windows,
  shared,
}: Omit<Windows, "columns">): readonly { readonly steps: number; readonly shared: number }[] {
  const ends = Array.from({ length: windows + 1 }, (_, w) => Math.round((w * bundle) / windows));
  return Array.from({ length: windows }, (_, w) => ({
    steps: ends[w + 1] - ends[w],
    shared: Math.min(Math.max(ends[w + 1] - bundle + shared, 0), ends[w + 1] - ends[w]),
  }));
}

/** Takes all of a slice, which `taken` keeps from its end on, where there is one. Returns how many steps. */
export type March = (windows: Windows, taken: Taken | null) => number;

/** A lane that takes nothing in a step. */
export const EMPTY = -1;
/** What a lane takes although another one of the step has the same column modulo lanes, so that the step's columns do not fit into the lanes of one register; of such a number again what it was. */
export const asExtra = (item: number): number => EMPTY - 1 - item;

/** In a code: of the second of a lane's rows, or of the next lane's. */
export const OTHER = 0x80;

/** What lanes take, slice after slice, and step after step each. */
export class Taken {
  /** Which of the rows' nonzeros, EMPTY, or an extra one. */
  items: Int32Array;
  /** Its column in the window, and whether it is of the OTHER row. */
  codes: Uint8Array;
  /** Of each window where it begins, in vectors. */
  starts: Uint16Array;
  /** Bundles so far. */
  private bundles = 0;

  constructor(
    private readonly lanes: number,
    private readonly bundle: number,
    private readonly windows: number,
    /** Bundles that are expected. */
    room: number,
  ) {
    this.items = new Int32Array(room * bundle * lanes).fill(EMPTY);
    this.codes = new Uint8Array(room * bundle * lanes);
    this.starts = new Uint16Array(room * windows);
  }

  /** Begins a window of the slice that is marched through, which has so many steps with it. Returns where those of the slice begin. */
  window(window: number, start: number, steps: number): number {
    const { lanes, bundle, bundles, windows } = this;
    const needed = bundles + Math.ceil(steps / bundle);
    if (needed * windows > this.starts.length) this.grow(Math.ceil(1.5 * needed));
    this.starts[bundles * windows + window] = start;
    return bundles * bundle * lanes;
  }

  /** Ends a slice: what is left of its last bundle stays empty. Returns how many bundles there are. */
  end(steps: number): number {
    this.bundles += Math.ceil(steps / this.bundle);
    return this.bundles;
  }

  all(): Pick<Taken, "items" | "codes" | "starts"> {
    const { items, codes, starts, bundles, lanes, bundle, windows } = this;
    const slots = bundles * bundle * lanes;
    return { items: items.subarray(0, slots), codes: codes.subarray(0, slots), starts: starts.subarray(0, bundles * windows) };
  }

  private grow(room: number): void {
    const { lanes, bundle, windows } = this;
    const { items, codes, starts } = new Taken(lanes, bundle, windows, room);
    items.set(this.items);
    codes.set(this.codes);
    starts.set(this.starts);
    [this.items, this.codes, this.starts] = [items, codes, starts];
  }
}

/** Each window starts at the first column that any row still wants, at a whole vector; what lies in it goes to its row's lane or the one before, the first columns first. */
export function marchOf(rows: Rows, slice: Int32Array, lanes: number): March {
  const { first, item, row } = queueOf(rows, slice);
  const { column } = rows;
  const count = item.length;
  return (windows, taken) => {
    const ring = new Ring(first.slice());
    const parts = stepsOfWindows(windows);
    for (let window = 0, from = 0, head = 0; ; window++) {
      while (head < count && ring.has(row[head], item[head])) head++;
      if (head === count) return from;
      const start = Math.floor(column[item[head]] / lanes);
      const beyond = start * lanes + windows.columns;
      const { steps, shared } = parts[window % parts.length];
      ring.begin(steps, shared);
      for (let at = head; at < count && column[item[at]] < beyond && ring.left > 0; at++)
        if (!ring.has(row[at], item[at])) ring.add(row[at]);
      if (taken) ring.write(taken, taken.window(window, start, from + steps) + from * lanes, column, start * lanes);
      from += steps;
    }
  };
}

/** Nonzeros of a slice, column after column, each beginning with another row. */
interface Queue {
  /** Among the matrix's. */
  readonly item: Int32Array;
  readonly row: Uint8Array;
  /** Where each row's begin. */
  readonly first: Int32Array;
}

function queueOf(rows: Rows, slice: Int32Array): Queue {
  const { column } = rows;
  const { length: lanes } = slice;
  const { first, end, width } = spansOf(rows, slice);
  const next = new Int32Array(width + 1);
  for (let r = 0; r < lanes; r++) for (let i = first[r]; i < end[r]; i++) next[column[i] + 1]++;
  for (let c = 0; c < width; c++) next[c + 1] += next[c];
  const item = new Int32Array(next[width]);
  const row = new Uint8Array(item.length);
  for (const isFirst of [true, false])
    for (let r = 0; r < lanes; r++)
      for (let i = first[r]; i < end[r]; i++) {
        const c = column[i];
        if (r >= c % lanes !== isFirst) continue;
        const at = next[c]++;
        item[at] = i;
        row[at] = r;
      }
  return { item, row, first };
}

/** Steps of a window: how many of them each lane spends on its own row, and, of those that are shared, on the next lane's. */
class Ring {
  /** Lanes' steps that are left, all together. */
  left = 0;
  private readonly lanes: number;
  private readonly own: Int32Array;
  private readonly lent: Int32Array;
  /** Steps that each lane has left. */
  private readonly room: Int32Array;
  /** Where what each row takes begins, and where what is left of it does. */
  private readonly begins: Int32Array;
  private steps = 0;
  private shared = 0;

  constructor(private readonly next: Int32Array) {
    this.lanes = next.length;
    [this.own, this.lent, this.room, this.begins] = [next.slice(), next.slice(), next.slice(), next.slice()];
  }

  begin(steps: number, shared: number): void {
    this.own.fill(0);
    this.lent.fill(0);
    this.room.fill(steps);
    this.begins.set(this.next);
    [this.steps, this.shared, this.left] = [steps, shared, steps * this.lanes];
  }

  has(row: number, item: number): boolean {
    return item < this.next[row];
  }

  /** One more of a row: in its lane, in the one before, or where others move to make room: those that lanes have of next rows into these rows' own lanes, or own ones into the lanes before. */
  add(r: number): void {
    const { own, lent, room, shared, lanes } = this;
    if (room[r] > 0) {
      own[r]++;
      room[r]--;
    } else {
      const before = r === 0 ? lanes - 1 : r - 1;
      if (lent[before] < shared && room[before] > 0) {
        lent[before]++;
        room[before]--;
      } else if (shared === 0 || !(this.moveUp(r) || this.moveDown(before))) return;
    }
    this.next[r]++;
    this.left--;
  }

  /** A lane gets one more of its own, and gives one of the next row's back to that one's lane, and so on until there is room. */
  private moveUp(r: number): boolean {
    const { own, lent, room, lanes } = this;
    let last = r;
    for (let moved = 0; room[last] === 0; last = last + 1 === lanes ? 0 : last + 1) if (lent[last] === 0 || ++moved > lanes) return false;
    for (let lane = r; lane !== last; ) {
      own[lane]++;
      lent[lane]--;
      lane = lane + 1 === lanes ? 0 : lane + 1;
    }
    own[last]++;
    room[last]--;
    return true;
  }

  /** A lane gets one more of the next row's, and the lane before has one of its own instead, and so on until there is room. */
  private moveDown(before: number): boolean {
    const { own, lent, room, shared, lanes } = this;
    let last = before;
    for (let moved = 0; ; last = last === 0 ? lanes - 1 : last - 1) {
      if (lent[last] === shared) return false;
      if (room[last] > 0) break;
      if (own[last] === 0 || ++moved === lanes) return false;
    }
    for (let lane = before; lane !== last; ) {
      own[lane]--;
      lent[lane]++;
      lane = lane === 0 ? lanes - 1 : lane - 1;
    }
    lent[last]++;
    room[last]--;
    return true;
  }

  /** What lanes take, step after step, of columns that are counted from a window's first one: their own row's from the first step on, the next row's from the last on. */
  write({ items, codes }: Taken, first: number, column: Uint16Array, start: number): void {
    const { own, lent, begins, steps, lanes } = this;
    for (let lane = 0; lane < lanes; lane++) {
      for (let s = 0, item = begins[lane], at = first + lane; s < own[lane]; s++, item++, at += lanes) {
        items[at] = item;
        codes[at] = column[item] - start;
      }
      const next = lane + 1 === lanes ? 0 : lane + 1;
      for (let s = 0, item = begins[next] + own[next], at = first + (steps - 1) * lanes + lane; s < lent[lane]; s++, item++, at -= lanes) {
        items[at] = item;
        codes[at] = (column[item] - start) | OTHER;
      }
    }
  }
}
