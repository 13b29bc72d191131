// Sparse matrix times one vector without gathers: lanes are rows, and what they take in one step lies within as many columns as two registers hold.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import type { Csb } from "../sparse/csb.ts";
import type { Epilogue } from "./epilogue.ts";
import { march, type Queue, queueOf, type Taken } from "./sparse_march.ts";
import {
  type Extra,
  type Rows,
  type SlicedMatrix,
  type Slices,
  type SlicesShape,
  sliceCount,
  slicesByLength,
  slicesInOrder,
  slicesKernel,
} from "./sparse_slices.ts";

/** Steps whose codes share a vector, with one row of a lane and with two: five bits each where tables have 32 lanes, and one more that says which row. */
const BUNDLE = [6, 5] as const;
/** Windows of a bundle: windows cost loads, steps in which few lanes find something cost steps. */
const WINDOWS = [1, 2, 3, 5, 6] as const;
/** What a window costs, in steps, and a step with two rows of a lane, of 16 lanes and of fewer: measured on Zen 5. */
const WINDOW_COST = 0.5;
const TWO_ROWS_COST = { wide: 1.1, narrow: 1.75 } as const;
/** Slices that the number of steps is chosen by. */
const SAMPLED = 8;
/** Rows are sorted where that saves more than putting results back into their order costs. */
const SORTING_GAIN = 0.97;
/** Values are packed, which takes half as long again from caches, where they probably come from memory and that saves bytes: they alone, or with zeros the matrix, would fill so many second-level caches. */
const STREAMED_CACHES = 2;
const WORTH_PACKING = 0.85;
const LARGE_CACHES = 4;
const WORTH_PACKING_LARGE = 0.75;
/** Bytes that values and codes are fetched ahead. */
const AHEAD = 8192;

export interface WindowsShape extends SlicesShape {
  readonly walk: "windows";
  readonly bundles: number;
  /** Windows of each bundle. */
  readonly windows: number;
  /** Values; packed, if lanes without one have none, else a vector for each step. */
  readonly length: number;
  readonly isPacked: boolean;
}

/** Steps of all slices. */
export const windowSteps = ({ bundles, height }: WindowsShape, lanes: number): number => bundles * BUNDLE[height / lanes - 1];

/** Bytes of a bundle's record: where each window starts, in vectors; packed, also where its values start, bits of lanes for each step, and how many values come before each step but the first. */
interface RecordLayout {
  readonly starts: number;
  readonly values: number;
  readonly bits: number;
  readonly offsets: number;
  readonly bytes: number;
}

function recordLayout({ windows, isPacked }: WindowsShape, bundle: number, startBytes: number): RecordLayout {
  const values = startBytes * windows;
  const bits = values + 4;
  const offsets = bits + 2 * bundle;
  return { starts: 0, values, bits, offsets, bytes: isPacked ? offsets + bundle - 1 : values };
}
/** Where a window starts is a byte if that can say it. */
const startBytesOf = (columns: number, lanes: number): number => (columns <= BYTES * lanes ? 1 : 2);
const BYTES = 256;

/** How rows are cut into slices and steps into windows. */
export interface WindowsPlan extends Slices {
  readonly height: number;
  readonly windows: number;
  /** Bundles before each slice, and all. */
  readonly bounds: Int32Array;
  /** Steps of a bundle. */
  readonly bundle: number;
  /** Columns of a step are apart, as the transposed product wants them. */
  readonly apart: boolean;
}

/** The plan that some slices say is the best: rows in their order or by length (not where columns are apart), one or two of a lane, windows. */
export function planWindows(count: number, rows: Rows, lanes: number, apart: boolean): WindowsPlan {
  let best = { cost: Number.POSITIVE_INFINITY, height: lanes, windows: 1, bundle: 1, cut: slicesInOrder(count, lanes) };
  const twoRows = lanes === 16 ? TWO_ROWS_COST.wide : TWO_ROWS_COST.narrow;
  for (const isSorted of apart ? [false] : [false, true])
    for (const [extra, bundle] of BUNDLE.entries()) {
      const height = lanes * (extra + 1);
      const cut = isSorted ? slicesByLength(count, rows, height) : slicesInOrder(count, height);
      const sample = sampleOf(rows, cut.slices, lanes);
      for (const windows of WINDOWS) {
        if (windows > bundle) continue;
        const steps = sample.reduce((sum, queue) => sum + march(queue, lanes, bundle / windows, apart), 0);
        const cost = steps * ((extra === 0 ? 1 : twoRows) + (WINDOW_COST * windows) / bundle) * (isSorted ? 1 : SORTING_GAIN);
        if (cost < best.cost) best = { cost, height, windows, bundle, cut };
      }
    }
  const { height, windows, bundle, cut } = best;
  const { slices, order } = cut;
  const bounds = new Int32Array(slices.length + 1);
  for (const [s, slice] of slices.entries())
    bounds[s + 1] = bounds[s] + Math.ceil(march(queueOf(rows, slice, lanes), lanes, bundle / windows, apart) / bundle);
  return { slices, order, height, windows, bounds, bundle, apart };
}

