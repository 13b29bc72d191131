// The weight gradient of a sparse product, (G·Xᵀ) at the nonzeros of W only (SDDMM): panels in the first-level cache, a dot product for each nonzero.
import { HeddleError } from "../ir/error.ts";
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { INT_RANGE } from "../ir/kernel_ops.ts";
import { cutByNonzeros } from "../sparse/balance.ts";
import type { Csb } from "../sparse/csb.ts";
import { hasOuter, sparseOuterKernel } from "./sparse_outer.ts";
import { byteTimes } from "./sparse_reach.ts";

export interface SparseSampledShape {
  readonly rows: number;
  readonly columns: number;
  readonly n: number;
  readonly block: number;
  readonly nonzeros: number;
  /** Rows of blocks that have nonzeros, whose row of G is loaded once for all of them; 0: each nonzero loads its own. */
  readonly visits: number;
}

/** Rows that a byte can name: panels have as many, so that no coordinate leads out of them. */
const NAMED = 256;
/** Vectors of a row in a panel. */
const VECTORS = 4;
/** Nonzeros whose products are summed together, and whose columns are one word. */
const STEP = 4;

/** What a kernel needs of a pattern, for n columns. */
export interface SampledIndex {
  readonly shape: SparseSampledShape;
  readonly arrays: readonly (Int32Array | Csb["pointers"] | Csb["row"])[];
}

/** Where a row of G takes one vector, there is nothing to load once; where loads come first, registers are too few. */
export function sampledIndexOf(w: Csb, n: number, target: SimdTarget, threads: number): SampledIndex {
  const { rows, columns, block, values, pointers, blockColumns } = w;
  if (block > NAMED) throw new HeddleError("unsupported", `sparse weight gradient: CSB blocks of ${block}, wanted at most ${NAMED}`);
  const shape = { rows, columns, n, block, nonzeros: values.length, visits: 0 };
  const shares = cutByNonzeros(pointers, threads, blockColumns);
  if (n <= target.lanes || target.loadsFirst) return { shape, arrays: [pointers, w.row, w.column, shares] };
  const { starts, visits } = visitsOf(w);
  const column = new Uint8Array(values.length + STEP);
  column.set(w.column);
  return { shape: { ...shape, visits: visits.length / 2 }, arrays: [starts, visits, column, shares] };
}

/** Rows of each block by how many nonzeros are left after whole steps: row, steps, and the first nonzero. */
function visitsOf({ pointers, row }: Csb): { readonly starts: Int32Array; readonly visits: Int32Array } {
  const visits: number[] = [];
  const starts: number[] = [];
  for (let block = 0; block + 1 < pointers.length; block++) {
    const groups: number[][] = Array.from({ length: STEP }, () => []);
    for (let i = pointers[block], next = i; i < pointers[block + 1]; i = next) {
      while (next < pointers[block + 1] && row[next] === row[i]) next++;
      groups[(next - i) % STEP].push(row[i] + (Math.floor((next - i) / STEP) << STEPS_SHIFT), i);
    }
    for (const group of groups) {
      starts.push(visits.length / 2);
      for (const word of group) visits.push(word);
    }
  }
  return { starts: Int32Array.from([...starts, visits.length / 2]), visits: Int32Array.from(visits) };
}
const STEPS_SHIFT = 8;
const START_SHIFT = 32;

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

/** Buffers: the index (`sampledIndexOf`), G (rows, n), X (columns, n), output (nonzeros). */
export const sparseSampledKernel = (name: string, shape: SparseSampledShape, target: SimdTarget, threads: number): Kernel =>
  shape.n === 1 && hasOuter(shape.block, target)
    ? sparseOuterKernel(name, shape, target, threads)
    : new SparseSampled(name, shape, target, threads).build();

/** Some columns of both operands: those of a block row's results. */
interface Part {
  readonly blockRow: Int;
  readonly first: Int;
  readonly count: number;
  /** Nothing is in the output yet. */
  readonly isFirst: boolean;
}

class SparseSampled {
  private readonly b: KernelBuilder;
  /** `starts`: of blocks, or of their groups of visits; `rows`: of nonzeros, or visits. */
  private readonly buffers: Readonly<Record<"starts" | "rows" | "column" | "shares" | "g" | "x" | "output" | "scratch", number>>;
  private readonly lanes: number;
  private readonly blockRows: number;
  private readonly blockColumns: number;
  /** Bytes of a row in a panel, and where the panel of X begins. */
  private readonly rowBytes: number;
  private readonly panelOfX: number;

