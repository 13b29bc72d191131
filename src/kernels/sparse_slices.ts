// What products of a sparse matrix and one vector have in common: slices of as many rows as a vector has lanes, and the kernel around the code for one of them.
import { HeddleError } from "../ir/error.ts";
import { type Int, type Kernel, type KernelBuilder, plus, times, type Vec } from "../ir/kernel.ts";
import type { Csb } from "../sparse/csb.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";

/** Rows that one thread works on, and inside of which they may be sorted by length: so many, or less where there would be few periods for threads to share. */
export const PERIOD = 128;
const LEAST_PERIODS = 4;
/** Columns are 16-bit numbers, one of which may name what lies after the vector. */
export const MAX_COLUMNS = 65535;

/** Nonzeros row by row: where each row starts, columns, and where the values are in the matrix. */
export interface Rows {
  readonly starts: Int32Array;
  readonly column: Uint16Array;
  readonly place: Int32Array;
}

/** Nonzeros [first, end) of each row of a slice, and columns up to the last that any has; what is behind the last row has none. */
export function spansOf(
  { starts, column }: Rows,
  slice: Int32Array,
): { readonly first: Int32Array; readonly end: Int32Array; readonly width: number } {
  const last = starts.length - 1;
  const first = slice.map((r) => starts[Math.min(r, last)]);
  const end = slice.map((r) => starts[Math.min(r + 1, last)]);
  const width = end.reduce((most, to, r) => (first[r] < to ? Math.max(most, column[to - 1] + 1) : most), 0);
  return { first, end, width };
}

/** Rows of the whole matrix, block column after block column. Throws HeddleError ("unsupported"). */
export function rowsOf(w: Csb): Rows {
  if (w.columns > MAX_COLUMNS) throw new HeddleError("unsupported", `sparse product: ${w.columns} columns, wanted at most ${MAX_COLUMNS}`);
  const starts = new Int32Array(w.rows + 1);
  const column = new Uint16Array(w.values.length);
  const place = new Int32Array(w.values.length);
  const { block, blockRows, blockColumns, pointers } = w;
  for (let r = 0, b = 0; r < blockRows; r++) {
    const next = starts.subarray(r * block + 1, (r + 1) * block + 1);
    countRows(w.row, pointers[b], pointers[b + blockColumns], next);
    // Where each of the rows begins; in the end, where the one after it does.
    for (let i = 0, from = pointers[b]; i < next.length; i++) [next[i], from] = [from, from + next[i]];
    for (let c = 0; c < blockColumns; c++, b++) putBlock(w, b, c * block, next, column, place);
  }
  return { starts, column, place };
}

function putBlock(
  { pointers, row, column: inBlock }: Csb,
  b: number,
  base: number,
  next: Int32Array,
  column: Uint16Array,
  place: Int32Array,
): void {
  for (let i = pointers[b]; i < pointers[b + 1]; i++) {
    const to = next[row[i]]++;
    column[to] = base + inBlock[i];
    place[to] = i;
  }
}

function countRows(row: Csb["row"], from: number, to: number, counts: Int32Array): void {
  for (let i = from; i < to; i++) counts[row[i]]++;
}

/** Rows by slices; a lane beyond the matrix has a row that does not exist. */
export interface Slices {
  readonly slices: readonly Int32Array[];
  /** Of each row, its place in its period; null: rows are in their order. */
  readonly order: Int32Array | null;
  readonly period: number;
}

export const periodsOf = (rows: number): number => Math.ceil(rows / PERIOD);

export function slicesInOrder(rows: number, height: number): Slices {
  const all = Int32Array.from({ length: periodsOf(rows) * PERIOD }, (_, r) => r);
  return { slices: cut(all, height), order: null, period: PERIOD };
}

/** Of so many rows, a power of two. It must not depend on threads, as the order of sums might on it. */
export function periodFor(rows: number, height: number): number {
  let period = PERIOD;
  while (period > 2 * height && rows < LEAST_PERIODS * period) period /= 2;
  return period;
}

/** Rows sorted by length inside of periods (SELL-C-σ, Kreutzer et al. 2014). */
export function slicesByLength(rows: number, { starts }: Rows, height: number, period: number): Slices {
  const length = (r: number): number => (r < rows ? starts[r + 1] - starts[r] : 0);
  const all = Int32Array.from({ length: periodsOf(rows) * PERIOD }, (_, r) => r);
  for (let first = 0; first < all.length; first += period)
    all.subarray(first, first + period).sort((x, y) => length(y) - length(x) || x - y);
  const order = new Int32Array(all.length);
  for (const [i, r] of all.entries()) order[r] = i % period;
  return { slices: cut(all, height), order, period };
}

const cut = (all: Int32Array, height: number): Int32Array[] =>
  Array.from({ length: all.length / height }, (_, s) => all.subarray(s * height, (s + 1) * height));

