// Sparse times dense: the nonzeros of a block meet a panel of the dense operand in the first-level cache, sums wait in registers.
import { type Int, type IntVar, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { INT_RANGE } from "../ir/kernel_ops.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import { GROUP_HEIGHT, type Groups, MIDDLE, PITCH } from "./sparse_groups.ts";
import { shareOut } from "./work.ts";

/** What of the walk a kernel depends on: two matrices of equal sizes and numbers of nonzeros share it. */
export interface SparseProductShape {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  readonly block: number;
  /** Block rows of a strip. */
  readonly strip: number;
  /** Nonzeros, with what groups are filled up with. */
  readonly length: number;
  readonly groups: number;
}

export const sparseProductShape = (g: Groups, n: number): SparseProductShape => ({
  rows: g.rows,
  depth: g.depth,
  n,
  block: g.block,
  strip: g.strip,
  length: g.coordinate.length,
  groups: g.row.length / GROUP_HEIGHT,
});

/** Columns of the result worked off together, in vectors. */
export function sparseVectors(n: number, target: SimdTarget): number {
  const most = target.registers >= 32 ? 4 : 2;
  const all = Math.ceil(n / target.lanes);
  return Math.ceil(all / Math.ceil(all / most));
}

/** What a coordinate of 16 bits can name: panels reach as far, so that none leads out of them. */
const NAMED = 2 ** 16;

/** Some columns of the dense operand as rows next to each other in scratch, and the sums of a block below them. */
export interface PanelTile {
  readonly b: KernelBuilder;
  readonly target: SimdTarget;
  readonly shape: SparseProductShape;
  readonly scratch: number;
  /** Bytes from one row to the next. */
  readonly rowBytes: number;
  /** Row k of the dense operand is row k of the panel, but that a row of zeros follows each block. */
  readonly blockColumns: number;
  /** Where the sums of the block row begin. */
  readonly sums: Int;
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
  private readonly strips: number;
  /** Where the strip of results begins in scratch. */
  private readonly sums: number;

  constructor(
    name: string,
    private readonly shape: SparseProductShape,
    epilogue: Epilogue,
    private readonly target: SimdTarget,
    threads: number,
    private readonly side: DenseSide,
  ) {
    const { rows, depth, n, block, strip, length, groups } = shape;
    const b = new KernelBuilder(name, target, threads);
    this.b = b;
    this.blockRows = Math.ceil(rows / block);
    this.blockColumns = Math.ceil(depth / block);
    this.strips = Math.ceil(this.blockRows / strip);
    const words = (name: string, count: number): number => b.buffer(name, 4 * count, "read");
    this.buffers = {
      values: words("values", length),
      coordinates: b.buffer("coordinates", 2 * length, "read"),
      rows: b.buffer("rows", 2 * groups * GROUP_HEIGHT, "read"),
      bounds: words("bounds", 2 * groups + 1),
      starts: words("starts", this.strips * this.blockColumns + 1),
      shares: side.sharesColumns ? -1 : words("shares", threads + 1),
    };
    this.dense = side.declare(b, shape);
    this.epilogue = new EpilogueCode(b, epilogue, side.columns(shape));
    this.vectors = sparseVectors(n, target);
    this.sums = (this.blockColumns - 1) * (block + 1) * PITCH + NAMED + PITCH;
    const end = this.sums + NAMED + PITCH;
    const waiting = this.epilogue.scratchBytes({ rows: side.rowsAtOnce(target), vectors: 1 }, depth);
    this.scratch = b.buffer("scratch", end + waiting, "scratch");
    if (waiting > 0) this.epilogue.useScratch(this.scratch, end);
  }

  build(): Kernel {
    const { b, vectors, target, shape, buffers, strips, side } = this;
    const width = vectors * target.lanes;
    const whole = Math.floor(shape.n / width);
    const rest = shape.n - whole * width;
    if (side.sharesColumns)
      shareOut(b, [whole + (rest > 0 ? 1 : 0), strips], ([columns, rows]) => {
        b.loop(columns.from, b.min(columns.to, whole), 1, (tile) => this.tile(times(tile, width), width, rows.from, rows.to));
        if (rest > 0) b.when(whole, columns.to, () => this.tile(whole * width, rest, rows.from, rows.to));
      });
    else
      b.parallel(b.threads, (thread) => {
        const from = b.loadInt(buffers.shares, times(thread, 4), "i32", 0, strips);
        const to = b.loadInt(buffers.shares, plus(times(thread, 4), 4), "i32", 0, strips);
        b.loop(0, whole, 1, (tile) => this.tile(times(tile, width), width, from, to));
        if (rest > 0) this.tile(whole * width, rest, from, to);
      });
    return b.build();
  }

  /** Some strips for some columns. */
  private tile(column: Int, width: number, from: Int, to: Int): void {
    const { b, target, shape, scratch, blockRows, blockColumns, sums } = this;
    const vectors = Math.ceil(width / target.lanes);
    const tile: PanelTile = { b, target, shape, scratch, rowBytes: PITCH, blockColumns, sums, column, width };
    this.dense.fill(tile);
    this.clearFillers(vectors);
    b.loop(from, to, 1, (strip) => {
      this.panel(strip, 0, vectors, true);
      b.loop(1, blockColumns, 1, (blockColumn) => this.panel(strip, blockColumn, vectors, false));
      const first = times(strip, shape.strip);
      b.loop(0, b.min(shape.strip, plus(blockRows, times(first, -1))), 1, (i) => {
        this.dense.store({ ...tile, sums: plus(sums, times(i, shape.block * PITCH)) }, plus(first, i), this.epilogue);
      });
    });
  }

  /** What groups are filled up with. */
  private clearFillers(vectors: number): void {
    const { b, target, shape, scratch, blockColumns } = this;
    const zero = b.f32(0);
    b.loop(0, blockColumns, 1, (c) => {
      const at = plus(times(c, (shape.block + 1) * PITCH), shape.block * PITCH);
      for (let v = 0; v < vectors; v++) b.store(zero, scratch, plus(at, v * target.lanes * 4));
    });
  }

  /** The groups of a strip that meet one panel. */
  private panel(strip: Int, blockColumn: Int, vectors: number, isFirst: boolean): void {
    const { b, shape, buffers } = this;
    const { groups, length } = shape;
    const start = plus(times(strip, this.blockColumns * 4), times(blockColumn, 4));
    const low = b.set(times(blockColumn, (shape.block + 1) * PITCH));
    const panel = { low, high: b.set(plus(low, MIDDLE)) };
    const zero = isFirst ? b.f32(0) : null;
    const first = b.loadInt(buffers.starts, start, "i32", 0, groups);
    const last = b.loadInt(buffers.starts, plus(start, 4), "i32", 0, groups);
    b.loop(first, last, 1, (g) =>
      this.group(buffers.rows, g, vectors, zero, (totals) => {
        const bound = (n: number): IntVar => b.loadInt(buffers.bounds, plus(times(g, 8), 4 * n), "i32", 0, length / GROUP_HEIGHT);
        const [from, middle, to] = [bound(0), bound(1), bound(2)];
        b.loop(from, middle, 1, (i) => this.sharedTurn(i, panel, totals));
        b.loop(middle, to, 1, (i) => this.turn(i, panel, totals));
      }),
    );
  }

  /** Sums of the four rows that `names` has at i go on, or begin with `zero`. */
  private group(names: number, i: Int, vectors: number, zero: Vec | null, add: (totals: readonly (readonly Vec[])[]) => void): void {
    const { b, target, scratch, sums } = this;
    const places = range(GROUP_HEIGHT / 2).flatMap((w) => this.rowsAt(names, i, w, { low: sums, high: sums + MIDDLE }));
    const totals = places.map((at) =>
      range(vectors).map((v) => (zero ? b.op("mov", zero) : b.load(scratch, plus(at, v * target.lanes * 4)))),
    );
    add(totals);
    for (const [h, at] of places.entries())
      for (const [v, sum] of totals[h].entries()) b.store(sum, scratch, plus(at, v * target.lanes * 4));
  }

  /** Two nonzeros of each pair of rows, which meet one row of the panel: it is loaded once. */
  private sharedTurn(i: Int, panel: Panel, totals: readonly (readonly Vec[])[]): void {
    const { b, target, scratch } = this;
    for (const [p, row] of this.rowsAt(this.buffers.coordinates, i, 0, panel).entries()) {
      const pair = totals.slice(2 * p, 2 * p + 2);
      const values = pair.map((_, h) => this.value(i, 2 * p + h));
      for (const v of pair[0].keys()) {
        const x = b.load(scratch, plus(row, v * target.lanes * 4));
        for (const [h, value] of values.entries()) b.accumulate(pair[h][v], value, x);
      }
    }
  }

  /** One nonzero of each row. */
  private turn(i: Int, panel: Panel, totals: readonly (readonly Vec[])[]): void {
    const { b, target, scratch } = this;
    const rows = range(totals.length / 2).flatMap((w) => this.rowsAt(this.buffers.coordinates, i, w, panel));
    for (const [h, row] of rows.entries()) {
      const value = this.value(i, h);
      for (const [v, sum] of totals[h].entries()) b.accumulate(sum, value, b.load(scratch, plus(row, v * target.lanes * 4)));
    }
  }

  /** Two coordinates are loaded as one word and taken apart: a processor loads twice a cycle, but calculates four times. */
  private rowsAt(names: number, i: Int, w: number, { low, high }: Panel): readonly [Int, Int] {
    const { b } = this;
    const word = b.loadInt(names, plus(times(i, 2 * GROUP_HEIGHT), 4 * w), "i32", ...INT_RANGE.i32);
    return [plus(low, b.mod(word, NAMED)), plus(high, b.div(word, NAMED))];
  }
  private value(i: Int, h: number): Vec {
    const { b, buffers } = this;
    return b.splat(buffers.values, plus(times(i, 4 * GROUP_HEIGHT), 4 * h));
  }
}

/** Where rows begin in scratch, and that for names at odd places. */
interface Panel {
  readonly low: Int;
  readonly high: Int;
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
