// Bitmap CSB: 64×64 blocks as 8×8 bitmaps with prefix counts and values; two bytes a nonzero and 0.134 an element with 16-bit values.
import type { Coo } from "./coo.ts";
import { GROUPS, groupOf, intoMacroBlocks, MACRO, type MacroBlocks } from "./macro_blocks.ts";
import type { Values, ValueType } from "./values.ts";
import type { Visit } from "./visit.ts";

export interface Bitmap extends MacroBlocks {
  readonly kind: "bitmap";
  readonly rows: number;
  readonly columns: number;
  /** (blocks, 16 groups, 4 tiles of 8×8 row by row, 2): bit 8·row + column of a tile's 64, the lower word first. No bit lies outside the matrix. */
  readonly bits: Uint32Array;
  readonly dtype: ValueType;
  /** In the order of the bits. */
  readonly values: Values;
}

/** Words of bitmaps in a block. */
export const BLOCK_WORDS = (MACRO * MACRO) / 32;

/** Which of a block's 4096 bits stands for a place. */
export const bitOf = (row: number, column: number): number =>
  (groupOf(row, column) << 8) | (((row >> 3) & 1) << 7) | (((column >> 3) & 1) << 6) | ((row & 7) << 3) | (column & 7);

/** The place inside a block that a bit stands for. */
export const rowOfBit = (bit: number): number => ((bit >> 10) << 4) | (((bit >> 7) & 1) << 3) | ((bit >> 3) & 7);
export const columnOfBit = (bit: number): number => (((bit >> 8) & 3) << 4) | (((bit >> 6) & 1) << 3) | (bit & 7);

/** Throws HeddleError ("limit"). */
export function bitmapFromCoo(m: Coo): Bitmap {
  const { blocks, sorted } = intoMacroBlocks(m, bitOf);
  const bits = new Uint32Array((blocks.pointers.length - 1) * BLOCK_WORDS);
  for (let i = 0; i < sorted.row.length; i++) {
    const bit = bitOf(sorted.row[i], sorted.column[i]);
    const block = (sorted.row[i] >>> 6) * blocks.blockColumns + (sorted.column[i] >>> 6);
    bits[block * BLOCK_WORDS + (bit >> 5)] |= 1 << (bit & 31);
  }
  return { kind: "bitmap", rows: m.rows, columns: m.columns, ...blocks, bits, dtype: m.dtype, values: sorted.values };
}

/** All nonzeros in their order. */
export function visitBitmap({ blockRows, blockColumns, bits }: Bitmap, visit: Visit): void {
  let slot = 0;
  for (let blockRow = 0, w = 0; blockRow < blockRows; blockRow++)
    for (let blockColumn = 0; blockColumn < blockColumns; blockColumn++)
      for (let word = 0; word < BLOCK_WORDS; word++, w++)
        for (let rest = bits[w]; rest !== 0; rest &= rest - 1) {
          const bit = word * 32 + 31 - Math.clz32(rest & -rest);
          visit(blockRow * MACRO + rowOfBit(bit), blockColumn * MACRO + columnOfBit(bit), slot++);
        }
}

/** Bits that are one. */
export function popcount(word: number): number {
  const pairs = word - ((word >>> 1) & 0x55555555);
  const nibbles = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return (((nibbles + (nibbles >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

/** The counts that belong to bitmaps. */
export function countBits(bits: Uint32Array): Pick<MacroBlocks, "pointers" | "prefix"> {
  const blocks = bits.length / BLOCK_WORDS;
  const pointers = new Uint32Array(blocks + 1);
  const prefix = new Uint16Array(blocks * GROUPS);
  for (let w = 0, count = 0; w < bits.length; w++) {
    const block = Math.floor(w / BLOCK_WORDS);
    if (w % (BLOCK_WORDS / GROUPS) === 0) prefix[w / (BLOCK_WORDS / GROUPS)] = count - pointers[block];
    count += popcount(bits[w]);
    if ((w + 1) % BLOCK_WORDS === 0) pointers[block + 1] = count;
  }
  return { pointers, prefix };
}
