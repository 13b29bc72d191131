// Puts the right operand of a matrix product that is only known at run time into the order that the product's kernel reads.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";
import { type GemmSchedule, type GemmShape, packedElements } from "./gemm.ts";
import { shareOut } from "./work.ts";

/** Buffers: b, packed b. Element (batch, k, n) of b is at batch·strides.batch + k·strides.k + n·strides.n. */
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
  const source = b.buffer("b", 4 * ((batches - 1) * strides.batch + (k - 1) * strides.k + (n - 1) * strides.n + 1), "read");
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
    const at = plus(times(batch, strides.batch * 4), from * strides.k * 4, times(column, strides.n * 4));
    b.loop(0, depth, 1, (i) => {
      const address = plus(at, times(i, strides.k * 4));
      const value = strides.n === 1 ? b.load(source, address, count) : b.strided(source, address, strides.n * 4, count);
      b.store(value, packed, plus(to, times(i, tileVectors * lanes * 4)));
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
