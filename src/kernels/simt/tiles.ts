// Which tile of which product a workgroup computes, in an order in which neighbours in time share operands in the cache.
import { fn, group, type Reg, type SimtBuilder, type SimtTarget, sum } from "../../ir/simt.ts";

/** Products of (m, depth) by (depth, n), whose depth may be cut into `splits` parts that are summed later: part s of batch i is batch i·splits + s. */
export interface ProductSize {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly splits: number;
}

export interface TilePlace {
  /** Number of the product, of the part with it, and where the part's depth begins and ends. */
  readonly batch: Reg;
  readonly part: Reg;
  readonly from: Reg;
  readonly to: Reg;
  /** First row and column. */
  readonly row: Reg;
  readonly column: Reg;
}

/** Rows of tiles that are worked on together. */
const BAND = 8;

export interface Tiling {
  readonly grid: readonly [number, number, number];
  place(b: SimtBuilder): TilePlace;
}

/** Tiles of bm × bn; parts of the depth are multiples of bk. */
export function tiling({ batch, m, n, k, splits }: ProductSize, bm: number, bn: number, bk: number, target: SimtTarget): Tiling {
  const [rows, columns] = [Math.ceil(m / bm), Math.ceil(n / bn)];
  const perPart = rows * columns;
  const total = perPart * batch * splits;
  const y = Math.ceil(total / target.maxGroups);
  const grid = [Math.ceil(total / y), y, 1] as const;
  const partDepth = Math.ceil(Math.ceil(k / splits) / bk) * bk;
  return {
    grid,
    place(b) {
      // Groups beyond the last do its work once more: all threads have to go through all barriers.
      const id = y === 1 ? group(0) : b.let(fn("min", sum(fn("mul", group(1), grid[0]), group(0)), total - 1));
      const part = b.let(fn("div", id, perPart));
      const tile = b.let(fn("rem", id, perPart));
      const band = b.let(fn("mul", fn("div", tile, BAND * columns), BAND));
      const height = b.let(fn("min", fn("sub", sum(rows), band), BAND));
      const within = b.let(fn("rem", tile, BAND * columns));
      const from = splits === 1 ? sum(0) : b.let(fn("mul", fn("rem", part, splits), partDepth));
      return {
        part,
        batch: b.let(fn("div", part, splits)),
        from,
        to: splits === 1 ? sum(k) : b.let(fn("min", sum(from, partDepth), k)),
        row: b.let(fn("mul", sum(band, fn("rem", within, height)), bm)),
        column: b.let(fn("mul", fn("div", within, height), bn)),
      };
    },
  };
}
