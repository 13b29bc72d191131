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

/** What lanes take, slice after slice. */
export class Taken {
  /** Of each step's lanes which of the rows' nonzeros, EMPTY, or an extra one. */
  private items = new Int32Array(0);
  /** Of each window the unit of columns that it begins at. */
  private starts = new Uint16Array(0);
  /** Bundles so far. */
  private bundles = 0;

  constructor(
    private readonly lanes: number,
    private readonly bundle: number,
    private readonly windows: number,
  ) {}

  /** Begins a window of the slice that is marched through, which has so many steps with it. Returns where those of the slice lie. */
  window(window: number, unit: number, steps: number): { readonly items: Int32Array; readonly first: number } {
    const { lanes, bundle, bundles, windows } = this;
    this.reserve(bundles + Math.ceil(steps / bundle));
    this.starts[bundles * windows + window] = unit;
    return { items: this.items, first: bundles * bundle * lanes };
  }

  /** Ends a slice: what is left of its last bundle stays empty. Returns how many bundles there are. */
  end(steps: number): number {
    this.bundles += Math.ceil(steps / this.bundle);
    return this.bundles;
  }

  all(): { readonly items: Int32Array; readonly starts: Uint16Array } {
    const { items, starts, bundles, lanes, bundle, windows } = this;
    return { items: items.subarray(0, bundles * bundle * lanes), starts: starts.subarray(0, bundles * windows) };
  }

  private reserve(bundles: number): void {
    const { items, starts, lanes, bundle, windows } = this;
    if (bundles * windows <= starts.length) return;
    const room = Math.ceil(1.5 * bundles) + 64;
    this.items = new Int32Array(room * bundle * lanes).fill(EMPTY, items.length);
    this.items.set(items);
    this.starts = new Uint16Array(room * windows);
    this.starts.set(starts);
  }
}

/** Beyond all columns. */
const END = 2 ** 30;

/** Each window starts at the first column that any row still wants, at a whole unit; each lane then takes what lies in it, the first columns first. */
export function marchOf(rows: Rows, slice: Int32Array, lanes: number): March {
  const { column, item, first } = lanesOf(rows, slice, lanes);
  return ({ unit, length }, taken) => {
    const next = first.slice();
    let head = next.reduce((least, at) => Math.min(least, column[at]), END);
    for (let window = 0, from = 0; ; window++) {
      if (head === END) return from;
      const start = Math.floor(head / unit);
      const beyond = (start + 2) * unit;
      const to = Math.round((window + 1) * length);
      const kept = taken?.window(window, start, to);
      head = END;
      for (let lane = 0; lane < lanes; lane++) {
        const begin = next[lane];
        const most = begin + to - from;
        let end = begin;
        while (end < most && column[end] < beyond) end++;
        if (column[end] < head) head = column[end];
        next[lane] = end;
        if (!kept) continue;
        let slot = kept.first + from * lanes + lane;
        for (let at = begin; at < end; at++, slot += lanes) kept.items[slot] = item[at];
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
  const first = new Int32Array(lanes);
  const { length: height } = slice;
  let to = 0;
  for (let lane = 0; lane < lanes; lane++) {
    first[lane] = to;
    let [i, end] = [beginOf(lane), endOf(lane)];
    let [j, other] = height > lanes ? [beginOf(lane + lanes), endOf(lane + lanes)] : [0, 0];
    while (i < end || j < other) {
      const isOther = i === end || (j < other && comesFirst(columns[j], columns[i], lane, height));
      const at = isOther ? j++ : i++;
      column[to] = columns[at];
      item[to++] = at;
    }
    column[to++] = END;
  }
  return { column, item, first };
}

/** Whether a lane's second row comes before its first: where they have the same column, each column begins with another row. */
const comesFirst = (second: number, first: number, lane: number, height: number): boolean =>
  second < first || (second === first && second % height > lane && second % height <= lane + height / 2);
