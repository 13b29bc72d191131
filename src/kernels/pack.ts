// Puts the right operand of a matrix product that is only known at run time into the order that the product's kernel reads.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { MEMORY_BYTES } from "../ir/kernel_ops.ts";
import { type GemmFormat, type GemmSchedule, type GemmShape, packedElements } from "./gemm.ts";
import { shareOut } from "./work.ts";

/** Reads `lanes` elements of row k, `from` bytes into the source, as the packed operand has them. */
type ReadRow = (from: Int, k: Int, lanes: number) => Vec;

/** Buffers: b, packed b. Element (batch, k, n) of b is at batch·strides.batch + k·strides.k + n·strides.n: in the shape's format, where that is pairs bf16. */
export function packKernel(
  name: string,
  strides: { readonly batch: number; readonly k: number; readonly n: number },
  shape: GemmShape,
  schedule: GemmSchedule,
  target: SimdTarget,
  threads: number,
): Kernel {
  const { k, n } = shape;
  const { lanes } = target;
  const batches = shape.isRightBatched ? shape.batch : 1;
  const b = new KernelBuilder(name, target, threads);
  const type = shape.format === "pairs" ? "bf16" : (shape.format ?? "f32");
  const bytes = MEMORY_BYTES[type];
  const rows = shape.format === "pairs" ? 2 * k : k;
  const source = b.buffer("b", bytes * ((batches - 1) * strides.batch + (rows - 1) * strides.k + (n - 1) * strides.n + 1), "read");
  const read = rowReader(b, source, strides, shape.format ?? "f32");
  const packed = b.buffer("packed", 4 * packedElements(shape, schedule, target), "write");
  const vectors = Math.ceil(n / lanes);
  const padded = vectors * lanes;
  const { vectors: perTile } = schedule.tile;
  const full = Math.floor(n / (perTile * lanes)) * perTile;
  const restVectors = vectors - full;

  /** Copies one vector of columns for a stretch of the depth. */
  const copy = (
    batch: Int,
    from: number,
    depth: number,
    tileStart: Int,
    tileVectors: number,
    inTile: Int,
    column: Int,
    count: number,
  ): void => {
    const to = plus(times(batch, k * padded * 4), from * padded * 4, times(tileStart, depth * lanes * 4), times(inTile, lanes * 4));
    const at = plus(times(batch, strides.batch * bytes), times(column, strides.n * bytes));
    b.loop(0, depth, 1, (i) => {
      b.store(read(at, plus(i, from), count), packed, plus(to, times(i, tileVectors * lanes * 4)));
    });
  };
  const wholeVectors = Math.floor(n / lanes);
  shareOut(b, [batches, vectors], ([batchPart, columns]) => {
    b.loop(batchPart.from, batchPart.to, 1, (batch) => {
      for (let from = 0; from < k; from += schedule.depth) {
        const depth = Math.min(schedule.depth, k - from);
        if (full > 0)
          b.loop(columns.from, b.min(columns.to, full), 1, (v) => {
            const tile = b.div(v, perTile);
            const start = b.set(times(tile, perTile));
            const inTile = b.mod(v, perTile);
            copy(batch, from, depth, start, perTile, inTile, times(v, lanes), lanes);
          });
        for (let r = 0; r < restVectors; r++) {
          const v = full + r;
          const count = v < wholeVectors ? lanes : n - v * lanes;
          b.when(v, columns.to, () => b.when(columns.from, v + 1, () => copy(batch, from, depth, full, restVectors, r, v * lanes, count)));
        }
      }
    });
  });
  return b.build();
}

/** Numbers of 16 bits that are not next to each other come in pairs only: others are transposed before. */
function rowReader(b: KernelBuilder, source: number, strides: { readonly k: number; readonly n: number }, format: GemmFormat): ReadRow {
  if (format === "pairs") {
    const row = 2 * strides.k; // bytes
    if (strides.k === 1) return (from, k, lanes) => b.strided(source, plus(from, times(k, 2 * row)), 2 * strides.n, lanes, "i32");
    return (from, k, lanes) => {
      const at = plus(from, times(k, 2 * row));
      return b.op("or", b.load(source, at, lanes, "u16"), b.load(source, plus(at, row), lanes, "bf16"));
    };
  }
  const bytes = MEMORY_BYTES[format];
  return (from, k, lanes) => {
    const at = plus(from, times(k, strides.k * bytes));
    return strides.n === 1 ? b.load(source, at, lanes, format) : b.strided(source, at, strides.n * 4, lanes);
  };
}
