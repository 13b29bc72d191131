// Block-sparse rows times dense (Gray et al. 2017): each stored block is a small dense product, sums of some rows wait in registers for all blocks of a row of blocks.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import type { Bsr } from "../sparse/bsr.ts";
import type { Values } from "../sparse/values.ts";

export interface SparseBlockShape {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  readonly block: number;
  /** Blocks that are stored. */
  readonly blocks: number;
}

export const sparseBlockShape = ({ rows, columns, block, blockColumn }: Bsr, n: number): SparseBlockShape => ({
  rows,
  depth: columns,
  n,
  block,
  blocks: blockColumn.length,
});

/** Columns of blocks one after another: a kernel needs some rows' values of one column together. */
export function blocksByColumns({ values, block }: Bsr): Values {
  const out = values.slice();
  const size = block * block;
  for (let b = 0; b < values.length; b += size)
    for (let r = 0; r < block; r++) for (let k = 0; k < block; k++) out[b + k * block + r] = values[b + r * block + k];
  return out;
}

/** Buffers: pointers (rows of blocks + 1), columns of blocks, values column by column, rows of blocks that each thread works on, dense operand (depth, n), output (rows, n). */
export function sparseBlockKernel(name: string, shape: SparseBlockShape, target: SimdTarget, threads: number): Kernel {
  const { rows, depth, n, block, blocks } = shape;
  const blockRows = Math.ceil(rows / block);
  const b = new KernelBuilder(name, target, threads);
  const buffers: Buffers = {
    pointers: b.buffer("pointers", 4 * (blockRows + 1), "read"),
    columns: b.buffer("columns", 4 * blocks, "read"),
    values: b.buffer("values", 4 * blocks * block * block, "read"),
    shares: b.buffer("shares", 4 * (threads + 1), "read"),
    x: b.buffer("x", 4 * depth * n, "read"),
    y: b.buffer("y", 4 * rows * n, "write"),
  };
  b.parallel(threads, (thread) => {
    const from = b.loadInt(buffers.shares, times(thread, 4), "i32", 0, blockRows);
    const to = b.loadInt(buffers.shares, plus(times(thread, 4), 4), "i32", 0, blockRows);
    if (n === 1) timesVector(b, shape, buffers, from, to);
    else timesMatrix(b, shape, buffers, from, to);
  });
  return b.build();
}

type Buffers = Readonly<Record<"pointers" | "columns" | "values" | "shares" | "x" | "y", number>>;

/** The stored blocks of a row of blocks, and the column of blocks that each lies in. */
function overBlocks(
  b: KernelBuilder,
  { depth, block, blocks }: SparseBlockShape,
  buffers: Buffers,
  blockRow: Int,
  body: (i: Int, column: Int) => void,
): void {
  const first = b.loadInt(buffers.pointers, times(blockRow, 4), "i32", 0, blocks);
  const end = b.loadInt(buffers.pointers, plus(times(blockRow, 4), 4), "i32", 0, blocks);
  b.loop(first, end, 1, (i) => body(i, b.loadInt(buffers.columns, times(i, 4), "i32", 0, Math.ceil(depth / block) - 1)));
}

/** Rows whose sums are in registers together: a divisor of all sizes of blocks. */
const heightOf = (target: SimdTarget): number => (target.registers >= 32 ? 8 : 4);
const VECTORS = 3;

