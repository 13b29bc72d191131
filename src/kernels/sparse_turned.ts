// The transposed product of a sparse matrix and one vector, from the values in the order of the product itself: lanes of rows become lanes of columns by one permutation a step.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { INT_RANGE } from "../ir/kernel_ops.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import { type Spread, spreadGathered } from "./sparse_gather.ts";
import { type Bundles, readBundles } from "./sparse_lookup.ts";
import { copiedBytes, copyVector, PERIOD, periodsOf, type SlicedMatrix } from "./sparse_slices.ts";
import type { VectorShape } from "./sparse_vector.ts";
import { turnedBits, type WindowsShape } from "./sparse_window.ts";

/** Rows whose sums are apart, so that threads can have some each and yet add in the same order: at least, and how many parts at most. */
const PART = 256;
const PARTS = 8;
/** Copies of the sums that windows take turns with: the next one's sums are often the same, and would wait for them to be stored. */
const COPIES = 2;

/** At least so many vectors, half a page beyond whole pages: a load waits for an earlier store whose address has the same low 12 bits, which the other copy's would. */
const halfPageFrom = (vectors: number, bytes: number): number => {
  const page = PAGE / bytes;
  return Math.ceil(vectors / page - 0.5) * page + page / 2;
};
const PAGE = 4096;

const partPeriods = (rows: number): number => Math.max(PART / PERIOD, Math.ceil(periodsOf(rows) / PARTS));
const partsOf = (rows: number): number => Math.ceil(periodsOf(rows) / partPeriods(rows));

/** The first buffer. */
const VALUES = 0;
/** Of an extra nonzero's word of 64 bits: where its value is, its row in its period, its column. */
const ROW_SHIFT = 32;
const COLUMN_SHIFT = 48;

/** What the kernels depend on. */
export interface TurnedShape {
  readonly matrix: VectorShape;
  readonly extras: number;
}

export interface TurnedMatrix {
  readonly shape: TurnedShape;
  /** The buffers between the values and the vector. */
  readonly index: readonly (Int32Array | Uint16Array | Uint8Array)[];
}

/** Of a matrix that was made with what the transposed product needs. */
export function turnedMatrixOf({ shape, turned }: SlicedMatrix<VectorShape>): TurnedMatrix | null {
  if (!turned) return null;
  const perPeriod = PERIOD / shape.height;
  const bounds = new Int32Array(periodsOf(shape.rows) + 1);
  const words: number[] = [];
  for (const [s, some] of turned.extras.entries()) {
    for (const { slot, row, column } of some) words.push(slot, (row % PERIOD) | (column << (COLUMN_SHIFT - ROW_SHIFT)));
    bounds[Math.floor(s / perPeriod) + 1] = words.length / 2;
  }
  const extras = words.length / 2;
  return { shape: { matrix: shape, extras }, index: [...turned.index, Int32Array.from(extras ? words : [0, 0]), bounds] };
}

/** Bytes of the sums of each part, which go from the first kernel to the second; 0: there is one. */
export const turnedSumBytes = ({ matrix: { rows, columns } }: TurnedShape, { lanes }: SimdTarget, threads: number): number =>
  threads === 1 ? 0 : partsOf(rows) * Math.ceil(columns / lanes) * lanes * 4;

/**
 * One kernel, with buffers values, index, vector, the epilogue's inputs, output;
 * or two, where there are several threads, which have parts of the rows: values, index, vector, sums; and sums, the epilogue's inputs, output.
 */
export function turnedKernels(
  name: string,
  shape: TurnedShape,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
): readonly Kernel[] {
  const bytes = turnedSumBytes(shape, target, threads);
  const spread = new KernelBuilder(name, target, threads);
  const code = new Turned(spread, shape);
  if (bytes === 0) {
    const finish = declareFinish(spread, shape, epilogue);
    code.build(spread.buffer("scratch", code.scratchBytes + code.sumBytes, "scratch"), null);
    finish((at) => code.total(at));
    return [spread.build()];
  }
  const sums = spread.buffer("sums", bytes, "write");
  code.build(spread.buffer("scratch", code.scratchBytes, "scratch"), sums);
  const add = new KernelBuilder(`${name}_sum`, target, threads);
  const parts = add.buffer("sums", bytes, "read");
  declareFinish(add, shape, epilogue)((at) => addParts(add, shape, parts, 0, at));
  return [spread.build(), add.build()];
}

/** Of the vector of sums that begins at byte `at`: the parts', part after part. */
function addParts(b: KernelBuilder, { matrix }: TurnedShape, sums: number, base: number, at: Int): Vec {
  const bytes = Math.ceil(matrix.columns / b.lanes) * b.lanes * 4;
  let sum = b.load(sums, plus(base, at));
  for (let part = 1; part < partsOf(matrix.rows); part++) sum = b.op("add", sum, b.load(sums, plus(base + part * bytes, at)));
  return sum;
}

