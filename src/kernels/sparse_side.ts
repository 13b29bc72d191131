// What a sparse product knows of its dense side: tiles of columns, panels of the operand's rows, and what fills and stores them.
import { type Int, type KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";
import type { EpilogueCode } from "./epilogue.ts";

/** Sizes of a product: W (rows, depth) times n columns. */
export interface DenseShape {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  /** Rows of results that are stored together. */
  readonly block: number;
}

/** Some columns of the dense operand as rows next to each other in scratch, and sums below them. */
export interface PanelTile {
  readonly b: KernelBuilder;
  readonly target: SimdTarget;
  readonly shape: DenseShape;
  readonly scratch: number;
  /** Bytes from one row to the next. */
  readonly rowBytes: number;
  /** Blocks of the dense operand's rows. */
  readonly blockColumns: number;
  /** Where the sums of the block row begin. */
  readonly sums: Int;
  readonly column: Int;
  readonly width: number;
}

/** Rows [base + from, base + to) of the dense operand, which are rows [from, to) of scratch. */
export interface Panel {
  readonly base: Int;
  readonly from: Int;
  readonly to: Int;
  readonly number: Int;
  /** Behind the operand's last row, where that is in scratch. */
  readonly end: number;
  readonly isLast: (then: () => void) => void;
}

/** Whether the operand lies in tiles (sparse_tiles.ts), and whether the result does. Default: neither. */
export interface InTiles {
  readonly takesTiles?: boolean;
  readonly givesTiles?: boolean;
}

/** How the dense operand lies in memory and how the result does: what fills panels, and what stores a block of sums. */
export interface DenseSide<Buffers extends DenseBuffers = DenseBuffers> extends InTiles {
  /** Columns of the result as it lies in memory, for its epilogue. */
  columns(shape: DenseShape): number;
  /** Whether threads have columns of their own, of which their part of the operand is filled in once. */
  readonly sharesColumns: boolean;
  /** Rows of results that are stored at a time. */
  rowsAtOnce(target: SimdTarget): number;
  declare(b: KernelBuilder, shape: DenseShape): Buffers;
}
export interface DenseBuffers {
  /** All rows: row k of the operand is row k of scratch, but that one more row follows each block. */
  fill(tile: PanelTile): void;
  store(tile: PanelTile, blockRow: Int, epilogue: EpilogueCode): void;
}
export interface PanelBuffers extends DenseBuffers {
  /** An operand in tiles is no panel to fill: the buffer that it lies in. */
  readonly operand?: number;
  fillPanel(tile: PanelTile, panel: Panel): void;
  /** What each row of the result is added, where there is something. */
  readonly bias?: number;
}

/** The columns of the dense operand next to each other and aligned: rows a power of two apart would fall into few cache sets. */
export function copyPanel({ b, target, shape, scratch, rowBytes, column, width }: PanelTile, { base, from, to }: Panel, x: number): void {
  const { n } = shape;
  const step = target.lanes * 4;
  b.loop(from, to, 1, (k) => {
    const start = plus(times(base, n * 4), times(k, n * 4), times(column, 4));
    for (let v = 0; v * target.lanes < width; v++) {
      const part = b.load(x, plus(start, v * step), Math.min(target.lanes, width - v * target.lanes));
      b.store(part, scratch, plus(times(k, rowBytes), v * step));
    }
  });
}
