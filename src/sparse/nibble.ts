// Nibble CSB: 64×64 blocks in groups of 16×16, one byte of coordinates a nonzero; smaller than bitmaps when less than one in eight is nonzero.
import type { Coo } from "./coo.ts";
import { GROUP, GROUPS, groupOf, intoMacroBlocks, MACRO, type MacroBlocks } from "./macro_blocks.ts";
import type { Values, ValueType } from "./values.ts";
import type { Visit } from "./visit.ts";

export interface Nibble extends MacroBlocks {
  readonly kind: "nibble";
  readonly rows: number;
  readonly columns: number;
  /** Of each nonzero: row of its group in the upper four bits, column in the lower; ascending inside a group. */
  readonly local: Uint8Array;
  readonly dtype: ValueType;
  readonly values: Values;
}

const keyOf = (row: number, column: number): number => (groupOf(row, column) << 8) | ((row & 15) << 4) | (column & 15);

/** Throws HeddleError ("limit"). */
export function nibbleFromCoo(m: Coo): Nibble {
  const { blocks, sorted } = intoMacroBlocks(m, keyOf);
  const local = new Uint8Array(sorted.row.map((r, i) => ((r & 15) << 4) | (sorted.column[i] & 15)));
  return { kind: "nibble", rows: m.rows, columns: m.columns, ...blocks, local, dtype: m.dtype, values: sorted.values };
}

/** Where group `g` of block `b` ends. */
export const groupEnd = ({ pointers, prefix }: MacroBlocks, b: number, g: number): number =>
  g + 1 < GROUPS ? pointers[b] + prefix[b * GROUPS + g + 1] : pointers[b + 1];

/** All nonzeros in their order. */
export function visitNibble(m: Nibble, visit: Visit): void {
  const across = MACRO / GROUP;
  let slot = 0;
  for (let b = 0; b < m.pointers.length - 1; b++)
    for (let g = 0; g < GROUPS; g++) {
      const firstRow = Math.floor(b / m.blockColumns) * MACRO + Math.floor(g / across) * GROUP;
      const firstColumn = (b % m.blockColumns) * MACRO + (g % across) * GROUP;
      for (; slot < groupEnd(m, b, g); slot++) visit(firstRow + (m.local[slot] >> 4), firstColumn + (m.local[slot] & 15), slot);
    }
}