/** Stores the results, made of totals of sums. */
function declareFinish(b: KernelBuilder, { matrix }: TurnedShape, epilogue: Epilogue): (total: (at: Int) => Vec) => void {
  const { columns } = matrix;
  const { lanes } = b;
  const code = new EpilogueCode(b, epilogue, columns);
  const vectors = Math.ceil(columns / lanes);
  return (total) => {
    const some = (v: Int, count: number): void =>
      code.storeTile([[total(times(v, lanes * 4))]], { row: 0, rowStep: 1, column: () => times(v, lanes), lanesOf: () => count });
    const whole = Math.floor(columns / lanes);
    b.parallel(whole, (v) => some(v, lanes));
    if (whole < vectors) b.parallel(1, () => some(whole, columns - whole * lanes));
  };
}

class Turned {
  /** Bytes of scratch that it needs for itself, and for parts' sums, if they have no buffer. */
  readonly scratchBytes: number;
  readonly sumBytes: number;
  scratch = -1;
  private readonly bundles: Bundles | null;
  private readonly spread: Spread | null;
  private readonly words: number;
  private readonly bounds: number;
  private readonly vector: number;
  /** Where in scratch the flag is, and copies of the sums; how long one is, in vectors. */
  private readonly flag: number;
  private readonly sums: number;
  private readonly reach: number;
  private readonly copies: number;

  constructor(
    private readonly b: KernelBuilder,
    private readonly shape: TurnedShape,
  ) {
    const { matrix, extras } = shape;
    const { lanes } = b;
    const { rows, columns } = matrix;
    const vectors = Math.ceil(columns / lanes);
    this.bundles = matrix.walk === "windows" ? readBundles(b, matrix) : null;
    this.spread = matrix.walk === "gathered" ? spreadGathered(b, matrix) : null;
    this.words = b.buffer("words", 8 * Math.max(extras, 1), "read");
    this.bounds = b.buffer("wordBounds", 4 * (periodsOf(rows) + 1), "read");
    this.vector = b.buffer("g", 4 * rows, "read");
    this.flag = Math.max(copiedBytes(rows, lanes), periodsOf(rows) * PERIOD * 4);
    this.sums = this.flag + lanes * 4;
    const reach = Math.max(vectors, this.bundles?.reach ?? 0, this.spread?.reach ?? 0);
    this.copies = this.bundles ? COPIES : 1;
    this.reach = this.bundles ? halfPageFrom(reach, lanes * 4) : reach;
    this.scratchBytes = this.sums + this.copies * this.reach * lanes * 4;
    this.sumBytes = partsOf(rows) === 1 ? 0 : partsOf(rows) * vectors * lanes * 4;
  }

  /** The sums of each part go to a buffer, or behind the rest of scratch. */
  build(scratch: number, partSums: number | null): void {
    const { b, shape, flag, vector } = this;
    const { rows } = shape.matrix;
    this.scratch = scratch;
    const parts = partsOf(rows);
    b.parallel(b.threads, (thread) => {
      this.bundles?.fetchFirst();
      const finite = copyVector(b, { x: vector, count: rows, scratch, flag });
      // Rows that do not exist have no values, but lanes.
      const zero = b.f32(0);
      for (let at = Math.ceil(rows / b.lanes) * b.lanes * 4; at < periodsOf(rows) * PERIOD * 4; at += b.lanes * 4)
        b.store(zero, scratch, at);
      const from = b.div(times(thread, parts), b.threads);
      const to = b.div(plus(times(thread, parts), parts), b.threads);
      b.loop(from, b.min(to, parts), 1, (part) => this.part(part, finite, partSums));
    });
  }

  private part(part: Int, finite: Int, partSums: number | null): void {
    const { b, shape, scratch, sums, reach, copies } = this;
    const { rows, columns } = shape.matrix;
    const bytes = b.lanes * 4;
    const zero = b.f32(0);
    // Windows reach one vector beyond the last.
    const used = Math.min(reach, Math.ceil(columns / b.lanes) + 1);
    b.loop(0, used, 1, (v) => {
      for (let copy = 0; copy < copies; copy++) b.store(zero, scratch, plus(sums + copy * reach * bytes, times(v, bytes)));
    });
    const first = times(part, partPeriods(rows));
    b.loop(first, b.min(plus(first, partPeriods(rows)), periodsOf(rows)), 1, (period) => this.period(period, finite));
    if (partSums === null && partsOf(rows) === 1) return;
    const vectors = Math.ceil(columns / b.lanes);
    b.loop(0, vectors, 1, (v) => {
      const at = times(v, bytes);
      const to = plus(times(part, vectors * bytes), at);
      if (partSums === null) b.store(this.ofCopies(at), scratch, plus(this.scratchBytes, to));
      else b.store(this.ofCopies(at), partSums, to);
    });
  }

