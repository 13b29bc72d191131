// Nonzeros of a slice of rows to steps: in each, every lane takes one of its rows' from a window of columns that a few registers hold.
import type { Rows } from "./sparse_slices.ts";

/** How windows are: the unit of columns that they begin at multiples of and have two of, and steps of each, rounded so that sums are whole. */
export interface Windows {
  readonly unit: number;
  readonly length: number;
}

/** Takes all of a slice, which `taken` keeps from its end on, where there is one. Returns how many steps. */
export type March = (windows: Windows, taken: Taken | null) => number;

/** A lane that takes nothing in a step. */
export const EMPTY = -1;
/** What a lane takes although another one of the step has the same column modulo lanes, so that the step's columns do not fit into the lanes of one register; of such a number again what it was. */
export const asExtra = (item: number): number => EMPTY - 1 - item;

/** In a code: the second of a lane's rows. */
export const SECOND = 0x80;

/** What lanes take, slice after slice, and step after step each. */
export class Taken {
  /** Which of the rows' nonzeros, EMPTY, or an extra one. */
  items: Int32Array;
  /** Its column in the window, and whether it is SECOND. */
  codes: Uint8Array;
  /** Of each window the unit of columns that it begins at. */
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
  window(window: number, unit: number, steps: number): number {
    const { lanes, bundle, bundles, windows } = this;
    const needed = bundles + Math.ceil(steps / bundle);
    if (needed * windows > this.starts.length) this.grow(Math.ceil(1.5 * needed));
    this.starts[bundles * windows + window] = unit;
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

/** Beyond all columns. */
const END = 2 ** 30;

/** Each window starts at the first column that any row still wants, at a whole unit; each lane then takes what lies in it, the first columns first. */
export function marchOf(rows: Rows, slice: Int32Array, lanes: number): March {
  const { column, item, second, first } = lanesOf(rows, slice, lanes);
  return ({ unit, length }, taken) => {
    const next = first.slice();
    let head = next.reduce((least, at) => Math.min(least, column[at]), END);
    for (let window = 0, from = 0; ; window++) {
      if (head === END) return from;
      const start = Math.floor(head / unit);
      const beyond = (start + 2) * unit;
      const to = Math.round((window + 1) * length);
      const base = taken ? taken.window(window, start, to) : 0;
      head = END;
      for (let lane = 0; lane < lanes; lane++) {
        const begin = next[lane];
        const most = begin + to - from;
        let end = begin;
        while (end < most && column[end] < beyond) end++;
        if (column[end] < head) head = column[end];
        next[lane] = end;
        if (!taken) continue;
        const { items, codes } = taken;
        for (let at = begin, slot = base + from * lanes + lane; at < end; at++, slot += lanes) {
          items[slot] = item[at];
          codes[slot] = (column[at] - start * unit) | second[at];
        }
      }
      from = to;
    }
  };
}

/** Nonzeros of a slice, lane after lane, by columns. */
interface Lanes {
  /** END after each lane's. */
  readonly column: Int32Array;
  /** Among the matrix's. */
  readonly item: Int32Array;
  /** SECOND, or 0. */
  readonly second: Uint8Array;
  /** Where each lane's begin. */
  readonly first: Int32Array;
}

function lanesOf({ starts, column: columns }: Rows, slice: Int32Array, lanes: number): Lanes {
  const last = starts.length - 1;
  const beginOf = (r: number): number => starts[Math.min(slice[r], last)];
  const endOf = (r: number): number => starts[Math.min(slice[r] + 1, last)];
  const count = slice.reduce((sum, _, r) => sum + endOf(r) - beginOf(r), 0);
  const column = new Int32Array(count + lanes);
  const item = new Int32Array(count + lanes);
  const second = new Uint8Array(count + lanes);
  const first = new Int32Array(lanes);
  const { length: height } = slice;
  let to = 0;
  for (let lane = 0; lane < lanes; lane++) {
    first[lane] = to;
    let [i, end] = [beginOf(lane), endOf(lane)];
    let [j, other] = height > lanes ? [beginOf(lane + lanes), endOf(lane + lanes)] : [0, 0];
    while (i < end && j < other) {
      const isOther = comesFirst(columns[j], columns[i], lane, height);
      const at = isOther ? j++ : i++;
      column[to] = columns[at];
      second[to] = isOther ? SECOND : 0;
      item[to++] = at;
    }
    for (; i < end; i++, to++) [column[to], item[to]] = [columns[i], i];
    for (; j < other; j++, to++) [column[to], item[to], second[to]] = [columns[j], j, SECOND];
    column[to++] = END;
  }
  return { column, item, second, first };
}

/** Whether a lane's second row comes before its first: where they have the same column, each column begins with another row. */
const comesFirst = (second: number, first: number, lane: number, height: number): boolean =>
  second < first || (second === first && second % height > lane && second % height <= lane + height / 2);