function timesMatrix(b: KernelBuilder, shape: SparseBlockShape, buffers: Buffers, from: Int, to: Int): void {
  const { rows, depth, n, block } = shape;
  const { lanes, loadsFirst } = b.target;
  const height = heightOf(b.target);
  const all = Math.ceil(n / lanes);
  const vectors = Math.ceil(all / Math.ceil(all / (loadsFirst ? 2 : VECTORS)));
  const width = Math.min(n, vectors * lanes);

  const strip = (blockRow: Int, inBlock: Int, column: Int, count: number): void => {
    const lanesOf = (v: number): number => Math.min(lanes, count - v * lanes);
    const at = (row: Int, v: number): Int => plus(times(row, n * 4), times(column, 4), v * lanes * 4);
    const zero = b.f32(0);
    const sums = range(height).map(() => range(Math.ceil(count / lanes)).map(() => b.op("mov", zero)));
    overBlocks(b, shape, buffers, blockRow, (i, blockColumn) => {
      const start = times(blockColumn, block);
      b.loop(start, b.min(plus(start, block), depth), 1, (k) => {
        const values = plus(times(i, block * block * 4), times(b.mod(k, block), block * 4), times(inBlock, 4));
        const parts = sums[0].map((_, v) => b.load(buffers.x, at(k, v), lanesOf(v)));
        for (const [h, own] of sums.entries()) {
          const value = b.splat(buffers.values, plus(values, 4 * h));
          for (const [v, sum] of own.entries()) b.accumulate(sum, value, parts[v]);
        }
      });
    });
    for (const [h, own] of sums.entries()) {
      const row = plus(times(blockRow, block), inBlock, h);
      inside(b, row, rows, (r) => {
        for (const [v, sum] of own.entries()) b.store(sum, buffers.y, at(r, v), lanesOf(v));
      });
    }
  };
  const tile = (column: Int, count: number): void =>
    b.loop(from, to, 1, (blockRow) => b.loop(0, block, height, (inBlock) => strip(blockRow, inBlock, column, count)));
  b.loop(0, Math.floor(n / width), 1, (t) => tile(times(t, width), width));
  if (n % width > 0) tile(n - (n % width), n % width);
}

/** Runs `body` for a row that is there. */
function inside(b: KernelBuilder, row: Int, rows: number, body: (row: Int) => void): void {
  b.when(row, rows, () => body(b.min(row, rows - 1)));
}

/** Columns of a block that are added up side by side. */
const SIDE_BY_SIDE = 4;

/** Vectors lie along the rows of a block, as far as it reaches. */
function timesVector(b: KernelBuilder, shape: SparseBlockShape, buffers: Buffers, from: Int, to: Int): void {
  const { rows, depth, block } = shape;
  const { lanes } = b.target;
  const part = Math.min(lanes, block);
  const columns = Math.ceil(depth / block);
  // The vector, zeros up to the end of the last block, and the sums of a row of blocks.
  const sumsAt = columns * block * 4;
  const scratch = b.buffer("scratch", sumsAt + block * 4, "scratch");
  const whole = depth - (depth % lanes);
  b.loop(0, whole, lanes, (k) => b.store(b.load(buffers.x, times(k, 4)), scratch, times(k, 4)));
  for (let k = whole; k < columns * block; k += part) {
    const count = Math.min(lanes, depth - k);
    b.store(count > 0 ? b.load(buffers.x, k * 4, count) : b.f32(0), scratch, k * 4, Math.min(part, columns * block - k));
  }
  b.loop(from, to, 1, (blockRow) => {
    const zero = b.f32(0);
    const sums = range(block / part).map(() => range(SIDE_BY_SIDE).map(() => b.op("mov", zero)));
    overBlocks(b, shape, buffers, blockRow, (i, blockColumn) => {
      for (let k = 0; k < block; k++) {
        const x = b.splat(scratch, plus(times(blockColumn, block * 4), k * 4));
        for (const [p, own] of sums.entries()) {
          const values = b.load(buffers.values, plus(times(i, block * block * 4), (k * block + p * part) * 4), part);
          b.accumulate(own[k % SIDE_BY_SIDE], x, values);
        }
      }
    });
    for (const [p, own] of sums.entries()) b.store(added(b, own), scratch, sumsAt + p * part * 4, part);
    const row = times(blockRow, block);
    if (rows % block === 0)
      for (let p = 0; p < block; p += part) b.store(b.load(scratch, sumsAt + p * 4, part), buffers.y, plus(times(row, 4), p * 4), part);
    else
      b.loop(row, b.min(plus(row, block), rows), 1, (r) =>
        b.store(b.load(scratch, plus(sumsAt, times(b.mod(r, block), 4)), 1), buffers.y, times(r, 4), 1),
      );
  });
}

/** Neighbours two by two. */
function added(b: KernelBuilder, sums: readonly Vec[]): Vec {
  let rest = sums;
  while (rest.length > 1) rest = range(rest.length / 2).map((i) => b.op("add", rest[2 * i], rest[2 * i + 1]));
  return rest[0];
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