/** So many slices together that each thread works on, equal in work, which each slice and the end say the sum of: thread t has [shares[t], shares[t + 1]) of them. */
export function shareSlices(
  work: Int32Array,
  { together, parts }: { readonly together: number; readonly parts: number },
  threads: number,
): Int32Array {
  const all = work[work.length - 1];
  const shares = new Int32Array(threads + 1);
  for (let t = 1, p = 0; t <= threads; t++) {
    while (p < parts && ((work[p * together] + work[(p + 1) * together]) / 2) * threads < all * t) p++;
    shares[t] = t === threads ? parts : p;
  }
  return shares;
}

export interface SlicesShape {
  readonly rows: number;
  readonly columns: number;
  /** Rows of a slice, one or more for each lane. */
  readonly height: number;
  /** Rows have an order inside of periods: it is a buffer. */
  readonly isSorted: boolean;
  readonly period: number;
}

/** Whether slices' sums are the results' vectors, so that they need not wait for their period. */
const isDirect = ({ rows, height, isSorted }: SlicesShape): boolean => !isSorted && rows % height === 0;
/** Slices that go together to a thread, and how many such parts have rows. */
export function partsOf(shape: SlicesShape): { readonly together: number; readonly parts: number } {
  const together = isDirect(shape) ? 1 : shape.period / shape.height;
  return { together, parts: Math.ceil(shape.rows / shape.height / together) };
}

/** A matrix as a kernel reads it. */
export interface SlicedMatrix<Shape extends SlicesShape> {
  readonly shape: Shape;
  /** Where each value is in the matrix, -1: zero. */
  readonly place: Int32Array;
  /** The buffers between the values and the shares. */
  readonly index: readonly (Int32Array | Uint16Array | Uint8Array)[];
  /** Work before each slice, and all. */
  readonly bounds: Int32Array;
  /** What the transposed product reads in place of `index`, if it was asked for, and what it takes one by one. */
  readonly turned: {
    readonly index: readonly (Int32Array | Uint16Array | Uint8Array)[];
    readonly extras: readonly (readonly Extra[])[];
  } | null;
}

/** A nonzero that the transposed product takes by itself: where its value is, its row, its column. */
export interface Extra {
  readonly slot: number;
  readonly row: number;
  readonly column: number;
}

/** Slices with those beyond the last row. */
export const sliceCount = ({ rows, height }: SlicesShape): number => (periodsOf(rows) * PERIOD) / height;

/** Writes the sums of one slice of rows, from a copy of the vector at the start of a buffer. */
export interface SliceCode {
  /** How far it may read the vector, in vectors; after the vector's end there is one of zeros. */
  readonly reach: number;
  /** How the vector lies; null: as it is. */
  readonly halves: Halves | null;
  /** Rows shorter than others multiply zeros by elements that are not theirs: where the vector is not finite, such products must be left out. */
  readonly fillsUp: boolean;
  /** Once for each thread: before the vector is copied, and after it. */
  prepare(): void;
  ready(vector: number): void;
  /** A vector of sums for each row of a lane. */
  sums(slice: Int, vector: number, allFinite: boolean): readonly Vec[];
}

/** Low halves of elements, and so many bytes further the high ones. */
export interface Halves {
  readonly plane: number;
  /** Each vector of elements has a line: its own halves and the next one's, in turns, so that what begins at any vector lies across no lines. */
  readonly isTwice: boolean;
}

/** A vector and a vector of zeros after it, in bytes. */
export const copiedBytes = (count: number, lanes: number): number => (Math.ceil(count / lanes) + 1) * lanes * 4;

/** Where a vector goes. */
interface Copied {
  readonly x: number;
  readonly count: number;
  readonly scratch: number;
  readonly flag: number | null;
  readonly halves?: Halves | null;
}

/** A vector to the start of scratch, zeros after it, or its halves, as SliceCode has it. Where a place for a flag is given, returns less than 0 if an element is not finite. */
export function copyVector(b: KernelBuilder, { x, count, scratch, flag, halves = null }: Copied): Int {
  const { lanes } = b;
  const whole = count - (count % lanes);
  const end = Math.ceil(count / lanes) * lanes;
  const zero = b.op("mov", b.f32(0)); // x − x is 0 for finite ones, else NaN
  const load = (at: Int, some = lanes): Vec => b.load(x, times(at, 4), some);
  const store = (v: Vec, at: Int, next: () => Vec | null): void => {
    if (!halves) b.store(v, scratch, times(at, 4));
    else if (halves.isTwice) storeInTurns(b, v, next(), scratch, at, halves);
    else storeHalves(b, v, scratch, at, halves);
    if (flag !== null) b.op("add", zero, b.op("sub", v, v), undefined, zero);
  };
  const last = Math.max(0, whole - lanes);
  b.loop(0, last, lanes, (k) => store(load(k), k, () => load(plus(k, lanes))));
  for (let k = last; k < end; k += lanes) {
    const some = Math.min(lanes, count - k);
    store(load(k, some), k, () => (k + lanes < end ? load(k + lanes, Math.min(lanes, count - k - lanes)) : null));
  }
  if (!halves) b.store(b.f32(0), scratch, end * 4);
  if (flag === null) return 0;
  const isNan = b.op("isnan", b.op("sumlanes", zero));
  b.store(isNan, scratch, flag, 1, "i32");
  return b.loadInt(scratch, flag, "i32", -1, 0);
}

