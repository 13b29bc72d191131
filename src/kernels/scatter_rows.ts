// Adds rows up at places that are read from memory: each thread has columns of its own, so that no two write the same element.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";

export interface ScatterRowsShape {
  /** Rows to add, elements of a row, and places for rows. */
  readonly count: number;
  readonly width: number;
  readonly size: number;
  readonly indexType: "i32" | "i64";
}

/** Vectors of a row that are added after one look at its place. */
const TOGETHER = 4;

/** Buffers: indices, rows, output. */
export function scatterRowsKernel(name: string, shape: ScatterRowsShape, target: SimdTarget, threads: number): Kernel {
  const { count, width, size, indexType } = shape;
  const b = new KernelBuilder(name, target, threads);
  const indexBytes = indexType === "i32" ? 4 : 8;
  const indices = b.buffer("indices", count * indexBytes, "read");
  const rows = b.buffer("rows", count * width * 4, "read");
  const output = b.buffer("output", size * width * 4, "readwrite");

  /** The columns from `column` on, `lanes` in each vector. */
  const columns = (column: Int, vectors: number, lanes: number): void => {
    const place = (row: Int, v: number): Int => plus(times(row, width * 4), times(column, 4), v * b.lanes * 4);
    const zero = b.f32(0);
    b.loop(0, size, 1, (row) => {
      for (let v = 0; v < vectors; v++) b.store(zero, output, place(row, v), lanes);
    });
    b.loop(0, count, 1, (i) => {
      const row = b.loadInt(indices, times(i, indexBytes), indexType, 0, size - 1, size);
      for (let v = 0; v < vectors; v++)
        b.store(b.op("add", b.load(output, place(row, v), lanes), b.load(rows, place(i, v), lanes)), output, place(row, v), lanes);
    });
  };

  // Wide parts unless that leaves threads without one.
  const vectors = Math.floor(width / b.lanes);
  const together = Math.min(TOGETHER, Math.max(1, Math.floor(vectors / threads)));
  const whole = Math.floor(vectors / together);
  if (whole > 0) b.parallel(whole, (part) => columns(times(part, together * b.lanes), together, b.lanes));
  const rest = vectors - whole * together;
  if (rest > 0) b.parallel(rest, (part) => columns(plus(times(part, b.lanes), whole * together * b.lanes), 1, b.lanes));
  const lanes = width - vectors * b.lanes;
  if (lanes > 0) b.parallel(1, () => columns(vectors * b.lanes, 1, lanes));
  return b.build();
}
