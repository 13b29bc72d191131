// The weight gradient of a sparse product, (G·Xᵀ) at the nonzeros of W only (SDDMM): panels of both operands in the first-level cache, a dot product for each nonzero.
import { HeddleError } from "../ir/error.ts";
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { INT_RANGE } from "../ir/kernel_ops.ts";
import { cutByNonzeros } from "../sparse/balance.ts";
import type { Csb } from "../sparse/csb.ts";
import { byteTimes } from "./sparse_product.ts";

export interface SparseSampledShape {
  readonly rows: number;
  readonly columns: number;
  readonly n: number;
  readonly block: number;
  readonly nonzeros: number;
}

export function sparseSampledShape({ rows, columns, block, values }: Csb, n: number): SparseSampledShape {
  if (block > NAMED) throw new HeddleError("unsupported", `sparse weight gradient: CSB blocks of ${block}, wanted at most ${NAMED}`);
  return { rows, columns, n, block, nonzeros: values.length };
}

/** Rows that a byte can name: panels have as many, so that no coordinate leads out of them. */
const NAMED = 256;
/** Vectors of a row in a panel. */
const VECTORS = 4;

/** Block rows for each thread: thread t has [shares[t], shares[t + 1]). */
export const shareCsbRows = ({ pointers, blockColumns }: Csb, threads: number): Uint32Array =>
  cutByNonzeros(pointers, threads, blockColumns);

/** Of four vectors, in each four lanes, the sums of each over those lanes. */
function sumInFours(b: KernelBuilder, [v0, v1, v2, v3]: readonly Vec[]): Vec {
  const [low, high] = [
    [v0, v1],
    [v2, v3],
  ].map(([x, y]) => b.op("add", b.op("zipl", x, y), b.op("ziph", x, y)));
  return b.op("add", b.op("pairl", low, high), b.op("pairh", low, high));
}

/** The sums of each vector's fours, vector after vector. */
function sumOfFours(b: KernelBuilder, vectors: readonly Vec[]): Vec {
  if (vectors.length === 1) return vectors[0];
  const halves = Array.from({ length: vectors.length / 2 }, (_, i) => [vectors[2 * i], vectors[2 * i + 1]] as const);
  return sumOfFours(
    b,
    halves.map(([x, y]) => b.op("add", b.op("quadl", x, y), b.op("quadh", x, y))),
  );
}

/** Buffers: pointers, rows and columns of the matrix, shares, G (rows, n), X (columns, n), output (nonzeros). */
export function sparseSampledKernel(name: string, shape: SparseSampledShape, target: SimdTarget, threads: number): Kernel {
  const { rows, columns, n, block, nonzeros } = shape;
  const { lanes } = target;
  const b = new KernelBuilder(name, target, threads);
  const [blockRows, blockColumns] = [Math.ceil(rows / block), Math.ceil(columns / block)];
  const pointers = b.buffer("pointers", 4 * (blockRows * blockColumns + 1), "read");
  const row = b.buffer("row", nonzeros, "read");
  const column = b.buffer("column", nonzeros, "read");
  const shares = b.buffer("shares", 4 * (threads + 1), "read");
  const g = b.buffer("g", 4 * rows * n, "read");
  const x = b.buffer("x", 4 * columns * n, "read");
  const output = b.buffer("output", 4 * nonzeros, "readwrite");
  const width = Math.min(VECTORS, Math.ceil(n / lanes)) * lanes;
  const rowBytes = VECTORS * lanes * 4;
  const other = NAMED * rowBytes;
  const scratch = b.buffer("scratch", 2 * other, "scratch");

  /** Some columns of a block of rows, next to each other: zeros beyond `count`. */
  const copy = (from: number, extent: number, index: Int, first: Int, count: number, to: number): void => {
    const start = times(index, block);
    b.loop(start, b.min(plus(start, block), extent), 1, (r) => {
      for (let v = 0; v * lanes < count; v++) {
        const value = b.load(from, plus(times(r, n * 4), times(first, 4), v * lanes * 4), Math.min(lanes, count - v * lanes));
        b.store(value, scratch, plus(to, times(b.mod(r, block), rowBytes), v * lanes * 4));
      }
    });
  };
  /** Products of two rows that begin at these bytes of their panels, not yet summed over lanes. */
  const products = (left: Int, right: Int, count: number): Vec => {
    const at = (v: number) => [b.load(scratch, plus(left, v * lanes * 4)), b.load(scratch, plus(right, other + v * lanes * 4))] as const;
    const sum = b.op("mul", ...at(0));
    for (let v = 1; v * lanes < count; v++) b.accumulate(sum, ...at(v));
    return sum;
  };
  const put = (sum: Vec, i: Int, count: number, isFirst: boolean): void =>
    b.store(isFirst ? sum : b.op("add", sum, b.load(output, times(i, 4), count)), output, times(i, 4), count);
  const one = (i: Int, count: number, isFirst: boolean): void => {
    const place = (bytes: number): Int => times(b.loadInt(bytes, i, "u8", 0, NAMED - 1), rowBytes);
    put(b.op("sumlanes", products(place(row), place(column), count)), i, 1, isFirst);
  };
  /** As many as a vector has lanes. Coordinates are bytes of words: a processor loads twice a cycle only. */
  const some = (i: Int, count: number, isFirst: boolean): void => {
    const fours = Array.from({ length: lanes / 4 }, (_, f) => {
      const [rows, columns] = [row, column].map((bytes) => b.loadInt(bytes, plus(i, 4 * f), "i32", ...INT_RANGE.i32));
      const sums = [0, 1, 2, 3].map((k) => products(byteTimes(b, rows, k, rowBytes), byteTimes(b, columns, k, rowBytes), count));
      return sumInFours(b, sums);
    });
    put(sumOfFours(b, fours), i, lanes, isFirst);
  };
  const part = (blockRow: Int, first: Int, count: number, isFirst: boolean): void => {
    copy(g, rows, blockRow, first, count, 0);
    b.loop(0, blockColumns, 1, (blockColumn) => {
      const at = plus(times(blockRow, blockColumns * 4), times(blockColumn, 4));
      const from = b.loadInt(pointers, at, "i32", 0, nonzeros);
      const to = b.loadInt(pointers, plus(at, 4), "i32", 0, nonzeros);
      b.when(from, to, () => {
        copy(x, columns, blockColumn, first, count, other);
        const whole = b.min(plus(from, times(b.div(b.max(plus(to, times(from, -1)), 0), lanes), lanes)), nonzeros);
        b.loop(from, plus(whole, 1 - lanes), lanes, (i) => some(i, count, isFirst));
        b.loop(whole, to, 1, (i) => one(i, count, isFirst));
      });
    });
  };
  const whole = Math.floor(n / width);
  b.parallel(threads, (thread) => {
    const from = b.loadInt(shares, times(thread, 4), "i32", 0, blockRows);
    const to = b.loadInt(shares, plus(times(thread, 4), 4), "i32", 0, blockRows);
    b.loop(from, to, 1, (blockRow) => {
      part(blockRow, 0, Math.min(n, width), true);
      if (whole > 1) b.loop(1, whole, 1, (p) => part(blockRow, times(p, width), width, false));
      if (n > width && n % width > 0) part(blockRow, whole * width, n % width, false);
    });
  });
  return b.build();
}
