// A dense matrix of float32 to compressed sparse blocks, block by block: without a list of coordinates, which takes longer to make, and to sort, than the blocks.
import type { Csb } from "./csb.ts";

export interface DenseLayout {
  readonly rows: number;
  readonly columns: number;
  readonly block: number;
  /** What is given is the matrix's transpose, (columns, rows). */
  readonly isTurned?: boolean;
  /** Which elements exist: those that are not 0 here. Default: those that are not 0 or -0 themselves. */
  readonly mask?: ArrayLike<number>;
}

/** Blocks have 8-bit coordinates: up to 256. */
export function csbFromFloats(data: Float32Array, layout: DenseLayout): Csb {
  const { rows, columns, block, isTurned, mask } = layout;
  const [blockRows, blockColumns] = [Math.ceil(rows / block), Math.ceil(columns / block)];
  const bits = bitsOf(data);
  const count = mask ? countOf(mask) : countNonzeros(data);
  const pointers = new Uint32Array(blockRows * blockColumns + 1);
  const [row, column, values] = [new Uint8Array(count), new Uint8Array(count), new Float32Array(count)];
  const to: Nonzeros = { row, column, bits: bitsOf(values) };
  const tile = isTurned || mask ? new Tile(bits, layout) : null;
  for (let top = 0, b = 0; top < rows; top += block)
    for (let left = 0; left < columns; left += block, b++) {
      const [height, width] = [Math.min(block, rows - top), Math.min(block, columns - left)];
      tile?.fill(top, left, height, width);
      let k = pointers[b];
      for (let r = 0; r < height && k < count; r++)
        k = tile
          ? keepRow(to, k, r, tile.bits, tile.kept, r * block, width)
          : keepRow(to, k, r, bits, bits, (top + r) * columns + left, width);
      pointers[b + 1] = k;
    }
  return { kind: "csb", rows, columns, block, blockRows, blockColumns, order: "row", pointers, row, column, dtype: "f32", values };
}

/** By bits: which come is not foreseen, and a wrong guess takes longer. */
export function countNonzeros(data: Float32Array): number {
  const bits = bitsOf(data);
  let count = 0;
  for (let i = 0; i < bits.length; i++) count += exists(bits[i]);
  return count;
}

function countOf(mask: ArrayLike<number>): number {
  let count = 0;
  for (let i = 0; i < mask.length; i++) if (mask[i] !== 0) count++;
  return count;
}

const bitsOf = ({ buffer, byteOffset, length }: Float32Array): Int32Array => new Int32Array(buffer, byteOffset, length);
/** 1, or 0 for bits of 0 and -0. */
const exists = (bits: number): number => -(bits & 0x7fffffff) >>> 31;

interface Nonzeros {
  readonly row: Uint8Array;
  readonly column: Uint8Array;
  readonly bits: Int32Array;
}

/** Of a row of a block what exists, from place k on. Returns where the next row's begin. What does not exist is written, too, and then over. */
function keepRow(
  { row, column, bits }: Nonzeros,
  k: number,
  r: number,
  from: Int32Array,
  kept: Int32Array,
  at: number,
  width: number,
): number {
  const end = bits.length;
  let to = k;
  for (let c = 0; c < width && to < end; c++) {
    row[to] = r;
    column[to] = c;
    bits[to] = from[at + c];
    to += exists(kept[at + c]);
  }
  return to;
}

/** A block, row by row, of a matrix that is turned or masked. */
class Tile {
  readonly bits: Int32Array;
  readonly kept: Int32Array;

  constructor(
    private readonly all: Int32Array,
    private readonly layout: DenseLayout,
  ) {
    this.bits = new Int32Array(layout.block ** 2);
    this.kept = layout.mask ? new Int32Array(layout.block ** 2) : this.bits;
  }

  fill(top: number, left: number, height: number, width: number): void {
    const { all, bits, kept } = this;
    const { rows, columns, block, isTurned, mask } = this.layout;
    if (isTurned)
      for (let c = 0; c < width; c++) {
        copy(all, (left + c) * rows + top, bits, c, block, height);
        if (mask) mark(mask, (left + c) * rows + top, kept, c, block, height);
      }
    else
      for (let r = 0; r < height; r++) {
        copy(all, (top + r) * columns + left, bits, r * block, 1, width);
        if (mask) mark(mask, (top + r) * columns + left, kept, r * block, 1, width);
      }
  }
}

function copy(from: Int32Array, at: number, to: Int32Array, first: number, step: number, count: number): void {
  for (let i = 0, j = first; i < count; i++, j += step) to[j] = from[at + i];
}

function mark(mask: ArrayLike<number>, at: number, to: Int32Array, first: number, step: number, count: number): void {
  for (let i = 0, j = first; i < count; i++, j += step) to[j] = mask[at + i] !== 0 ? 1 : 0;
}
