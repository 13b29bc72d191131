// Block-sparse rows (Gray et al. 2017): square blocks that hold any nonzero are stored whole, zeros included.
import { HeddleError } from "../ir/error.ts";
import type { Coo } from "./coo.ts";
import { startsOf } from "./order.ts";
import { newValues, type Values, type ValueType } from "./values.ts";
import type { Visit } from "./visit.ts";

export type BsrBlock = 8 | 16 | 32;
export const BSR_BLOCKS: readonly number[] = [8, 16, 32] satisfies BsrBlock[];

export interface Bsr {
  readonly kind: "bsr";
  readonly rows: number;
  readonly columns: number;
  readonly block: BsrBlock;
  readonly blockRows: number;
  readonly blockColumns: number;
  /** Where each row of blocks starts, and the end. */
  readonly pointers: Uint32Array;
  /** In which column of blocks each stored block lies; ascending inside a row of blocks. */
  readonly blockColumn: Uint32Array;
  readonly dtype: ValueType;
  /** (stored blocks, block, block); zero outside the matrix. */
  readonly values: Values;
}

/** Throws HeddleError ("bad-argument"). */
export function bsrFromCoo({ rows, columns, dtype, row, column, values }: Coo, block: BsrBlock): Bsr {
  if (!BSR_BLOCKS.includes(block)) throw new HeddleError("bad-argument", `BSR: block ${block}, wanted ${BSR_BLOCKS.join(", ")}`);
  const [blockRows, blockColumns] = [Math.ceil(rows / block), Math.ceil(columns / block)];
  const blockOf = (i: number) => Math.floor(row[i] / block) * blockColumns + Math.floor(column[i] / block);
  const present = new Uint8Array(blockRows * blockColumns);
  for (let i = 0; i < values.length; i++) present[blockOf(i)] = 1;
  const stored = new Uint32Array(blockRows * blockColumns);
  let count = 0;
  for (let b = 0; b < present.length; b++) if (present[b]) stored[b] = count++;
  const ids = new Uint32Array(count);
  for (let b = 0; b < present.length; b++) if (present[b]) ids[stored[b]] = b;
  const out = newValues(dtype, count * block * block);
  for (let i = 0; i < values.length; i++) out[(stored[blockOf(i)] * block + (row[i] % block)) * block + (column[i] % block)] = values[i];
  const pointers = startsOf(
    ids.map((b) => Math.floor(b / blockColumns)),
    blockRows,
  );
  return {
    kind: "bsr",
    rows,
    columns,
    block,
    blockRows,
    blockColumns,
    pointers,
    blockColumn: ids.map((b) => b % blockColumns),
    dtype,
    values: out,
  };
}

/** All stored elements inside the matrix, block by block. */
export function visitBsr(m: Bsr, visit: Visit): void {
  for (let blockRow = 0; blockRow < m.blockRows; blockRow++)
    for (let b = m.pointers[blockRow]; b < m.pointers[blockRow + 1]; b++) visitBlock(m, blockRow * m.block, b, visit);
}

function visitBlock({ rows, columns, block, blockColumn }: Bsr, firstRow: number, b: number, visit: Visit): void {
  const firstColumn = blockColumn[b] * block;
  const [height, width] = [Math.min(block, rows - firstRow), Math.min(block, columns - firstColumn)];
  for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) visit(firstRow + r, firstColumn + c, (b * block + r) * block + c);
}