/** How many steps a plan has. */
export const stepsOf = ({ bounds, bundle }: WindowsPlan): number => bounds[bounds.length - 1] * bundle;

export function windowsOf(w: Csb, rows: Rows, plan: WindowsPlan, { lanes, l2, expandsLoads }: SimdTarget): SlicedMatrix<WindowsShape> {
  const { slices, order, height, windows, bounds } = plan;
  const slots = stepsOf(plan) * lanes;
  const filled = w.values.length / slots;
  const isStreamed = 4 * slots > STREAMED_CACHES * l2 && filled < WORTH_PACKING;
  const isLarge = 4 * w.rows * w.columns >= LARGE_CACHES * l2 && filled < WORTH_PACKING_LARGE;
  const isPacked = expandsLoads === true && (isStreamed || isLarge);
  const shape: WindowsShape = {
    walk: "windows",
    rows: w.rows,
    columns: w.columns,
    height,
    isSorted: order !== null,
    bundles: bounds[slices.length],
    windows,
    // The last steps may read as far beyond packed values as their offsets and a vector reach.
    length: isPacked ? w.values.length + BYTES + lanes : slots,
    isPacked,
  };
  const writer = new WindowsWriter(lanes, shape, plan.apart);
  const extras = slices.map((slice, s) => writer.slice(rows, slice, bounds[s], bounds[s + 1]));
  const { code, turnedCode, records, place } = writer;
  const turned = turnedCode && { index: [turnedCode, records, bounds], extras };
  return { shape, place, index: [code, records, bounds, ...(order ? [order] : [])], bounds, turned };
}

/** Some slices, of as many rows whatever their height. */
function sampleOf(rows: Rows, slices: readonly Int32Array[], lanes: number): readonly Queue[] {
  const count = Math.min(slices.length, (SAMPLED * lanes) / slices[0].length);
  return Array.from({ length: count }, (_, i) => queueOf(rows, slices[Math.floor((i * slices.length) / count)], lanes));
}

class WindowsWriter {
  /** Columns of a bundle's steps in their windows, and the row, of each lane. */
  readonly code: Int32Array;
  /** For columns modulo lanes, where they are apart: whose lane's product they get, and, from the top, which half of the window they are in. */
  readonly turnedCode: Int32Array | null;
  /** A record for each bundle. */
  readonly records: Uint8Array;
  readonly place: Int32Array;
  private readonly bundle: number;
  private readonly layout: RecordLayout;
  private readonly startBytes: number;
  private next = 0;

  constructor(
    private readonly lanes: number,
    private readonly shape: WindowsShape,
    apart: boolean,
  ) {
    this.bundle = BUNDLE[shape.height / lanes - 1];
    this.startBytes = startBytesOf(shape.columns, lanes);
    this.layout = recordLayout(shape, this.bundle, this.startBytes);
    this.code = new Int32Array(shape.bundles * lanes);
    this.turnedCode = apart ? this.code.slice() : null;
    this.records = new Uint8Array(shape.bundles * this.layout.bytes);
    this.place = new Int32Array(shape.length).fill(-1);
  }

  /** Returns nonzeros that the turned code does not have. */
  slice(rows: Rows, slice: Int32Array, first: number, end: number): readonly Extra[] {
    const { lanes, layout, startBytes, code, bundle, turnedCode } = this;
    const { windows, height } = this.shape;
    const view = new DataView(this.records.buffer, first * layout.bytes);
    const taken: (Taken | undefined)[] = new Array((end - first) * bundle * lanes).fill(undefined);
    const bits = codeBits(lanes, height);
    march(queueOf(rows, slice, lanes), lanes, bundle / windows, turnedCode !== null, {
      window: (window, column) => {
        const at = Math.floor(window / windows) * layout.bytes + layout.starts + startBytes * (window % windows);
        if (startBytes === 1) view.setUint8(at, column / lanes);
        else view.setUint16(at, column / lanes, true);
      },
      take: (one) => {
        const { step, lane, row, column } = one;
        taken[step * lanes + lane] = one;
        code[(first + Math.floor(step / bundle)) * lanes + lane] |= (row * 2 * lanes + column) << (bits * (step % bundle));
      },
    });
    if (turnedCode) this.turn(taken, first, turnedCode);
    const found = taken.map((one) => (one ? rows.place[one.i] : -1));
    const slots = this.shape.isPacked ? this.pack(found, view) : this.put(found, first * bundle * lanes);
    return taken.flatMap((one, at) =>
      one?.isExtra ? [{ slot: slots[at], row: slice[one.row * lanes + one.lane], column: rows.column[one.i] }] : [],
    );
  }

