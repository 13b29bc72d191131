// Compressed sparse blocks (Buluç et al., SPAA 2009): square blocks, inside them nonzeros with short local coordinates, so that one copy serves W·X and Wᵀ·G.
import { HeddleError } from "../ir/error.ts";
import { type Coo, sortCoo } from "./coo.ts";
import { stableOrder } from "./order.ts";
import { newValues, type Values, type ValueType } from "./values.ts";
import type { Visit } from "./visit.ts";

/** How nonzeros lie inside a block: by (row, column), by (column, row), or along a Z-curve as Buluç's recursion does. */
export type CsbOrder = "row" | "column" | "z";

/** Locals of blocks up to 256 are bytes, beyond that 16 bits. */
export type Locals = Uint8Array | Uint16Array;

export interface Csb {
  readonly kind: "csb";
  readonly rows: number;
  readonly columns: number;
  /** Rows and columns of a block: a power of two from 8 to 65536, usually 64, 128 or 256. */
  readonly block: number;
  /** ⌈rows / block⌉ and ⌈columns / block⌉. */
  readonly blockRows: number;
  readonly blockColumns: number;
  readonly order: CsbOrder;
  /** Where each block's nonzeros start, blocks row by row, and the end: also the prefix sum by which work is shared out. */
  readonly pointers: Uint32Array;
  /** Inside the block, of each nonzero. */
  readonly row: Locals;
  readonly column: Locals;
  readonly dtype: ValueType;
  readonly values: Values;
}

export interface CsbOptions {
  readonly block?: number;
  readonly order?: CsbOrder;
}

/** 8-bit coordinates reach this far, and 128 rows of 64 float32 columns (32 KiB) still share a first-level cache with another panel. */
const DEFAULT_BLOCK = 128;
/** Pointers beyond that (4 GiB) mean a block size far too small for the matrix. */
const MAX_BLOCKS = 2 ** 30;

export const isCsbBlock = (block: number): boolean => block >= 8 && block <= 65536 && Number.isInteger(Math.log2(block));

/** Throws HeddleError ("bad-argument", "limit"). */
export function csbFromCoo(m: Coo, { block = DEFAULT_BLOCK, order = "row" }: CsbOptions = {}): Csb {
  if (!isCsbBlock(block)) throw new HeddleError("bad-argument", `CSB: block ${block}, wanted a power of two from 8 to 65536`);
  const { rows, columns, dtype } = m;
  const [blockRows, blockColumns] = [Math.ceil(rows / block), Math.ceil(columns / block)];
  const blocks = blockRows * blockColumns;
  if (blocks > MAX_BLOCKS)
    throw new HeddleError("limit", `CSB: ${blocks} blocks of ${block}×${block} for (${rows}, ${columns}); take larger ones`);
  const sorted = sortCoo(m, order === "column" ? "column" : "row");
  const within = order === "z" ? zOrder(sorted, block) : null;
  const size = { count: m.values.length, bits: Math.log2(block), blockColumns };
  const pointers = startsOfBlocks(sorted, size, blocks);
  const next = pointers.slice();
  const Local = block <= 256 ? Uint8Array : Uint16Array;
  const [row, column] = [new Local(size.count), new Local(size.count)];
  const values = newValues(dtype, size.count);
  // Stable: inside a block the order stays.
  for (let j = 0; j < size.count; j++) {
    const i = within ? within[j] : j;
    const [r, c] = [sorted.row[i], sorted.column[i]];
    const to = next[(r >>> size.bits) * blockColumns + (c >>> size.bits)]++;
    row[to] = r & (block - 1);
    column[to] = c & (block - 1);
    values[to] = sorted.values[i];
  }
  return { kind: "csb", rows, columns, block, blockRows, blockColumns, order, pointers, row, column, dtype, values };
}

function startsOfBlocks(
  { row, column }: Coo,
  { count, bits, blockColumns }: { readonly count: number; readonly bits: number; readonly blockColumns: number },
  blocks: number,
): Uint32Array {
  const pointers = new Uint32Array(blocks + 1);
  for (let i = 0; i < count; i++) pointers[(row[i] >>> bits) * blockColumns + (column[i] >>> bits) + 1]++;
  for (let b = 0; b < blocks; b++) pointers[b + 1] += pointers[b];
  return pointers;
}

function zOrder({ row, column }: Coo, block: number): Uint32Array {
  const key = row.map((r, i) => zKey(r & (block - 1), column[i] & (block - 1)));
  return stableOrder(key, block * block);
}

/** Position on the Z-curve: bits of row and column in turn, the row's above. Both below 65536. */
export const zKey = (row: number, column: number): number => ((spread(row) << 1) | spread(column)) >>> 0;

/** Puts a zero before each of 16 bits. */
function spread(bits: number): number {
  let x = (bits | (bits << 8)) & 0x00ff00ff;
  x = (x | (x << 4)) & 0x0f0f0f0f;
  x = (x | (x << 2)) & 0x33333333;
  return (x | (x << 1)) & 0x55555555;
}

/** All nonzeros in their order. */
export function visitCsb({ block, blockRows, blockColumns, pointers, row, column }: Csb, visit: Visit): void {
  for (let blockRow = 0, b = 0; blockRow < blockRows; blockRow++)
    for (let blockColumn = 0; blockColumn < blockColumns; blockColumn++, b++)
      for (let i = pointers[b]; i < pointers[b + 1]; i++) visit(blockRow * block + row[i], blockColumn * block + column[i], i);
}
