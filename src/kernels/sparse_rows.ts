// Sparse times dense from rows of nonzeros with 32-bit columns (CSR), the dense operand read where it lies: the plain kernel that blocks are measured against.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";

export interface SparseRowsShape {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  readonly nonzeros: number;
}

/** Columns of the result worked off together, in vectors. */
const VECTORS = 4;

/** Buffers: pointers (rows + 1), columns, values, rows that each thread works on, dense operand (depth, n), output (rows, n). */
export function sparseRowsKernel(name: string, shape: SparseRowsShape, target: SimdTarget, threads: number): Kernel {
  const { rows, depth, n, nonzeros } = shape;
  const { lanes } = target;
  const b = new KernelBuilder(name, target, threads);
  const pointers = b.buffer("pointers", 4 * (rows + 1), "read");
  const columns = b.buffer("columns", 4 * nonzeros, "read");
  const values = b.buffer("values", 4 * nonzeros, "read");
  const shares = b.buffer("shares", 4 * (threads + 1), "read");
  const x = b.buffer("x", 4 * depth * n, "read");
  const y = b.buffer("y", 4 * rows * n, "write");
  const width = Math.min(VECTORS * lanes, n);
  const part = (from: Int, to: Int, first: Int, count: number): void => {
    const vectors = Array.from({ length: Math.ceil(count / lanes) }, (_, v) => v);
    const lanesOf = (v: number): number => Math.min(lanes, count - v * lanes);
    const place = (row: Int, v: number): Int => plus(times(row, n * 4), times(first, 4), v * lanes * 4);
    b.loop(from, to, 1, (row) => {
      const sums = vectors.map(() => b.op("mov", b.f32(0)));
      const start = b.loadInt(pointers, times(row, 4), "i32", 0, nonzeros);
      const end = b.loadInt(pointers, plus(times(row, 4), 4), "i32", 0, nonzeros);
      b.loop(start, end, 1, (i) => {
        const column = b.loadInt(columns, times(i, 4), "i32", 0, depth - 1);
        const value = b.splat(values, times(i, 4));
        for (const v of vectors) b.accumulate(sums[v], value, b.load(x, place(column, v), lanesOf(v)));
      });
      for (const v of vectors) b.store(sums[v], y, place(row, v), lanesOf(v));
    });
  };
  b.parallel(threads, (thread) => {
    const from = b.loadInt(shares, times(thread, 4), "i32", 0, rows);
    const to = b.loadInt(shares, plus(times(thread, 4), 4), "i32", 0, rows);
    b.loop(0, Math.floor(n / width), 1, (tile) => part(from, to, times(tile, width), width));
    if (n % width > 0) part(from, to, n - (n % width), n % width);
  });
  return b.build();
}
