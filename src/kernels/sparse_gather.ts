// Sparse matrix times one vector by gathering: rows sorted by length, each lane of a slice runs through its own (SELL-C-σ, Kreutzer et al. 2014).
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { INT_RANGE } from "../ir/kernel_ops.ts";
import type { Csb } from "../sparse/csb.ts";
import type { Epilogue } from "./epilogue.ts";
import { type Rows, type SlicedMatrix, type Slices, type SlicesShape, sliceCount, slicesKernel } from "./sparse_slices.ts";

export interface GatheredShape extends SlicesShape {
  readonly walk: "gathered";
  /** Nonzeros with what slices are filled up with, in vectors. */
  readonly length: number;
}

/** Vectors before each slice, and all: as many as its longest row has nonzeros. */
export function gatheredBounds({ starts }: Rows, slices: readonly Int32Array[]): Int32Array {
  const bounds = new Int32Array(slices.length + 1);
  for (const [s, slice] of slices.entries())
    bounds[s + 1] = bounds[s] + slice.reduce((most, r) => (r + 1 < starts.length ? Math.max(most, starts[r + 1] - starts[r]) : most), 0);
  return bounds;
}

export function gatheredOf(
  w: Csb,
  rows: Rows,
  { slices, order, period }: Slices,
  lanes: number,
  withTurned: boolean,
): SlicedMatrix<GatheredShape> {
  const bounds = gatheredBounds(rows, slices);
  const length = bounds[slices.length];
  const column = new Uint16Array(length * lanes).fill(w.columns);
  const place = new Int32Array(column.length).fill(-1);
  for (const [s, slice] of slices.entries())
    for (const [lane, r] of slice.entries()) {
      if (r >= w.rows) continue;
      const first = rows.starts[r];
      for (let i = first; i < rows.starts[r + 1]; i++) {
        const to = (bounds[s] + i - first) * lanes + lane;
        column[to] = rows.column[i];
        place[to] = rows.place[i];
      }
    }
  const turned = withTurned ? { index: [column, bounds, Int32Array.from(slices.flatMap((slice) => [...slice]))], extras: [] } : null;
  const shape = { walk: "gathered" as const, rows: w.rows, columns: w.columns, height: lanes, isSorted: order !== null, period, length };
  return { shape, place, index: [column, bounds, ...(order ? [order] : [])], bounds, turned };
}

/** Steps written out one after another. */
const UNROLL = 4;

/** Buffers: values and columns in the order of slices, bounds, then those of slicesKernel. */
export function gatheredKernel(name: string, shape: GatheredShape, epilogue: Epilogue, target: SimdTarget, threads: number): Kernel {
  const { columns, length } = shape;
  const { lanes } = target;
  const b = new KernelBuilder(name, target, threads);
  const values = b.buffer("values", 4 * length * lanes, "read");
  const column = b.buffer("columns", 2 * length * lanes, "read");
  const bounds = b.buffer("bounds", 4 * (sliceCount(shape) + 1), "read");
  const step = (vector: number, i: Int, sum: Vec): void => {
    const index = b.load(column, times(i, 2 * lanes), lanes, "u16");
    b.accumulate(sum, b.gather(vector, 0, index, columns + 1), b.load(values, times(i, 4 * lanes)));
  };
  // Shorter rows are filled up with the zero that lies after the vector.
  const sums = (slice: Int, vector: number): Vec[] => {
    const from = b.loadInt(bounds, times(slice, 4), "i32", 0, length);
    const to = b.loadInt(bounds, plus(times(slice, 4), 4), "i32", 0, length);
    const parts = Array.from({ length: UNROLL }, () => b.op("mov", b.f32(0)));
    const count = b.max(b.set(plus(to, times(from, -1))), 0);
    const whole = b.min(plus(from, times(b.div(count, UNROLL), UNROLL)), length);
    b.loop(from, plus(whole, 1 - UNROLL), UNROLL, (i) => {
      for (const [u, sum] of parts.entries()) step(vector, plus(i, u), sum);
    });
    b.loop(whole, to, 1, (i) => step(vector, i, parts[0]));
    const [s0, s1, s2, s3] = parts;
    return [b.op("add", b.op("add", s0, s1), b.op("add", s2, s3))];
  };
  return slicesKernel(b, shape, epilogue, { reach: 0, halves: null, fillsUp: false, prepare: () => {}, ready: () => {}, sums });
}

/** What goes with a slice of the transposed product: lanes' rows, and their nonzeros one by one, as a row's have different columns. */
export interface Spread {
  /** How far it may write sums, in vectors. */
  readonly reach: number;
  /** `vector` and `sums`: bytes of scratch. */
  slice(slice: Int, scratch: number, vector: number, sums: number): void;
}

/** Buffers: values and columns in the order of slices, bounds, rows of slices. */
export function spreadGathered(b: KernelBuilder, shape: GatheredShape): Spread {
  const { length, columns } = shape;
  const { lanes } = b;
  // As a power of two, so that one operation keeps numbers below it.
  const named = Math.max(lanes, 2 ** Math.ceil(Math.log2(columns + 1)));
  const values = b.buffer("values", 4 * length * lanes, "read");
  const column = b.buffer("columns", 2 * length * lanes, "read");
  const bounds = b.buffer("bounds", 4 * (sliceCount(shape) + 1), "read");
  const rows = b.buffer("rows", 4 * sliceCount(shape) * lanes, "read");
  return {
    reach: named / lanes,
    slice: (slice, scratch, vector, sums) => {
      const all = sliceCount(shape) * lanes;
      const factors = Array.from({ length: lanes }, (_, lane) => {
        const row = b.loadInt(rows, plus(times(slice, 4 * lanes), 4 * lane), "i32", 0, all - 1);
        return b.load(scratch, plus(vector, times(row, 4)), 1);
      });
      const from = b.loadInt(bounds, times(slice, 4), "i32", 0, length);
      const to = b.loadInt(bounds, plus(times(slice, 4), 4), "i32", 0, length);
      // Shorter rows are filled up with zeros for what lies after the last column.
      b.loop(from, to, 1, (i) => {
        for (const [lane, factor] of factors.entries()) {
          const c = b.bits(b.loadInt(column, plus(times(i, 2 * lanes), 2 * lane), "u16", ...INT_RANGE.u16), 0, named - 1);
          const sum = b.load(scratch, plus(sums, times(c, 4)), 1);
          b.accumulate(sum, factor, b.load(values, plus(times(i, 4 * lanes), 4 * lane), 1));
          b.store(sum, scratch, plus(sums, times(c, 4)), 1);
        }
      });
    },
  };
}
