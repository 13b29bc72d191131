// Shares the nonzeros of a matrix out over threads: binary search on pointers, or on the merge path of rows and nonzeros.
import type { Csb } from "./csb.ts";

/** The first index in 0 … count at which `isReached` holds, `count` where it never does. It must not fall back. */
function firstIndex(count: number, isReached: (i: number) => boolean): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isReached(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Cuts units (rows, or blocks: `stride` pointers each) into `parts` runs of about equal numbers of nonzeros: part p has units cuts[p] … cuts[p + 1] - 1.
 * `pointers` is the prefix sum of nonzeros; with stride = blockColumns the units of a CSB matrix are its rows of blocks.
 */
export function cutByNonzeros(pointers: Uint32Array, parts: number, stride = 1): Uint32Array {
  const units = Math.floor((pointers.length - 1) / Math.max(stride, 1));
  const total = pointers[units * stride];
  const cuts = new Uint32Array(parts + 1);
  for (let p = 1; p < parts; p++) {
    const wanted = (total * p) / parts;
    const after = firstIndex(units, (unit) => pointers[unit * stride] >= wanted);
    const isBeforeNearer = after > 0 && wanted - pointers[(after - 1) * stride] < pointers[after * stride] - wanted;
    cuts[p] = Math.max(cuts[p - 1], isBeforeNearer ? after - 1 : after);
  }
  cuts[parts] = units;
  return cuts;
}

/** Prefix sum of the nonzeros in the columns of blocks: what Wᵀ·G is shared out by. */
export function blockColumnPointers({ blockRows, blockColumns, pointers }: Csb): Uint32Array {
  const out = new Uint32Array(blockColumns + 1);
  for (let c = 0; c < blockColumns; c++) {
    out[c + 1] = out[c];
    for (let r = 0, b = c; r < blockRows; r++, b += blockColumns) out[c + 1] += pointers[b + 1] - pointers[b];
  }
  return out;
}

/** Where a part of a CSR matrix begins: after `row` whole rows and `nonzero` nonzeros. */
export interface MergePoint {
  readonly row: number;
  readonly nonzero: number;
}

/** Cuts rows plus nonzeros into equal parts (Merrill & Garland 2016): part p goes from point p to point p + 1, so that empty and long rows cost what they weigh. */
export function mergePath(pointers: Uint32Array, parts: number): MergePoint[] {
  const rows = pointers.length - 1;
  const nonzeros = pointers[rows];
  return Array.from({ length: parts + 1 }, (_, p) => {
    const diagonal = Math.floor(((rows + nonzeros) * p) / parts);
    const lowest = Math.max(0, diagonal - nonzeros);
    const row = lowest + firstIndex(Math.min(diagonal, rows) - lowest, (i) => pointers[lowest + i + 1] + lowest + i + 1 > diagonal);
    return { row, nonzero: diagonal - row };
  });
}