  constructor(
    name: string,
    private readonly shape: SparseSampledShape,
    target: SimdTarget,
    threads: number,
  ) {
    const { rows, columns, n, block, nonzeros, visits } = shape;
    this.lanes = target.lanes;
    this.blockRows = Math.ceil(rows / block);
    this.blockColumns = Math.ceil(columns / block);
    this.rowBytes = VECTORS * target.lanes * 4;
    this.panelOfX = visits > 0 ? 0 : NAMED * this.rowBytes;
    const b = new KernelBuilder(name, target, threads);
    this.b = b;
    this.buffers = {
      starts: b.buffer("starts", 4 * (this.blockRows * this.blockColumns * (visits > 0 ? STEP : 1) + 1), "read"),
      rows: b.buffer("rows", visits > 0 ? 8 * visits : nonzeros, "read"),
      column: b.buffer("column", nonzeros + (visits > 0 ? STEP : 0), "read"),
      shares: b.buffer("shares", 4 * (threads + 1), "read"),
      g: b.buffer("g", 4 * rows * n, "read"),
      x: b.buffer("x", 4 * columns * n, "read"),
      output: b.buffer("output", 4 * nonzeros, "readwrite"),
      scratch: b.buffer("scratch", this.panelOfX + NAMED * this.rowBytes, "scratch"),
    };
  }

  build(): Kernel {
    const { b, shape, lanes, buffers, blockRows } = this;
    const { n } = shape;
    const width = Math.min(VECTORS, Math.ceil(n / lanes)) * lanes;
    const whole = Math.floor(n / width);
    b.parallel(b.threads, (thread) => {
      const from = b.loadInt(buffers.shares, times(thread, 4), "i32", 0, blockRows);
      const to = b.loadInt(buffers.shares, plus(times(thread, 4), 4), "i32", 0, blockRows);
      b.loop(from, to, 1, (blockRow) => {
        this.part({ blockRow, first: 0, count: Math.min(n, width), isFirst: true });
        if (whole > 1) b.loop(1, whole, 1, (p) => this.part({ blockRow, first: times(p, width), count: width, isFirst: false }));
        if (n > width && n % width > 0) this.part({ blockRow, first: whole * width, count: n % width, isFirst: false });
      });
    });
    return b.build();
  }

  private part(part: Part): void {
    const { b, shape, blockColumns, buffers, panelOfX } = this;
    const { rows, columns, visits, nonzeros } = shape;
    const groups = visits > 0 ? STEP : 1;
    if (visits === 0) this.copy(buffers.g, rows, part.blockRow, part, 0);
    b.loop(0, blockColumns, 1, (blockColumn) => {
      const at = plus(times(part.blockRow, blockColumns * groups * 4), times(blockColumn, groups * 4));
      const start = (group: number): Int => b.loadInt(buffers.starts, plus(at, 4 * group), "i32", 0, visits || nonzeros);
      b.when(start(0), start(groups), () => {
        this.copy(buffers.x, columns, blockColumn, part, panelOfX);
        if (visits === 0) this.oneByOne(start(0), start(1), part);
        else for (let rest = 0; rest < Math.min(STEP, nonzeros + 1); rest++) this.rowByRow(start(rest), start(rest + 1), rest, part);
      });
    });
  }

  /** Some columns of a block of rows, next to each other: zeros beyond `count`. */
  private copy(from: number, extent: number, index: Int, { first, count }: Part, to: number): void {
    const { b, shape, lanes, rowBytes, buffers } = this;
    const { block, n } = shape;
    const start = times(index, block);
    b.loop(start, b.min(plus(start, block), extent), 1, (r) => {
      for (let v = 0; v * lanes < count; v++) {
        const value = b.load(from, plus(times(r, n * 4), times(first, 4), v * lanes * 4), Math.min(lanes, count - v * lanes));
        b.store(value, buffers.scratch, plus(to, times(b.mod(r, block), rowBytes), v * lanes * 4));
      }
    });
  }