  /** Columns that none of a step's products belong to get one that is zero. */
  private turn(taken: readonly (Taken | undefined)[], first: number, turned: Int32Array): void {
    const { lanes, bundle } = this;
    const bits = turnedBits(this.shape.height);
    for (let from = 0, step = 0; from < taken.length; from += lanes, step++) {
      const at = (first + Math.floor(step / bundle)) * lanes;
      const s = step % bundle;
      const isFree = new Array(lanes).fill(true);
      let empty = 0;
      for (let lane = 0; lane < lanes; lane++) {
        const one = taken[from + lane];
        if (!one) empty = lane;
        if (!one || one.isExtra) continue;
        const cls = one.column % lanes;
        isFree[cls] = false;
        turned[at + cls] |= ((one.row * lanes + lane) << (bits * s)) | (one.column >= lanes ? 1 << (31 - s) : 0);
      }
      for (let cls = 0; cls < lanes; cls++) if (isFree[cls]) turned[at + cls] |= empty << (bits * s);
    }
  }

  private put(found: readonly number[], first: number): readonly number[] {
    this.place.set(found, first);
    return found.map((_, i) => first + i);
  }

  /** Where each is among the values. */
  private pack(found: readonly number[], view: DataView): readonly number[] {
    const { lanes, layout, place, bundle } = this;
    const slots = found.map(() => -1);
    for (let step = 0, start = 0; step * lanes < found.length; step++) {
      const record = Math.floor(step / bundle) * layout.bytes;
      const s = step % bundle;
      if (s === 0) {
        start = this.next;
        view.setInt32(record + layout.values, start, true);
      } else view.setUint8(record + layout.offsets + s - 1, this.next - start);
      let bits = 0;
      for (let lane = 0; lane < lanes; lane++) {
        const at = step * lanes + lane;
        if (found[at] < 0) continue;
        bits |= 1 << lane;
        slots[at] = this.next;
        place[this.next++] = found[at];
      }
      view.setUint16(record + layout.bits + 2 * s, bits, true);
    }
    return slots;
  }
}

/** Bits of a step's code: a lane of two vectors, then which row. */
const codeBits = (lanes: number, height: number): number => Math.log2(2 * lanes) + height / lanes - 1;

/** Bits of a step's turned code: a lane, then which of its rows. */
export const turnedBits = (height: number): number => Math.log2(height);

const LINE = 64;
/** Sums of each row, so that additions do not wait for one another. */
const SUMS = 3;

/** Bundles as a kernel reads them. */
export interface Bundles {
  /** Steps of one. */
  readonly size: number;
  /** How far windows reach, in vectors. */
  readonly reach: number;
  /** 32 bits for each lane. */
  code(i: Int): Vec;
  /** The values of its steps, zeros in lanes that have none. */
  values(i: Int): (s: number) => Vec;
  /** The window that begins with a step, in vectors; null: the one before goes on. */
  windowAt(i: Int, s: number): Int | null;
  /** Each bundle of a slice. */
  overSlice(slice: Int, body: (i: Int) => void): void;
}

