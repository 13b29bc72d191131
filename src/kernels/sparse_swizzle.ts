// Compressed sparse rows times dense, rows sorted by length (row swizzle, Gale et al. 2020): four of about equal lengths go side by side.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";
import { type CsrShape, SegmentCode, type Tile } from "./sparse_segment.ts";

/** Rows side by side, so that their sums do not wait for each other. */
const HEIGHT = 4;

/** Groups of rows are shared out, so that threads have what is a multiple of a group: units of pointers for cutByNonzeros. */
export function groupPointers(pointers: Uint32Array): Uint32Array {
  const rows = pointers.length - 1;
  return Uint32Array.from({ length: Math.ceil(rows / HEIGHT) + 1 }, (_, g) => pointers[Math.min(rows, g * HEIGHT)]);
}

/** Buffers: pointers and order of rows (from the longest to the shortest), groups that each thread works on, columns, values (both padded), dense operand (depth, n), output (rows, n). */
export function sparseSwizzleKernel(name: string, shape: CsrShape, target: SimdTarget, threads: number): Kernel {
  const { rows, n, nonzeros } = shape;
  const b = new KernelBuilder(name, target, threads);
  const groups = Math.ceil(rows / HEIGHT);
  const pointers = b.buffer("pointers", 4 * (rows + 1), "read");
  const order = b.buffer("order", 4 * rows, "read");
  const shares = b.buffer("shares", 4 * (threads + 1), "read");
  const code = new SegmentCode(b, shape);
  const y = b.buffer("y", 4 * rows * n, "write");

  const together = (first: Int, height: number, tile: Tile): void => {
    const bounds = range(height + 1).map((h) => b.loadInt(pointers, plus(times(first, 4), h * 4), "i32", 0, nonzeros));
    const sums = range(height).map(() => code.start(tile));
    // As many as the last row has, the shortest; a single column has vectors of nonzeros instead.
    const shared = n === 1 ? 0 : b.max(plus(bounds[height], times(bounds[height - 1], -1)), 0);
    b.loop(0, shared, 1, (turn) => {
      for (const [h, own] of sums.entries()) code.addOne(own, b.min(plus(bounds[h], turn), nonzeros - 1), tile);
    });
    for (const [h, own] of sums.entries()) {
      code.addRun(own, b.min(plus(bounds[h], shared), nonzeros), bounds[h + 1], tile);
      code.store(own, y, b.loadInt(order, plus(times(first, 4), h * 4), "i32", 0, rows - 1), tile);
    }
  };
  const whole = Math.floor(rows / HEIGHT);
  b.parallel(threads, (thread) => {
    const from = b.loadInt(shares, times(thread, 4), "i32", 0, groups);
    const to = b.loadInt(shares, plus(times(thread, 4), 4), "i32", 0, groups);
    code.overTiles((tile) => {
      b.loop(from, b.min(to, whole), 1, (g) => together(times(g, HEIGHT), HEIGHT, tile));
      if (rows % HEIGHT > 0) b.when(whole, to, () => together(whole * HEIGHT, rows % HEIGHT, tile));
    });
  });
  return b.build();
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
