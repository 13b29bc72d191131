// Sparse matrix times one vector: slices of as many rows as a vector has lanes, rows sorted by length inside windows (SELL-C-σ, Kreutzer et al. 2014).
import { HeddleError } from "../ir/error.ts";
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import type { Csb } from "../sparse/csb.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";

/** Rows that are sorted by length: one thread works on them all, and puts the results back into their order. */
const WINDOW = 128;
/** Columns are 16-bit numbers, and one more names the zero that shorter rows are filled up with. */
const MAX_COLUMNS = 65535;

export interface Slices {
  readonly rows: number;
  readonly columns: number;
  readonly lanes: number;
  /** Where each slice starts, in vectors, and the end. */
  readonly bounds: Int32Array;
  readonly column: Uint16Array;
  /** Where each value is in the matrix, -1: zero. */
  readonly place: Int32Array;
  /** Of each row, its place in its window. */
  readonly order: Int32Array;
}

export function slicesOf(w: Csb, lanes: number): Slices {
  if (w.columns > MAX_COLUMNS) throw new HeddleError("unsupported", `sparse product: ${w.columns} columns, wanted at most ${MAX_COLUMNS}`);
  const rows = rowsOf(w);
  const length = (r: number): number => (r < w.rows ? rows.starts[r + 1] - rows.starts[r] : 0);
  const windows = Math.ceil(w.rows / WINDOW);
  const order = new Int32Array(windows * WINDOW);
  const slices: number[][] = [];
  for (let first = 0; first < windows * WINDOW; first += WINDOW) {
    const sorted = Array.from({ length: WINDOW }, (_, i) => first + i).sort((x, y) => length(y) - length(x) || x - y);
    for (const [i, r] of sorted.entries()) order[r] = i;
    for (let i = 0; i < WINDOW; i += lanes) slices.push(sorted.slice(i, i + lanes));
  }
  const bounds = new Int32Array(slices.length + 1);
  for (const [i, slice] of slices.entries()) bounds[i + 1] = bounds[i] + length(slice[0]);
  const column = new Uint16Array(bounds[slices.length] * lanes).fill(w.columns);
  const place = new Int32Array(column.length).fill(-1);
  for (const [s, slice] of slices.entries())
    for (const [lane, r] of slice.entries())
      for (let i = 0; i < length(r); i++) {
        const to = (bounds[s] + i) * lanes + lane;
        column[to] = rows.column[rows.starts[r] + i];
        place[to] = rows.place[rows.starts[r] + i];
      }
  return { rows: w.rows, columns: w.columns, lanes, bounds, column, place, order };
}

/** Rows of the whole matrix, block column after block column. */
function rowsOf(w: Csb): { readonly starts: Int32Array; readonly column: Uint16Array; readonly place: Int32Array } {
  const starts = new Int32Array(w.rows + 1);
  const visit = (f: (row: number, column: number, i: number) => void): void => {
    for (let r = 0, b = 0; r < w.blockRows; r++)
      for (let c = 0; c < w.blockColumns; c++, b++)
        for (let i = w.pointers[b]; i < w.pointers[b + 1]; i++) f(r * w.block + w.row[i], c * w.block + w.column[i], i);
  };
  visit((row) => starts[row + 1]++);
  for (let r = 0; r < w.rows; r++) starts[r + 1] += starts[r];
  const next = starts.slice();
  const column = new Uint16Array(w.values.length);
  const place = new Int32Array(w.values.length);
  visit((row, c, i) => {
    const to = next[row]++;
    column[to] = c;
    place[to] = i;
  });
  return { starts, column, place };
}

/** Windows of rows that each thread works on, equal in nonzeros: thread t has [shares[t], shares[t + 1]). */
export function shareWindows({ bounds, lanes }: Slices, threads: number): Int32Array {
  const perWindow = WINDOW / lanes;
  const windows = (bounds.length - 1) / perWindow;
  const all = bounds[bounds.length - 1];
  const shares = new Int32Array(threads + 1);
  for (let t = 1, w = 0; t <= threads; t++) {
    while (w < windows && ((bounds[w * perWindow] + bounds[(w + 1) * perWindow]) / 2) * threads < all * t) w++;
    shares[t] = t === threads ? windows : w;
  }
  return shares;
}

