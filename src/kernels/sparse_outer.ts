// The weight gradient of a sparse product of one column, g·xᵀ at the nonzeros of W: what a block needs of both vectors lies in registers, nonzeros are looked up there, as many as a vector has lanes.
import { type Int, type IntVar, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";

export interface SparseOuterShape {
  readonly rows: number;
  readonly columns: number;
  readonly block: number;
  readonly nonzeros: number;
}

/** Lanes that one look-up tells apart: two registers. */
const TOLD = 32;
/** Elements of a vector that registers hold beside those of the other one. */
const MOST = 128;

/** Whether a block's part of both vectors fits into registers. */
export const hasOuter = (block: number, { lanes }: SimdTarget): boolean => 2 * lanes === TOLD && block <= MOST && block >= TOLD;

/** Buffers: the index (pointers, rows and columns in blocks, shares of block rows), g (rows), x (columns), output (nonzeros). */
export function sparseOuterKernel(name: string, shape: SparseOuterShape, target: SimdTarget, threads: number): Kernel {
  const { rows, columns, block, nonzeros } = shape;
  const { lanes } = target;
  const [blockRows, blockColumns] = [Math.ceil(rows / block), Math.ceil(columns / block)];
  const b = new KernelBuilder(name, target, threads);
  const starts = b.buffer("starts", 4 * (blockRows * blockColumns + 1), "read");
  const [inRow, inColumn] = ["row", "column"].map((side) => b.buffer(side, nonzeros, "read"));
  const shares = b.buffer("shares", 4 * (threads + 1), "read");
  const sides = [b.buffer("g", 4 * rows, "read"), b.buffer("x", 4 * columns, "read")];
  const output = b.buffer("output", 4 * nonzeros, "write");
  const ends = [0, 4 * blockRows * block];
  const scratch = b.buffer("scratch", 4 * (blockRows + blockColumns) * block, "scratch");

  /** Blocks at the edges are filled up. */
  const copy = (side: number, length: number): void => {
    const whole = length - (length % lanes);
    const part = (i: Int, count: number): void => b.store(b.load(sides[side], times(i, 4), count), scratch, plus(ends[side], times(i, 4)));
    b.loop(0, whole, lanes, (i) => part(i, lanes));
    if (whole < length) part(whole, length - whole);
  };
  const table = (side: number, index: Int): Vec[] =>
    Array.from({ length: block / lanes }, (_, i) => b.load(scratch, plus(ends[side] + 4 * i * lanes, times(index, 4 * block))));
  const some = (tables: readonly (readonly Vec[])[], i: Int): void => {
    const found = [inRow, inColumn].map((side, s) => lookUp(b, tables[s], b.load(side, i, lanes, "u8")));
    b.store(b.op("mul", found[0], found[1]), output, times(i, 4));
  };
  const one = (blockRow: Int, blockColumn: Int, i: Int): void => {
    const found = [blockRow, blockColumn].map((index, s) => {
      const at = b.loadInt([inRow, inColumn][s], i, "u8", 0, block - 1);
      return b.load(scratch, plus(ends[s], times(index, 4 * block), times(at, 4)), 1);
    });
    b.store(b.op("mul", found[0], found[1]), output, times(i, 4), 1);
  };

  b.parallel(threads, (thread) => {
    copy(0, rows);
    copy(1, columns);
    const told = (at: Int): IntVar => b.loadInt(shares, at, "i32", 0, blockRows);
    b.loop(told(times(thread, 4)), told(plus(times(thread, 4), 4)), 1, (r) => {
      const g = table(0, r);
      b.loop(0, blockColumns, 1, (c) => {
        const at = plus(times(r, 4 * blockColumns), times(c, 4));
        const [from, to] = [0, 4].map((next) => b.loadInt(starts, plus(at, next), "i32", 0, nonzeros));
        const count = b.max(plus(to, times(from, -1)), 0);
        const whole = b.set(plus(from, times(b.div(count, lanes), lanes)));
        const tables = [g, table(1, c)];
        if (nonzeros >= lanes) b.loop(from, whole, lanes, (i) => some(tables, b.min(i, nonzeros - lanes)));
        b.loop(b.min(whole, nonzeros), to, 1, (i) => one(r, c, i));
      });
    });
  });
  return b.build();
}

/** Of a table in registers, two at a time, the elements that lanes number. */
function lookUp(b: KernelBuilder, table: readonly Vec[], index: Vec): Vec {
  let found = Array.from({ length: table.length / 2 }, (_, i) => b.op("lookup", table[2 * i], table[2 * i + 1], index));
  for (let bit = Math.log2(TOLD); found.length > 1; bit++) {
    const isUpper = b.op("ishr", b.op("ishl", index, undefined, undefined, undefined, 31 - bit), undefined, undefined, undefined, 31);
    found = Array.from({ length: found.length / 2 }, (_, i) => b.op("select", found[2 * i + 1], found[2 * i], isUpper));
  }
  return found[0];
}
