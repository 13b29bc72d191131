// Some of a row's nonzeros in compressed sparse rows times the dense operand where it lies: what row-split and merge-path kernels consist of.
import { type Int, type KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import type { Csr } from "../sparse/csr.ts";

export interface CsrShape {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  readonly nonzeros: number;
}

export const csrShape = ({ rows, columns, values }: Csr, n: number): CsrShape => ({ rows, depth: columns, n, nonzeros: values.length });

/** Columns of the result. */
export interface Tile {
  readonly column: Int;
  readonly width: number;
}

/** As vectors of columns and of values are loaded whole: so many elements follow the last, which do not count. */
export const paddedColumns = ({ column }: Csr, { lanes }: SimdTarget): Uint32Array =>
  padded(column, new Uint32Array(column.length + lanes));
export const paddedValues = (values: Float32Array, { lanes }: SimdTarget): Float32Array =>
  padded(values, new Float32Array(values.length + lanes));
function padded<T extends Uint32Array | Float32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}

/** Vectors of columns worked off together. */
const VECTORS = 4;

/** Code for nonzeros. Declares three buffers: columns and values, both padded, and the dense operand (depth, n). */
export class SegmentCode {
  private readonly columns: number;
  private readonly values: number;
  private readonly x: number;

  constructor(
    private readonly b: KernelBuilder,
    private readonly shape: CsrShape,
  ) {
    const { nonzeros, depth, n } = shape;
    const entries = 4 * (nonzeros + b.lanes);
    this.columns = b.buffer("columns", entries, "read");
    this.values = b.buffer("values", entries, "read");
    this.x = b.buffer("x", 4 * depth * n, "read");
  }

  /** Runs `body` for tiles of columns that are all of the result together. */
  overTiles(body: (tile: Tile) => void): void {
    const { b, shape } = this;
    const { n } = shape;
    const width = Math.min(n, (b.target.registers >= 32 ? VECTORS : VECTORS / 2) * b.lanes);
    b.loop(0, Math.floor(n / width), 1, (t) => body({ column: times(t, width), width }));
    if (n % width > 0) body({ column: n - (n % width), width: n % width });
  }

  /** Sums of nothing, for several rows: one vector after another. For a single column, lanes are to be added up. */
  start({ width }: Tile): Vec[] {
    const { b } = this;
    const zero = b.f32(0);
    return Array.from({ length: Math.ceil(width / b.lanes) }, () => b.op("mov", zero));
  }

  /** One nonzero. */
  addOne(sums: readonly Vec[], i: Int, { column, width }: Tile): void {
    const { b, shape } = this;
    const k = b.loadInt(this.columns, times(i, 4), "i32", 0, shape.depth - 1);
    const value = b.splat(this.values, times(i, 4));
    for (const [v, sum] of sums.entries()) {
      const at = plus(times(k, shape.n * 4), times(column, 4), v * b.lanes * 4);
      b.accumulate(sum, value, b.load(this.x, at, Math.min(b.lanes, width - v * b.lanes)));
    }
  }

  /** Nonzeros [from, to). */
  addRun(sums: readonly Vec[], from: Int, to: Int, tile: Tile): void {
    const { b, shape } = this;
    if (shape.n > 1) {
      b.loop(from, to, 1, (i) => this.addOne(sums, i, tile));
      return;
    }
    const length = b.max(b.set(plus(to, times(from, -1))), 0);
    const whole = b.min(plus(from, times(b.div(length, b.lanes), b.lanes)), shape.nonzeros);
    b.loop(from, whole, b.lanes, (i) => this.addGathered(sums[0], b.min(i, shape.nonzeros), null));
    b.when(whole, to, () => this.addGathered(sums[0], whole, b.op("ilt", b.iota(whole), b.iota(to, 0))));
  }

  /** As many nonzeros as a vector has lanes, or those of `mask`. */
  private addGathered(sum: Vec, i: Int, mask: Vec | null): void {
    const { b, shape } = this;
    const gathered = b.gather(this.x, 0, b.load(this.columns, times(i, 4), b.lanes, "i32"), shape.depth);
    const values = b.load(this.values, times(i, 4));
    // Other rows' values may be infinite, and so what they meet.
    if (mask) b.accumulate(sum, b.op("and", mask, gathered), b.op("and", mask, values));
    else b.accumulate(sum, gathered, values);
  }

  /** Sums into (rows, n) of a buffer. */
  store(sums: readonly Vec[], buffer: number, row: Int, { column, width }: Tile): void {
    const { b, shape } = this;
    for (const [v, sum] of sums.entries()) {
      const at = plus(times(row, shape.n * 4), times(column, 4), v * b.lanes * 4);
      if (shape.n === 1) b.store(b.op("sumlanes", sum), buffer, at, 1);
      else b.store(sum, buffer, at, Math.min(b.lanes, width - v * b.lanes));
    }
  }
}