  private put(sum: Vec, i: Int, count: number, isFirst: boolean): void {
    const { b, buffers } = this;
    b.store(isFirst ? sum : b.op("add", sum, b.load(buffers.output, times(i, 4), count)), buffers.output, times(i, 4), count);
  }

  /** Products of a row's vectors and a row of X's panel, not yet summed over lanes. */
  private products(left: readonly Vec[], right: Int): Vec {
    const { b, buffers, lanes, panelOfX } = this;
    const at = (v: number): Vec => b.load(buffers.scratch, plus(right, panelOfX + v * lanes * 4));
    const sum = b.op("mul", left[0], at(0));
    for (let v = 1; v < left.length; v++) b.accumulate(sum, left[v], at(v));
    return sum;
  }

  /** Nonzeros [from, to), whatever their rows: as many together as a vector has lanes. Coordinates are bytes of words: a processor loads twice a cycle only. */
  private oneByOne(from: Int, to: Int, { count, isFirst }: Part): void {
    const { b, lanes, buffers, rowBytes, shape } = this;
    const { scratch, rows, column } = buffers;
    const left = (at: Int): Vec[] => range(Math.ceil(count / lanes)).map((v) => b.load(scratch, plus(at, v * lanes * 4)));
    const some = (i: Int): Vec =>
      sumOfFours(
        b,
        range(lanes / STEP).map((f) => {
          const [inRow, inColumn] = [rows, column].map((bytes) => b.loadInt(bytes, plus(i, STEP * f), "i32", ...INT_RANGE.i32));
          return sumInFours(
            b,
            range(STEP).map((k) => this.products(left(byteTimes(b, inRow, k, rowBytes)), byteTimes(b, inColumn, k, rowBytes))),
          );
        }),
      );
    const one = (i: Int): Vec => {
      const [inRow, inColumn] = [rows, column].map((bytes) => times(b.loadInt(bytes, i, "u8", 0, NAMED - 1), rowBytes));
      return b.op("sumlanes", this.products(left(inRow), inColumn));
    };
    const whole = b.min(plus(from, times(b.div(b.max(plus(to, times(from, -1)), 0), lanes), lanes)), shape.nonzeros);
    b.loop(from, plus(whole, 1 - lanes), lanes, (i) => this.put(some(i), i, lanes, isFirst));
    b.loop(whole, to, 1, (i) => this.put(one(i), i, 1, isFirst));
  }

  /** Visits [from, to), with `rest` nonzeros after whole steps: the row of G waits in registers. */
  private rowByRow(from: Int, to: Int, rest: number, { blockRow, first, count, isFirst }: Part): void {
    const { b, lanes, buffers, shape } = this;
    const { rows, n, block, nonzeros } = shape;
    b.loop(from, to, 1, (i) => {
      const word = b.loadInt(buffers.rows, times(i, 8), "i64", ...INT_RANGE.i64);
      const row = b.min(plus(times(blockRow, block), b.bits(word, 0, NAMED - 1)), rows - 1);
      const start = b.min(b.bits(word, START_SHIFT, INT_RANGE.i32[1]), nonzeros - rest);
      const end = b.min(plus(start, times(b.bits(word, STEPS_SHIFT, NAMED - 1), STEP)), nonzeros - rest);
      const left = range(Math.ceil(count / lanes)).map((v) =>
        b.load(buffers.g, plus(times(row, n * 4), times(first, 4), v * lanes * 4), Math.min(lanes, count - v * lanes)),
      );
      b.loop(start, plus(end, 1 - STEP), STEP, (j) => this.put(this.four(left, j, STEP), j, STEP, isFirst));
      if (rest > 0) this.put(this.four(left, end, rest), end, rest, isFirst);
    });
  }

  /** The first lanes: dot products of a row with those of `count` nonzeros, four at most. */
  private four(left: readonly Vec[], i: Int, count: number): Vec {
    const { b, buffers, rowBytes, lanes } = this;
    const word = b.loadInt(buffers.column, i, "i32", ...INT_RANGE.i32);
    const products = range(count).map((k) => this.products(left, byteTimes(b, word, k, rowBytes)));
    let sums = sumInFours(
      b,
      range(STEP).map((k) => products[Math.min(k, count - 1)]),
    );
    for (let fours = lanes / STEP; fours > 1; fours /= 2) sums = b.op("add", b.op("quadl", sums, sums), b.op("quadh", sums, sums));
    return sums;
  }
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
