// Of some rows of a sparse matrix what meets a panel of the dense operand, in arrays that stay in a core's caches: no copy of the whole matrix by rows is made.
import type { Csb } from "../sparse/csb.ts";

/** Rows [top, end), columns [from, to). */
export interface Span {
  readonly top: number;
  readonly end: number;
  readonly from: number;
  readonly to: number;
}

/** Rows of the result that meet a panel, counted from the first of them; transposed they are the matrix's columns. */
export class MetRows {
  /** Where each row's nonzeros begin, and the end. */
  readonly first: Int32Array;
  /** Row by row, by column: columns counted from a panel's base, and places in the matrix. */
  column = new Uint16Array(0);
  place = new Int32Array(0);
  private readonly next: Int32Array;

  constructor(
    private readonly w: Csb,
    private readonly isForward: boolean,
    /** Rows that meet a panel, at most. */
    height: number,
  ) {
    this.first = new Int32Array(height + 1);
    this.next = new Int32Array(height);
  }

  /** Blocks come row by row, so that nonzeros of a row come by column, and those of a column by row, however they lie inside of blocks by one coordinate. */
  meet(span: Span, base: number): void {
    const { first, next } = this;
    first.fill(0);
    this.visit(span, (from, to, rowBase, columnBase, low, high) => this.count(from, to, rowBase, low - columnBase, high - columnBase));
    for (let r = 0; r + 1 < first.length; r++) first[r + 1] += first[r];
    next.set(first.subarray(0, next.length));
    this.reserve(first[next.length]);
    this.visit(span, (from, to, rowBase, columnBase, low, high) => this.put(from, to, rowBase, columnBase - base, low - base, high - base));
  }

  private visit(
    { top, end, from, to }: Span,
    part: (from: number, to: number, rowBase: number, columnBase: number, low: number, high: number) => void,
  ): void {
    const { block, blockColumns, pointers } = this.w;
    for (let row = top; row < end; row += block)
      for (let column = from - (from % block); column < to; column += block) {
        const [r, c] = this.isForward ? [row / block, column / block] : [column / block, row / block];
        const b = r * blockColumns + c;
        part(pointers[b], pointers[b + 1], row - top, column, from, to);
      }
  }

  /** Of nonzeros [from, to), which are a block's, those whose columns are in [low, high). */
  private count(from: number, to: number, rowBase: number, low: number, high: number): void {
    const { w, first, isForward } = this;
    const [rows, columns] = isForward ? [w.row, w.column] : [w.column, w.row];
    const isWhole = low <= 0 && high >= w.block;
    for (let i = from; i < to; i++) if (isWhole || (columns[i] >= low && columns[i] < high)) first[rowBase + rows[i] + 1]++;
  }

  private put(from: number, to: number, rowBase: number, columnBase: number, low: number, high: number): void {
    const { w, next, column, place, isForward } = this;
    const [rows, columns] = isForward ? [w.row, w.column] : [w.column, w.row];
    for (let i = from; i < to; i++) {
      const c = columnBase + columns[i];
      if (c < low || c >= high) continue;
      const at = next[rowBase + rows[i]]++;
      column[at] = c;
      place[at] = i;
    }
  }

  private reserve(count: number): void {
    if (count <= this.place.length) return;
    this.column = new Uint16Array(2 * count);
    this.place = new Int32Array(2 * count);
  }
}