function storeHalves(b: KernelBuilder, v: Vec, scratch: number, at: Int, { plane }: Halves): void {
  b.store(v, scratch, times(at, 2), b.lanes, "i16");
  b.store(shifted(b, "iushr", v), scratch, plus(times(at, 2), plane), b.lanes, "i16");
}

function storeInTurns(b: KernelBuilder, v: Vec, next: Vec | null, scratch: number, at: Int, { plane }: Halves): void {
  const mask = b.i32(0xffff);
  const low = b.op("and", v, mask);
  const high = shifted(b, "iushr", v);
  b.store(next ? b.op("or", low, shifted(b, "ishl", next)) : low, scratch, times(at, 4));
  b.store(next ? b.op("or", high, b.op("andnot", mask, next)) : high, scratch, plus(times(at, 4), plane));
}

const shifted = (b: KernelBuilder, op: "ishl" | "iushr", v: Vec): Vec => b.op(op, v, undefined, undefined, undefined, 16);

/** Completes a kernel whose first buffers hold the matrix. Buffers after them: order if there is one, shares, vector, the epilogue's inputs, output. */
export function slicesKernel(b: KernelBuilder, shape: SlicesShape, epilogue: Epilogue, slices: SliceCode): Kernel {
  const { rows, columns, height, isSorted, period } = shape;
  const { lanes, threads } = b;
  const { together, parts } = partsOf(shape);
  const perPeriod = period / lanes;
  const order = isSorted ? b.buffer("order", 4 * periodsOf(rows) * PERIOD, "read") : -1;
  const shares = b.buffer("shares", 4 * (threads + 1), "read");
  const x = b.buffer("x", 4 * columns, "read");
  const code = new EpilogueCode(b, epilogue, rows);
  // The vector and zeros after it, then a period's results.
  const { halves } = slices;
  const results = halves ? 2 * halves.plane : Math.max(copiedBytes(columns, lanes), slices.reach * lanes * 4);
  const scratch = b.buffer("scratch", results + period * 4, "scratch");

  const storeTile = (found: Vec, row: Int, count: number): void =>
    code.storeTile([[found]], { row: 0, rowStep: 1, column: () => row, lanesOf: () => count });
  const sumSlice = (slice: Int, finite: Int, take: (sum: Vec, row: number) => void): void => {
    const some = (allFinite: boolean): void => {
      for (const [i, sum] of slices.sums(slice, scratch, allFinite).entries()) take(sum, i * lanes);
    };
    if (slices.fillsUp)
      b.when(finite, 0, () => some(false), () => some(true)); // biome-ignore format: one idea
    else some(true);
  };
  const storeRows = (row: Int, inPeriod: Int, count: number): void => {
    const found = isSorted
      ? b.gather(scratch, results, b.load(order, times(row, 4), count, "i32"), period, count)
      : b.load(scratch, plus(results, times(inPeriod, 4)), count);
    storeTile(found, row, count);
  };
  const wholeVectors = Math.floor(rows / lanes);
  const rest = rows % lanes;
  b.parallel(threads, (thread) => {
    const from = b.loadInt(shares, times(thread, 4), "i32", 0, parts);
    const to = b.loadInt(shares, plus(times(thread, 4), 4), "i32", 0, parts);
    slices.prepare();
    const finite = copyVector(b, { x, count: columns, scratch, flag: slices.fillsUp ? results : null, halves });
    slices.ready(scratch);
    if (isDirect(shape)) {
      b.loop(from, to, 1, (slice) => sumSlice(slice, finite, (sum, row) => storeTile(sum, plus(times(slice, height), row), lanes)));
      return;
    }
    b.loop(from, to, 1, (part) => {
      b.loop(0, together, 1, (s) =>
        sumSlice(plus(times(part, together), s), finite, (sum, row) =>
          b.store(sum, scratch, plus(results + row * 4, times(s, height * 4))),
        ),
      );
      const first = times(part, perPeriod);
      if (wholeVectors > 0)
        b.loop(0, b.min(plus(wholeVectors, times(first, -1)), perPeriod), 1, (s) => {
          const vector = b.min(plus(first, s), wholeVectors - 1);
          storeRows(times(vector, lanes), times(s, lanes), lanes);
        });
      if (rest > 0) b.when(parts - 2, part, () => storeRows(wholeVectors * lanes, (wholeVectors % perPeriod) * lanes, rest));
    });
  });
  return b.build();
}
