// A matrix to its transpose, square tiles at a time.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";
import { transposeTile } from "./transpose_tile.ts";

/** Buffers: x (rows, columns), output (columns, rows). */
export function turnKernel(name: string, rows: number, columns: number, target: SimdTarget, threads: number): Kernel {
  const { lanes } = target;
  const b = new KernelBuilder(name, target, threads);
  const x = b.buffer("x", 4 * rows * columns, "read");
  const output = b.buffer("output", 4 * rows * columns, "write");
  const tile = (row: Int, column: Int, height: number, width: number): void => {
    const zero = height < lanes ? b.f32(0) : null;
    const from = plus(times(row, 4 * columns), times(column, 4));
    const lines = Array.from({ length: lanes }, (_, i) => (zero && i >= height ? zero : b.load(x, plus(from, 4 * i * columns), width)));
    const to = plus(times(column, 4 * rows), times(row, 4));
    for (const [i, line] of transposeTile(b, lines).slice(0, width).entries()) b.store(line, output, plus(to, 4 * i * rows), height);
  };
  const strip = (column: Int, width: number): void => {
    const whole = Math.floor(rows / lanes);
    b.loop(0, whole, 1, (part) => tile(times(part, lanes), column, lanes, width));
    if (whole * lanes < rows) tile(whole * lanes, column, rows - whole * lanes, width);
  };
  const whole = Math.floor(columns / lanes);
  b.parallel(whole, (part) => strip(times(part, lanes), lanes));
  if (whole * lanes < columns) b.parallel(1, () => strip(whole * lanes, columns - whole * lanes));
  return b.build();
}
