// Sparse times dense: the nonzeros of a block meet a panel of the dense operand in the first-level cache, sums wait in registers.
import { INT_RANGE, type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import type { Groups } from "./sparse_groups.ts";
import { shareOut } from "./work.ts";

/** What of the walk a kernel depends on: two matrices of equal sizes and numbers of nonzeros share it. */
export interface SparseProductShape {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  readonly block: number;
  /** Nonzeros, with what groups are filled up with. */
  readonly length: number;
  readonly groups: number;
  /** Rows of a group. */
  readonly height: number;
}

export const sparseProductShape = (g: Groups, n: number): SparseProductShape => ({
  rows: g.rows,
  depth: g.depth,
  n,
  block: g.block,
  length: g.coordinate.length,
  groups: g.row.length / g.height,
  height: g.height,
});

/** Columns of the result worked off together, in vectors. */
export function sparseVectors(n: number, target: SimdTarget): number {
  const most = target.registers >= 32 ? 4 : 2;
  const all = Math.ceil(n / target.lanes);
  return Math.ceil(all / Math.ceil(all / most));
}

/** Rows of a group: with four vectors each, sixteen sums run side by side. */
export const GROUP_HEIGHT = 4;

/** Rows that a byte can name: panels have as many, so that no coordinate leads out of them. */
const NAMED = 256;
/** Coordinates in a word of 32 bits. */
const WORD = 4;

/** Some columns of the dense operand as rows next to each other in scratch, and the sums of a block below them. */
export interface PanelTile {
  readonly b: KernelBuilder;
  readonly target: SimdTarget;
  readonly shape: SparseProductShape;
  readonly scratch: number;
  /** Bytes of a row, of vectors that may be longer than the columns are. */
  readonly rowBytes: number;
  /** Row k of the dense operand is row k of the panel, but that a row of zeros follows each block. */
  readonly blockColumns: number;
  /** Where the sums begin. */
  readonly sums: number;
  readonly column: Int;
  readonly width: number;
}

/** How the dense operand lies in memory and how the result does: what fills panels, and what stores a block of sums. */
export interface DenseSide {
  /** Columns of the result as it lies in memory, for its epilogue. */
  columns(shape: SparseProductShape): number;
  /** Whether threads have columns of their own, of which their part of the operand is filled in once. */
  readonly sharesColumns: boolean;
  /** Rows of results that are stored at a time. */
  rowsAtOnce(target: SimdTarget): number;
  declare(b: KernelBuilder, shape: SparseProductShape): DenseBuffers;
}
export interface DenseBuffers {
  fill(tile: PanelTile): void;
  store(tile: PanelTile, blockRow: Int, epilogue: EpilogueCode): void;
}

/** Operand (depth, n), result (rows, n). */
const featuresFirst: DenseSide = {
  columns: ({ n }) => n,
  sharesColumns: false,
  rowsAtOnce: () => 1,
  declare(b, { depth, n }) {
    const x = b.buffer("x", 4 * depth * n, "read");
    return {
      fill: (tile) => copyPanel(tile, x),
      store({ b, target, shape, scratch, rowBytes, sums: from, column, width }, blockRow, epilogue) {
        const vectors = Math.ceil(width / target.lanes);
        const row = times(blockRow, shape.block);
        b.loop(row, b.min(plus(row, shape.block), shape.rows), 1, (r) => {
          const at = plus(from, times(b.mod(r, shape.block), rowBytes));
          const sums = Array.from({ length: vectors }, (_, v) => b.load(scratch, plus(at, v * target.lanes * 4)));
          const lanesOf = (v: number): number => Math.min(target.lanes, width - v * target.lanes);
          epilogue.storeTile([sums], { row: r, rowStep: 1, column: (v) => plus(column, v * target.lanes), lanesOf });
        });
      },
    };
  },
};

/** The columns of the dense operand next to each other and aligned: rows a power of two apart would fall into few cache sets. */
function copyPanel({ b, target, shape, scratch, rowBytes, blockColumns, column, width }: PanelTile, x: number): void {
  const { block, depth, n } = shape;
  const step = target.lanes * 4;
  b.loop(0, blockColumns, 1, (c) => {
    const panel = times(c, (block + 1) * rowBytes);
    const first = times(c, block);
    b.loop(first, b.min(plus(first, block), depth), 1, (k) => {
      const to = plus(panel, times(b.mod(k, block), rowBytes));
      const from = plus(times(k, n * 4), times(column, 4));
      for (let v = 0; v * target.lanes < width; v++) {
        const part = b.load(x, plus(from, v * step), Math.min(target.lanes, width - v * target.lanes));
        b.store(part, scratch, plus(to, v * step));
      }
    });
  });
}

/**
 * Buffers: values and coordinates in the order of groups, rows, bounds and starts of groups, shares (not where threads share columns), those of the dense side,
 * the epilogue's inputs, output.
 */
export function sparseProductKernel(
  name: string,
  shape: SparseProductShape,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
  side: DenseSide = featuresFirst,
): Kernel {
  return new SparseProduct(name, shape, epilogue, target, threads, side).build();
}

class SparseProduct {
  private readonly b: KernelBuilder;
  private readonly buffers: Readonly<Record<"values" | "coordinates" | "rows" | "bounds" | "starts" | "shares", number>>;
  private readonly dense: DenseBuffers;
  private readonly epilogue: EpilogueCode;
  /** In vectors. */
  private readonly vectors: number;
  private readonly scratch: number;
  private readonly blockRows: number;
  private readonly blockColumns: number;
  /** Bytes of a row in scratch. */
  private readonly rowBytes: number;
  /** Where the block of results begins in scratch. */
  private readonly sums: number;

  constructor(
    name: string,
    private readonly shape: SparseProductShape,
    epilogue: Epilogue,
    private readonly target: SimdTarget,
    threads: number,
    private readonly side: DenseSide,
  ) {
    const { rows, depth, n, block, length, groups, height } = shape;
    const b = new KernelBuilder(name, target, threads);
    this.b = b;
    this.blockRows = Math.ceil(rows / block);
    this.blockColumns = Math.ceil(depth / block);
    const words = (name: string, count: number): number => b.buffer(name, 4 * count, "read");
    this.buffers = {
      values: words("values", length),
      coordinates: b.buffer("coordinates", length, "read"),
      rows: b.buffer("rows", groups * height, "read"),
      bounds: words("bounds", groups + 1),
      starts: words("starts", this.blockRows * this.blockColumns + 1),
      shares: side.sharesColumns ? -1 : words("shares", threads + 1),
    };
    this.dense = side.declare(b, shape);
    this.epilogue = new EpilogueCode(b, epilogue, side.columns(shape));
    this.vectors = sparseVectors(n, target);
    this.rowBytes = this.vectors * target.lanes * 4;
    this.sums = ((this.blockColumns - 1) * (block + 1) + NAMED) * this.rowBytes;
    const end = this.sums + NAMED * this.rowBytes;
    const waiting = this.epilogue.scratchBytes({ rows: side.rowsAtOnce(target), vectors: 1 }, depth);
    this.scratch = b.buffer("scratch", end + waiting, "scratch");
    if (waiting > 0) this.epilogue.useScratch(this.scratch, end);
  }

  build(): Kernel {
    const { b, vectors, target, shape, buffers, blockRows, side } = this;
    const width = vectors * target.lanes;
    const whole = Math.floor(shape.n / width);
    const rest = shape.n - whole * width;
    if (side.sharesColumns)
      shareOut(b, [whole + (rest > 0 ? 1 : 0), blockRows], ([columns, rows]) => {
        b.loop(columns.from, b.min(columns.to, whole), 1, (tile) => this.tile(times(tile, width), width, rows.from, rows.to));
        if (rest > 0) b.when(whole, columns.to, () => this.tile(whole * width, rest, rows.from, rows.to));
      });
    else
      b.parallel(b.threads, (thread) => {
        const from = b.loadInt(buffers.shares, times(thread, 4), "i32", 0, blockRows);
        const to = b.loadInt(buffers.shares, plus(times(thread, 4), 4), "i32", 0, blockRows);
        b.loop(0, whole, 1, (tile) => this.tile(times(tile, width), width, from, to));
        if (rest > 0) this.tile(whole * width, rest, from, to);
      });
    return b.build();
  }

  /** Some block rows for some columns. */
  private tile(column: Int, width: number, from: Int, to: Int): void {
    const { b, target, shape, scratch, rowBytes, blockColumns, sums } = this;
    const vectors = Math.ceil(width / target.lanes);
    const tile: PanelTile = { b, target, shape, scratch, rowBytes, blockColumns, sums, column, width };
    this.dense.fill(tile);
    this.clearFillers(vectors);
    b.loop(from, to, 1, (blockRow) => {
      this.clear(vectors);
      b.loop(0, blockColumns, 1, (blockColumn) => this.block(blockRow, blockColumn, vectors));
      this.dense.store(tile, blockRow, this.epilogue);
    });
  }

  /** What groups are filled up with. */
  private clearFillers(vectors: number): void {
    const { b, target, shape, scratch, rowBytes, blockColumns } = this;
    const zero = b.f32(0);
    b.loop(0, blockColumns, 1, (c) => {
      const at = plus(times(c, (shape.block + 1) * rowBytes), shape.block * rowBytes);
      for (let v = 0; v < vectors; v++) b.store(zero, scratch, plus(at, v * target.lanes * 4));
    });
  }

  private clear(vectors: number): void {
    const { b, target, shape, scratch, rowBytes, sums } = this;
    const zero = b.f32(0);
    b.loop(0, shape.block, 1, (r) => {
      for (let v = 0; v < vectors; v++) b.store(zero, scratch, plus(sums, times(r, rowBytes), v * target.lanes * 4));
    });
  }

  /** The groups of one block, whose panel and results are in the caches. */
  private block(blockRow: Int, blockColumn: Int, vectors: number): void {
    const { b, shape, buffers } = this;
    const start = plus(times(blockRow, this.blockColumns * 4), times(blockColumn, 4));
    const first = b.loadInt(buffers.starts, start, "i32", 0, shape.groups);
    const last = b.loadInt(buffers.starts, plus(start, 4), "i32", 0, shape.groups);
    const panel = b.set(times(blockColumn, (shape.block + 1) * this.rowBytes));
    b.loop(first, last, 1, (g) => this.group(g, panel, vectors));
  }

  /** Its rows take turns. */
  private group(g: Int, panel: Int, vectors: number): void {
    const { b, target, shape, scratch, buffers } = this;
    const { length, height } = shape;
    const places = range(height).map((h) => {
      const row = b.loadInt(buffers.rows, plus(times(g, height), h), "u8", 0, NAMED - 1);
      return b.set(plus(this.sums, times(row, this.rowBytes)));
    });
    const totals = places.map((at) => range(vectors).map((v) => b.load(scratch, plus(at, v * target.lanes * 4))));
    const from = b.loadInt(buffers.bounds, times(g, 4), "i32", 0, length);
    const to = b.loadInt(buffers.bounds, plus(times(g, 4), 4), "i32", 0, length);
    b.loop(from, plus(to, 1 - height), height, (i) => this.turn(i, panel, totals));
    for (const [h, at] of places.entries())
      for (const [v, sum] of totals[h].entries()) b.store(sum, scratch, plus(at, v * target.lanes * 4));
  }

  /** One nonzero of each row. Four coordinates are loaded as one word and taken apart: a processor loads twice a cycle, but calculates four times. */
  private turn(i: Int, panel: Int, totals: readonly (readonly Vec[])[]): void {
    const { b, buffers } = this;
    const together = totals.length % WORD === 0;
    let word: Int = 0;
    for (const [h, sums] of totals.entries()) {
      if (!together) word = b.loadInt(buffers.coordinates, plus(i, h), "u8", 0, NAMED - 1);
      else word = h % WORD === 0 ? b.loadInt(buffers.coordinates, plus(i, h), "i32", ...INT_RANGE.i32) : b.div(word, NAMED);
      this.nonzero(plus(i, h), together ? b.mod(word, NAMED) : word, panel, sums);
    }
  }

  /** sums += value · row of the panel. */
  private nonzero(i: Int, coordinate: Int, panel: Int, sums: readonly Vec[]): void {
    const { b, target, scratch, buffers } = this;
    const value = b.splat(buffers.values, times(i, 4));
    const row = plus(panel, times(coordinate, this.rowBytes));
    for (const [v, sum] of sums.entries()) b.accumulate(sum, value, b.load(scratch, plus(row, v * target.lanes * 4)));
  }
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