  private ofCopies(at: Int): Vec {
    const { b, scratch, sums, reach, copies } = this;
    let sum = b.load(scratch, plus(sums, at));
    for (let copy = 1; copy < copies; copy++) sum = b.op("add", sum, b.load(scratch, plus(sums + copy * reach * b.lanes * 4, at)));
    return sum;
  }

  /** Of all parts, where there is one thread. */
  total(at: Int): Vec {
    const { b, shape, scratch, scratchBytes } = this;
    return partsOf(shape.matrix.rows) === 1 ? this.ofCopies(at) : addParts(b, shape, scratch, scratchBytes, at);
  }

  private period(period: Int, finite: Int): void {
    const { b, bundles, shape } = this;
    const { matrix } = shape;
    if (matrix.walk === "windows" && bundles) {
      const perPeriod = PERIOD / matrix.height;
      b.loop(0, perPeriod, 1, (s) => {
        const slice = b.set(plus(times(period, perPeriod), s));
        b.when(finite, 0, () => this.slice(slice, matrix, bundles, false), () => this.slice(slice, matrix, bundles, true)); // biome-ignore format: one idea
      });
    }
    const { spread } = this;
    if (spread)
      b.loop(0, PERIOD / matrix.height, 1, (s) => spread.slice(plus(times(period, PERIOD / matrix.height), s), this.scratch, 0, this.sums));
    if (matrix.walk === "windows" && shape.extras > 0) this.extras(period, matrix);
  }

  private slice(slice: Int, { height }: WindowsShape, bundles: Bundles, allFinite: boolean): void {
    const { b, scratch } = this;
    const rows = Array.from({ length: height / b.lanes }, (_, i) => b.load(scratch, plus(times(slice, height * 4), i * b.lanes * 4)));
    bundles.overSlice(slice, (i) => this.bundle(i, bundles, rows, allFinite));
  }

  /** Each step's products go to the lanes of their columns, and from there to either half of the window. */
  private bundle(i: Int, bundles: Bundles, rows: readonly Vec[], allFinite: boolean): void {
    const { b, scratch, sums, reach } = this;
    const bytes = b.lanes * 4;
    const bits = turnedBits(rows.length * b.lanes);
    const packed = bundles.code(i);
    const step = bundles.values(i);
    let halves: (Vec | null)[] = [];
    let at: Int = 0;
    let window = 0;
    const store = (): void => {
      for (const [half, sum] of halves.entries()) {
        const to = plus(at, half * bytes);
        if (sum) b.store(b.op("add", b.load(scratch, to), sum), scratch, to);
      }
    };
    for (let s = 0; s < bundles.size; s++) {
      const start = bundles.windowAt(i, s);
      if (start !== null) {
        store();
        at = plus(sums + (window++ % COPIES) * reach * bytes, times(start, bytes));
        halves = [null, null];
      }
      const value = step(s);
      const isValue = allFinite ? null : b.op("ne", value, b.f32(0));
      const products = rows.map((g) => {
        const product = b.op("mul", value, g);
        return isValue ? b.op("select", product, b.f32(0), isValue) : product;
      });
      const index = s === 0 ? b.op("mov", packed) : b.op("iushr", packed, undefined, undefined, undefined, bits * s);
      const found = b.op("lookup", products[0], products[products.length - 1], index, index);
      const sign = s === 0 ? b.op("mov", packed) : b.op("ishl", packed, undefined, undefined, undefined, s);
      const isSecond = b.op("ishr", sign, undefined, undefined, sign, 31);
      halves = (["andnot", "and"] as const).map((op, half) => {
        const part = b.op(op, isSecond, found);
        const sum = halves[half];
        return sum ? b.op("add", sum, part, undefined, sum) : part;
      });
    }
    store();
  }

  private extras(period: Int, { length, columns }: WindowsShape): void {
    const { b, words, bounds, scratch, sums } = this;
    const { extras } = this.shape;
    const from = b.loadInt(bounds, times(period, 4), "i32", 0, extras);
    const to = b.loadInt(bounds, plus(times(period, 4), 4), "i32", 0, extras);
    b.loop(from, to, 1, (i) => {
      const word = b.loadInt(words, times(i, 8), "i64", ...INT_RANGE.i64);
      const slot = b.min(b.bits(word, 0, INT_RANGE.i32[1]), length - 1);
      const row = b.bits(word, ROW_SHIFT, PERIOD - 1);
      const at = plus(sums, times(b.min(b.bits(word, COLUMN_SHIFT, INT_RANGE.u16[1]), columns - 1), 4));
      const sum = b.load(scratch, at, 1);
      b.accumulate(sum, b.load(VALUES, times(slot, 4), 1), b.load(scratch, plus(times(period, PERIOD * 4), times(row, 4)), 1));
      b.store(sum, scratch, at, 1);
    });
  }
}