/** Buffers: values, codes, records, bounds. */
export function readBundles(b: KernelBuilder, shape: WindowsShape): Bundles {
  const { columns, height, bundles, windows, length, isPacked } = shape;
  const { lanes } = b;
  const size = BUNDLE[height / lanes - 1];
  const startBytes = startBytesOf(columns, lanes);
  const layout = recordLayout(shape, size, startBytes);
  const values = b.buffer("values", 4 * length, "read");
  const codes = b.buffer("codes", 4 * bundles * lanes, "read");
  const records = b.buffer("records", bundles * layout.bytes, "read");
  const bounds = b.buffer("bounds", 4 * (sliceCount(shape) + 1), "read");
  // A start that is a byte needs no check: as far as it can reach there is memory.
  const lastStart = startBytes === 1 ? BYTES - 1 : Math.ceil(columns / lanes) - 1;
  const fetchAhead = (i: Int, start: Int): void => {
    const lines = Math.ceil((4 * length) / bundles / LINE);
    for (let line = 0; line < lines; line++) b.prefetch(values, plus(times(start, 4), AHEAD + line * LINE));
    b.prefetch(codes, plus(times(i, 4 * lanes), AHEAD));
  };
  const begins = Array.from({ length: windows }, (_, window) => Math.round((window * size) / windows));
  return {
    size,
    reach: lastStart + 2,
    code: (i) => b.load(codes, times(i, 4 * lanes), lanes, "i32"),
    values: (i) => {
      if (!isPacked) {
        fetchAhead(i, times(i, lanes * size));
        return (s) => b.load(values, plus(times(i, 4 * lanes * size), s * lanes * 4));
      }
      const record = times(i, layout.bytes);
      const start = b.loadInt(records, plus(record, layout.values), "i32", 0, length - BYTES - lanes);
      fetchAhead(i, start);
      return (s) => {
        const offset = s === 0 ? 0 : b.loadInt(records, plus(record, layout.offsets + s - 1), "u8", 0, BYTES - 1);
        return b.expand(values, plus(times(start, 4), times(offset, 4)), records, plus(record, layout.bits + 2 * s));
      };
    },
    windowAt: (i, s) => {
      const window = begins.indexOf(s);
      if (window < 0) return null;
      const at = plus(times(i, layout.bytes), layout.starts + window * startBytes);
      return b.loadInt(records, at, startBytes === 1 ? "u8" : "u16", 0, lastStart);
    },
    overSlice: (slice, body) => {
      const from = b.loadInt(bounds, times(slice, 4), "i32", 0, bundles);
      const to = b.loadInt(bounds, plus(times(slice, 4), 4), "i32", 0, bundles);
      b.loop(from, to, 1, body);
    },
  };
}

/** Buffers: values, codes, records, bounds, then those of slicesKernel. */
export function windowsKernel(name: string, shape: WindowsShape, epilogue: Epilogue, target: SimdTarget, threads: number): Kernel {
  const { height } = shape;
  const { lanes } = target;
  const bits = codeBits(lanes, height);
  const b = new KernelBuilder(name, target, threads);
  const bundles = readBundles(b, shape);
  const tableOf = (vector: number, start: Int): Vec[] =>
    [0, 1].map((half) => b.load(vector, plus(times(start, lanes * 4), half * lanes * 4)));
  /** The parts of a step's values that belong to each row of the lanes. */
  const byRow = (value: Vec, packed: Vec, s: number): Vec[] => {
    if (height === lanes) return [value];
    // The bit that says which row becomes the sign, and then all bits.
    const sign = b.op("ishl", packed, undefined, undefined, undefined, 32 - bits * (s + 1));
    const isSecond = b.op("ishr", sign, undefined, undefined, sign, 31);
    return [b.op("andnot", isSecond, value), b.op("and", isSecond, value)];
  };
  const bundle = (vector: number, i: Int, sums: readonly Vec[][], allFinite: boolean): void => {
    const packed = bundles.code(i);
    const step = bundles.values(i);
    let table: Vec[] = [];
    for (let s = 0; s < bundles.size; s++) {
      const start = bundles.windowAt(i, s);
      if (start !== null) table = tableOf(vector, start);
      const index = s === 0 ? b.op("mov", packed) : b.op("iushr", packed, undefined, undefined, undefined, bits * s);
      const found = b.op("lookup", table[0], table[1], index, index);
      for (const [row, value] of byRow(step(s), packed, s).entries()) {
        const kept = allFinite ? found : b.op("select", found, b.f32(0), b.op("ne", value, b.f32(0)));
        b.accumulate(sums[row][s % SUMS], kept, value);
      }
    }
  };
  const sums = (slice: Int, vector: number, allFinite: boolean): Vec[] => {
    const parts = Array.from({ length: height / lanes }, () => Array.from({ length: SUMS }, () => b.op("mov", b.f32(0))));
    bundles.overSlice(slice, (i) => bundle(vector, i, parts, allFinite));
    return parts.map((row) => row.reduce((all, v) => b.op("add", all, v)));
  };
  return slicesKernel(b, shape, epilogue, { reach: bundles.reach, fillsUp: true, sums });
}
