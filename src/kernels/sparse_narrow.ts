// Compressed sparse blocks with values of two bytes or one times dense: they are widened as they are loaded, sums are float32.
import { HeddleError } from "../ir/error.ts";
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import type { MemoryType } from "../ir/kernel_ops.ts";
import type { Csb } from "../sparse/csb.ts";
import { sparseVectors } from "./sparse_columns.ts";

/** What a kernel knows of values; int8 has a scale for each row. */
export type NarrowType = "f32" | "f16" | "bf16" | "i8";
const BYTES: Readonly<Record<NarrowType, number>> = { f32: 4, f16: 2, bf16: 2, i8: 1 };

/** The rows of each block that have nonzeros. */
export interface RowVisits {
  /** First visit of each block, column of blocks by column of blocks, and the end. */
  readonly starts: Int32Array;
  /** Of each visit: its row, its first nonzero and the one after its last. */
  readonly visits: Int32Array;
}

/** Int32 numbers of a visit. */
const VISIT = 3;

/** Throws HeddleError ("unsupported"). */
export function rowVisitsOf(w: Csb): RowVisits {
  if (w.order !== "row" || w.block > NAMED)
    throw new HeddleError("unsupported", `narrow sparse product: CSB blocks of ${w.block} by ${w.order}, wanted at most ${NAMED} by row`);
  const starts: number[] = [];
  const visits: number[] = [];
  for (let c = 0; c < w.blockColumns; c++)
    for (let r = 0; r < w.blockRows; r++) {
      starts.push(visits.length / VISIT);
      const block = r * w.blockColumns + c;
      for (let i = w.pointers[block], end = i; i < w.pointers[block + 1]; i = end) {
        while (end < w.pointers[block + 1] && w.row[end] === w.row[i]) end++;
        visits.push(r * w.block + w.row[i], i, end);
      }
    }
  return { starts: Int32Array.from([...starts, visits.length / VISIT]), visits: Int32Array.from(visits) };
}

export interface SparseNarrowShape {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  readonly block: number;
  readonly nonzeros: number;
  readonly visits: number;
  readonly type: NarrowType;
}

/** Throws HeddleError ("unsupported"). */
export function sparseNarrowShape({ rows, columns, block, values, dtype }: Csb, { visits }: RowVisits, n: number): SparseNarrowShape {
  if (dtype === "f64") throw new HeddleError("unsupported", `narrow sparse product: values of ${dtype}`);
  return { rows, depth: columns, n, block, nonzeros: values.length, visits: visits.length / VISIT, type: dtype };
}

/** So many rows a byte can name: panels reach as far, so that no coordinate leads out of them. */
const NAMED = 256;
/** Nonzeros of a row whose sums run side by side. */
const SIDE_BY_SIDE = 2;

/** As vectors are loaded whole: so many elements follow the last nonzero, which do not count. */
export function paddedTo<T extends Csb["values"] | Csb["column"]>(array: T, { lanes }: SimdTarget): T {
  const out = new (array.constructor as new (length: number) => T)(array.length + lanes); // of the same type
  out.set(array);
  return out;
}

/** Buffers: starts and visits, columns, values (both padded), scales of rows (int8 only), rows of blocks of each thread, dense operand (depth, n), output (rows, n). */
export function sparseNarrowKernel(name: string, shape: SparseNarrowShape, target: SimdTarget, threads: number): Kernel {
  return new SparseNarrow(name, shape, target, threads).build();
}

class SparseNarrow {
  private readonly b: KernelBuilder;
  private readonly buffers: Readonly<Record<"starts" | "visits" | "columns" | "values" | "scales" | "shares" | "x" | "y", number>>;
  private readonly scratch: number;
  private readonly blockRows: number;
  private readonly blockColumns: number;
  /** Columns of the result worked off together, and bytes from one row of the panel to the next. */
  private readonly width: number;
  private readonly pitch: number;

  constructor(
    name: string,
    private readonly shape: SparseNarrowShape,
    private readonly target: SimdTarget,
    threads: number,
  ) {
    const { rows, depth, n, block, nonzeros, visits, type } = shape;
    const b = new KernelBuilder(name, target, threads);
    this.b = b;
    this.blockRows = Math.ceil(rows / block);
    this.blockColumns = Math.ceil(depth / block);
    const entries = nonzeros + target.lanes;
    this.buffers = {
      starts: b.buffer("starts", 4 * (this.blockRows * this.blockColumns + 1), "read"),
      visits: b.buffer("visits", 4 * VISIT * visits, "read"),
      columns: b.buffer("columns", entries, "read"),
      values: b.buffer("values", BYTES[type] * entries, "read"),
      scales: type === "i8" ? b.buffer("scales", 4 * rows, "read") : -1,
      shares: b.buffer("shares", 4 * (threads + 1), "read"),
      x: b.buffer("x", 4 * depth * n, "read"),
      y: b.buffer("y", 4 * rows * n, "readwrite"),
    };
    this.width = n === 1 ? 1 : sparseVectors(n, target) * target.lanes;
    this.pitch = this.width * 4;
    this.scratch = b.buffer("scratch", NAMED * this.pitch, "scratch");
  }

