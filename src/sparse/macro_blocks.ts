// What bitmap and nibble CSB share: blocks of 64×64 in groups of 16×16, with the number of nonzeros before each, so that any tile is found at once.
import { HeddleError } from "../ir/error.ts";
import { type Coo, reorderCoo } from "./coo.ts";
import { stableOrder, startsOf } from "./order.ts";

export const MACRO = 64;
export const GROUP = 16;
/** Groups of a block, row by row. */
export const GROUPS = (MACRO / GROUP) ** 2;
const MAX_BLOCKS = 2 ** 24; // 8 GiB of bitmaps

export interface MacroBlocks {
  readonly blockRows: number;
  readonly blockColumns: number;
  /** Where each block's nonzeros start, blocks row by row, and the end. */
  readonly pointers: Uint32Array;
  /** (blocks, 16): nonzeros of the block before each of its groups. */
  readonly prefix: Uint16Array;
}

/** The group of a place inside a block. */
export const groupOf = (row: number, column: number): number => (((row & 63) >> 4) << 2) | ((column & 63) >> 4);

/** Nonzeros by block, then by `key` (below 4096, its upper four bits the group), and where they start. Throws HeddleError ("limit"). */
export function intoMacroBlocks(
  m: Coo,
  key: (row: number, column: number) => number,
): { readonly blocks: MacroBlocks; readonly sorted: Coo } {
  const [blockRows, blockColumns] = [Math.ceil(m.rows / MACRO), Math.ceil(m.columns / MACRO)];
  const count = blockRows * blockColumns;
  if (count > MAX_BLOCKS)
    throw new HeddleError("limit", `CSB: (${m.rows}, ${m.columns}) has ${count} blocks of ${MACRO}×${MACRO}, too many`);
  const within = m.row.map((r, i) => key(r, m.column[i]));
  const blockOf = m.row.map((r, i) => (r >>> 6) * blockColumns + (m.column[i] >>> 6));
  const sorted = reorderCoo(m, stableOrder(blockOf, count, stableOrder(within, MACRO * MACRO)));
  const pointers = startsOf(blockOf, count);
  const groups = startsOf(
    blockOf.map((b, i) => b * GROUPS + (within[i] >> 8)),
    count * GROUPS,
  );
  const prefix = new Uint16Array(count * GROUPS).map((_, g) => groups[g] - pointers[Math.floor(g / GROUPS)]);
  return { blocks: { blockRows, blockColumns, pointers, prefix }, sorted };
}