export interface SparseVectorShape {
  readonly rows: number;
  readonly columns: number;
  /** Nonzeros with what slices are filled up with, in vectors. */
  readonly length: number;
}

export const sparseVectorShape = (s: Slices): SparseVectorShape => ({
  rows: s.rows,
  columns: s.columns,
  length: s.bounds[s.bounds.length - 1],
});

/** Steps written out one after another. */
const UNROLL = 4;

/** Buffers: values and columns in the order of slices, bounds, order, shares, vector, the epilogue's inputs, output. */
export function sparseVectorKernel(
  name: string,
  shape: SparseVectorShape,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
): Kernel {
  const { rows, columns, length } = shape;
  const { lanes } = target;
  const b = new KernelBuilder(name, target, threads);
  const windows = Math.ceil(rows / WINDOW);
  const perWindow = WINDOW / lanes;
  const values = b.buffer("values", 4 * length * lanes, "read");
  const column = b.buffer("columns", 2 * length * lanes, "read");
  const bounds = b.buffer("bounds", 4 * (windows * perWindow + 1), "read");
  const order = b.buffer("order", 4 * windows * WINDOW, "read");
  const shares = b.buffer("shares", 4 * (threads + 1), "read");
  const x = b.buffer("x", 4 * columns, "read");
  const code = new EpilogueCode(b, epilogue, rows);
  // The vector and a zero after it, then a window's results.
  const results = Math.ceil((columns + 1) / lanes) * lanes * 4;
  const scratch = b.buffer("scratch", results + WINDOW * 4, "scratch");

  const copyVector = (): void => {
    const whole = columns - (columns % lanes);
    b.loop(0, whole, lanes, (k) => b.store(b.load(x, times(k, 4)), scratch, times(k, 4)));
    // Lanes beyond the rest are zeros: at least one is left.
    b.store(whole < columns ? b.load(x, whole * 4, columns - whole) : b.f32(0), scratch, whole * 4);
  };
  const step = (i: Int, sum: Vec): void => {
    const index = b.load(column, times(i, 2 * lanes), lanes, "u16");
    b.accumulate(sum, b.gather(scratch, 0, index, columns + 1), b.load(values, times(i, 4 * lanes)));
  };
  const slice = (window: Int, s: Int): void => {
    const at = plus(times(window, perWindow * 4), times(s, 4));
    const from = b.loadInt(bounds, at, "i32", 0, length);
    const to = b.loadInt(bounds, plus(at, 4), "i32", 0, length);
    const sums = Array.from({ length: UNROLL }, () => b.op("mov", b.f32(0)));
    const count = b.max(b.set(plus(to, times(from, -1))), 0);
    const whole = b.min(plus(from, times(b.div(count, UNROLL), UNROLL)), length);
    b.loop(from, plus(whole, 1 - UNROLL), UNROLL, (i) => {
      for (const [u, sum] of sums.entries()) step(plus(i, u), sum);
    });
    b.loop(whole, to, 1, (i) => step(i, sums[0]));
    const [s0, s1, s2, s3] = sums;
    b.store(b.op("add", b.op("add", s0, s1), b.op("add", s2, s3)), scratch, plus(results, times(s, lanes * 4)));
  };
  const storeRows = (row: Int, count: number): void => {
    const places = b.load(order, times(row, 4), count, "i32");
    const sum = b.gather(scratch, results, places, WINDOW, count);
    code.storeTile([[sum]], { row: 0, rowStep: 1, column: () => row, lanesOf: () => count });
  };
  const wholeRows = rows - (rows % lanes);
  b.parallel(threads, (thread) => {
    const from = b.loadInt(shares, times(thread, 4), "i32", 0, windows);
    const to = b.loadInt(shares, plus(times(thread, 4), 4), "i32", 0, windows);
    copyVector();
    b.loop(from, to, 1, (window) => {
      b.loop(0, perWindow, 1, (s) => slice(window, s));
      const first = times(window, perWindow);
      if (wholeRows > 0) b.loop(first, b.min(plus(first, perWindow), wholeRows / lanes), 1, (s) => storeRows(times(s, lanes), lanes));
      if (wholeRows < rows) b.when(windows - 2, window, () => storeRows(wholeRows, rows - wholeRows));
    });
  });
  return b.build();
}