  build(): Kernel {
    const { b, buffers, shape, width, blockRows, blockColumns } = this;
    b.parallel(b.threads, (thread) => {
      const from = b.loadInt(buffers.shares, times(thread, 4), "i32", 0, blockRows);
      const to = b.loadInt(buffers.shares, plus(times(thread, 4), 4), "i32", 0, blockRows);
      const tile = (column: Int, count: number): void => {
        this.clear(from, to, column, count);
        b.loop(0, blockColumns, 1, (c) => {
          this.copy(c, column, count);
          b.loop(from, to, 1, (r) => this.block(r, c, column, count));
        });
      };
      b.loop(0, Math.floor(shape.n / width), 1, (t) => tile(times(t, width), width));
      if (shape.n % width > 0) tile(shape.n - (shape.n % width), shape.n % width);
    });
    return b.build();
  }

  /** Runs `part` for the vectors of a row: where they begin, and how many lanes they have. */
  private vectors(count: number, part: (v: number, lanes: number) => void): void {
    const { lanes } = this.target;
    for (let v = 0; v * lanes < count; v++) part(v, Math.min(lanes, count - v * lanes));
  }
  private place(row: Int, column: Int, v: number): Int {
    return plus(times(row, this.shape.n * 4), times(column, 4), v * this.target.lanes * 4);
  }

  private clear(from: Int, to: Int, column: Int, count: number): void {
    const { b, shape, buffers } = this;
    const zero = b.f32(0);
    b.loop(times(from, shape.block), b.min(times(to, shape.block), shape.rows), 1, (row) =>
      this.vectors(count, (v, lanes) => b.store(zero, buffers.y, this.place(row, column, v), lanes)),
    );
  }

  /** The panel of a column of blocks. */
  private copy(c: Int, column: Int, count: number): void {
    const { b, shape, buffers, pitch, scratch, target } = this;
    const first = times(c, shape.block);
    b.loop(first, b.min(plus(first, shape.block), shape.depth), 1, (k) => {
      const to = times(b.mod(k, shape.block), pitch);
      this.vectors(count, (v, lanes) =>
        b.store(
          b.load(buffers.x, this.place(k, column, v), lanes),
          scratch,
          plus(to, v * target.lanes * 4),
          this.width === 1 ? 1 : target.lanes,
        ),
      );
    });
  }

  private block(r: Int, c: Int, column: Int, count: number): void {
    const { b, shape, buffers, blockRows } = this;
    const at = plus(times(c, blockRows * 4), times(r, 4));
    const first = b.loadInt(buffers.starts, at, "i32", 0, shape.visits);
    const last = b.loadInt(buffers.starts, plus(at, 4), "i32", 0, shape.visits);
    b.loop(first, last, 1, (visit) => {
      const fact = (i: number, most: number): Int => b.loadInt(buffers.visits, plus(times(visit, VISIT * 4), 4 * i), "i32", 0, most);
      const row = fact(0, shape.rows - 1);
      const [from, to] = [fact(1, shape.nonzeros), fact(2, shape.nonzeros)];
      const sums = shape.n === 1 ? [this.gathered(from, to)] : this.sumsOf(from, to, count);
      const scale = shape.type === "i8" ? b.splat(buffers.scales, times(row, 4)) : null;
      this.vectors(count, (v, lanes) => {
        const before = b.load(buffers.y, this.place(row, column, v), lanes);
        const sum = scale ? b.op("fma", scale, sums[v], before) : b.op("add", sums[v], before);
        b.store(sum, buffers.y, this.place(row, column, v), lanes);
      });
    });
  }

  private widen(value: Vec): Vec {
    return this.shape.type === "i8" ? this.b.op("i2f", value) : value;
  }
  private get memory(): MemoryType {
    return this.shape.type;
  }

  /** Σ value · row of the panel. */
  private sumsOf(from: Int, to: Int, count: number): Vec[] {
    const { b, shape, buffers, pitch, scratch, target } = this;
    const { lanes } = target;
    const zero = b.f32(0);
    const chains = Array.from({ length: target.registers >= 32 ? SIDE_BY_SIDE : 1 }, () =>
      Array.from({ length: Math.ceil(count / lanes) }, () => b.op("mov", zero)),
    );
    const add = (i: Int, sums: readonly Vec[]): void => {
      const row = b.loadInt(buffers.columns, i, "u8", 0, NAMED - 1);
      const value = this.widen(b.splat(buffers.values, times(i, BYTES[shape.type]), this.memory));
      for (const [v, sum] of sums.entries()) b.accumulate(sum, value, b.load(scratch, plus(times(row, pitch), v * lanes * 4)));
    };
    const pairs = b.div(b.max(b.set(plus(to, times(from, -1))), 0), chains.length);
    const whole = b.min(plus(from, times(pairs, chains.length)), shape.nonzeros);
    b.loop(from, plus(whole, 1 - chains.length), chains.length, (i) => {
      for (const [u, sums] of chains.entries()) add(plus(i, u), sums);
    });
    if (chains.length > 1) b.loop(whole, to, 1, (i) => add(i, chains[0]));
    return chains[0].map((sum, v) => (chains.length > 1 ? b.op("add", sum, chains[1][v]) : sum));
  }

  /** For a single column: as many nonzeros at a time as a vector has lanes, of the last ones those that are the row's. */
  private gathered(from: Int, to: Int): Vec {
    const { b, shape, buffers, scratch } = this;
    const { lanes } = this.target;
    const sum = b.op("mov", b.f32(0));
    b.loop(from, to, lanes, (i) => {
      const mask = b.op("ilt", b.iota(i), b.iota(to, 0));
      const values = this.widen(b.load(buffers.values, times(i, BYTES[shape.type]), lanes, this.memory));
      const x = b.gather(scratch, 0, b.load(buffers.columns, i, lanes, "u8"), NAMED);
      b.accumulate(sum, b.op("and", mask, x), b.op("and", mask, values));
    });
    return b.op("sumlanes", sum);
  }
}
