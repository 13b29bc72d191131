// The symbols of one word → those that remain when all merges that apply were done, the earliest learned first.
import type { Merge } from "./train_bpe.ts";

/** Merges by their pair: which is done first, and what it makes. */
export class MergeTable {
  private readonly byPair = new Map<number, { readonly rank: number; readonly id: number }>();
  private static readonly SHIFT = 2 ** 24;

  constructor(merges: readonly Merge[]) {
    for (const [rank, { left, right, id }] of merges.entries()) this.byPair.set(left * MergeTable.SHIFT + right, { rank, id });
  }

  get(left: number, right: number): { readonly rank: number; readonly id: number } | undefined {
    return this.byPair.get(left * MergeTable.SHIFT + right);
  }
}

/** One multiplication below 2^53 orders candidates by rank, then place. */
const PLACES = 2 ** 28;

/** A heap of candidates, so that words without end (a megabyte of dashes) take n log n steps, not n². */
class Candidates {
  private readonly keys: number[] = [];

  push(rank: number, place: number): void {
    const { keys } = this;
    const key = rank * PLACES + place;
    let at = keys.push(key) - 1;
    for (let up = (at - 1) >> 1; at > 0 && keys[up] > key; up = (at - 1) >> 1) {
      keys[at] = keys[up];
      at = up;
    }
    keys[at] = key;
  }

  pop(): number | undefined {
    const { keys } = this;
    const top = keys[0];
    const last = keys.pop();
    if (keys.length === 0 || last === undefined) return top;
    let at = 0;
    for (let child = 1; child < keys.length; child = 2 * at + 1) {
      if (child + 1 < keys.length && keys[child + 1] < keys[child]) child++;
      if (keys[child] >= last) break;
      keys[at] = keys[child];
      at = child;
    }
    keys[at] = last;
    return top;
  }
}

/** Overwrites `symbols`; returns how many are left, in front. */
export function mergeWord(symbols: Int32Array, table: MergeTable): number {
  const n = symbols.length;
  const next = Int32Array.from({ length: n }, (_, i) => i + 1); // n: none
  const previous = Int32Array.from({ length: n }, (_, i) => i - 1); // -1: none
  const candidates = new Candidates();
  const consider = (place: number): void => {
    if (place < 0 || next[place] >= n) return;
    const merge = table.get(symbols[place], symbols[next[place]]);
    if (merge) candidates.push(merge.rank, place);
  };
  for (let place = 0; place + 1 < n; place++) consider(place);
  for (let key = candidates.pop(); key !== undefined; key = candidates.pop()) {
    const place = key % PLACES;
    const right = next[place];
    if (symbols[place] < 0 || right >= n) continue; // merged away, or the last now
    const merge = table.get(symbols[place], symbols[right]);
    if (!merge || merge.rank !== Math.floor(key / PLACES)) continue; // its neighbour changed
    symbols[place] = merge.id;
    symbols[right] = -1;
    next[place] = next[right];
    if (next[right] < n) previous[next[right]] = place;
    consider(previous[place]);
    consider(place);
  }
  let count = 0;
  for (let place = 0; place < n; place = next[place]) symbols[count++] = symbols[place];
  return count;
}
