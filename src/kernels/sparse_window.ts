// Sparse matrix times one vector without gathers: lanes are rows, and what they take in one step lies within as many columns as two registers hold.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import type { Csb } from "../sparse/csb.ts";
import type { Epilogue } from "./epilogue.ts";
import { type Rows, type SlicedMatrix, type Slices, type SlicesShape, sliceCount, slicesKernel } from "./sparse_slices.ts";

/** Steps whose codes share a vector: five bits each where tables have 32 lanes. */
export const BUNDLE = 6;
/** Steps that share a window: windows cost loads, steps in which few lanes find something cost steps. */
const STEPS = [1, 2, 3, 6] as const;
/** What a window costs, in steps: measured on Zen 5. */
const WINDOW_COST = 0.8;
/** Slices that the number of steps is chosen by. */
const SAMPLED = 8;
/** Rows are sorted where that saves more than putting results back into their order costs. */
const SORTING_GAIN = 0.97;
/** Matrices of more than this many second-level caches may come from memory: their values are packed, and fetched ahead. */
const STREAMED_CACHES = 2;
const WORTH_PACKING = 0.8;
/** Bytes that values and codes are fetched ahead. */
const AHEAD = 8192;

export interface WindowsShape extends SlicesShape {
  readonly walk: "windows";
  readonly bundles: number;
  /** Steps of each window. */
  readonly steps: number;
  /** Values; packed, if lanes without one have none, else six vectors a bundle. */
  readonly length: number;
  readonly isPacked: boolean;
}

/** Bytes of a bundle's record: where each window starts, in vectors; packed, also where its values start, bits of lanes for each step, and how many values come before each step but the first. */
interface RecordLayout {
  readonly starts: number;
  readonly values: number;
  readonly bits: number;
  readonly offsets: number;
  readonly bytes: number;
}

function recordLayout({ steps, isPacked }: Pick<WindowsShape, "steps" | "isPacked">, startBytes: number): RecordLayout {
  const values = startBytes * (BUNDLE / steps);
  const bits = values + 4;
  const offsets = bits + 2 * BUNDLE;
  return { starts: 0, values, bits, offsets, bytes: isPacked ? offsets + BUNDLE - 1 : values };
}
/** Where a window starts is a byte if that can say it. */
const startBytesOf = (columns: number, lanes: number): number => (columns <= BYTES * lanes ? 1 : 2);
const BYTES = 256;

/** How rows are cut into slices and steps into windows. */
export interface WindowsPlan extends Slices {
  /** Steps of each window. */
  readonly steps: number;
  /** Bundles before each slice, and all. */
  readonly bounds: Int32Array;
}

export function planWindows(rows: Rows, sorted: Slices, plain: Slices, lanes: number): WindowsPlan {
  const [steps, isSorted] = choose(rows, sorted, plain, lanes);
  const { slices, order } = isSorted ? sorted : plain;
  const bounds = new Int32Array(slices.length + 1);
  for (const [s, slice] of slices.entries()) bounds[s + 1] = bounds[s] + Math.ceil((march(rows, slice, lanes, steps) * steps) / BUNDLE);
  return { slices, order, steps, bounds };
}

/** How many steps a plan has. */
export const stepsOf = ({ bounds }: WindowsPlan): number => bounds[bounds.length - 1] * BUNDLE;

export function windowsOf(w: Csb, rows: Rows, plan: WindowsPlan, { lanes, l2, expandsLoads }: SimdTarget): SlicedMatrix<WindowsShape> {
  const { slices, order, steps, bounds } = plan;
  const slots = stepsOf(plan) * lanes;
  const isPacked = expandsLoads === true && 4 * slots > STREAMED_CACHES * l2 && w.values.length < WORTH_PACKING * slots;
  const shape: WindowsShape = {
    walk: "windows",
    rows: w.rows,
    columns: w.columns,
    isSorted: order !== null,
    bundles: bounds[slices.length],
    steps,
    // The last steps may read as far beyond packed values as their offsets and a vector reach.
    length: isPacked ? w.values.length + BYTES + lanes : slots,
    isPacked,
  };
  const writer = new WindowsWriter(lanes, shape);
  for (const [s, slice] of slices.entries()) writer.slice(rows, slice, bounds[s], bounds[s + 1]);
  const { code, records, place } = writer;
  return { shape, place, index: [code, records, bounds, ...(order ? [order] : [])], bounds };
}

/** Steps of a window, and whether to sort rows, as some slices have it. */
function choose(rows: Rows, sorted: Slices, plain: Slices, lanes: number): readonly [number, boolean] {
  const costs = (slices: readonly Int32Array[]): number[] =>
    STEPS.map((steps) => {
      let windows = 0;
      for (let i = 0; i < SAMPLED; i++) windows += march(rows, slices[Math.floor((i * slices.length) / SAMPLED)], lanes, steps);
      return windows * (steps + WINDOW_COST);
    });
  const [bySorted, byPlain] = [costs(sorted.slices), costs(plain.slices)];
  const isSorted = Math.min(...bySorted) < SORTING_GAIN * Math.min(...byPlain);
  const chosen = isSorted ? bySorted : byPlain;
  return [STEPS[chosen.indexOf(Math.min(...chosen))], isSorted];
}

/** Each window starts at the first column that any row still wants, at a whole vector; each row then takes what lies in it, one nonzero a step. Returns how many windows. */
function march(
  { starts, column }: Rows,
  slice: Int32Array,
  lanes: number,
  steps: number,
  atWindow: (window: number, column: number) => void = () => {},
  take: (step: number, lane: number, column: number, i: number) => void = () => {},
): number {
  const end = slice.map((r) => starts[Math.min(r + 1, starts.length - 1)]);
  const next = slice.map((r) => starts[Math.min(r, starts.length - 1)]);
  for (let window = 0; ; window++) {
    let first = -1;
    for (let l = 0; l < lanes; l++) if (next[l] < end[l] && (first < 0 || column[next[l]] < first)) first = column[next[l]];
    if (first < 0) return window;
    first -= first % lanes;
    atWindow(window, first);
    for (let l = 0; l < lanes; l++)
      for (let s = 0; s < steps && next[l] < end[l] && column[next[l]] < first + 2 * lanes; s++, next[l]++)
        take(window * steps + s, l, column[next[l]] - first, next[l]);
  }
}

class WindowsWriter {
  /** Columns of a bundle's six steps in their windows, of each lane. */
  readonly code: Int32Array;
  /** A record for each bundle. */
  readonly records: Uint8Array;
  readonly place: Int32Array;
  private readonly layout: RecordLayout;
  private readonly startBytes: number;
  private readonly bits: number;
  private next = 0;

  constructor(
    private readonly lanes: number,
    private readonly shape: WindowsShape,
  ) {
    this.startBytes = startBytesOf(shape.columns, lanes);
    this.layout = recordLayout(shape, this.startBytes);
    this.bits = Math.log2(2 * lanes);
    this.code = new Int32Array(shape.bundles * lanes);
    this.records = new Uint8Array(shape.bundles * this.layout.bytes);
    this.place = new Int32Array(shape.length).fill(-1);
  }

  slice(rows: Rows, slice: Int32Array, first: number, end: number): void {
    const { lanes, layout, startBytes, bits, code } = this;
    const { steps, isPacked } = this.shape;
    const view = new DataView(this.records.buffer, first * layout.bytes);
    const found = new Int32Array((end - first) * BUNDLE * lanes).fill(-1);
    march(
      rows,
      slice,
      lanes,
      steps,
      (window, column) => {
        const [bundle, inBundle] = [Math.floor((window * steps) / BUNDLE), window % (BUNDLE / steps)];
        const at = bundle * layout.bytes + layout.starts + startBytes * inBundle;
        if (startBytes === 1) view.setUint8(at, column / lanes);
        else view.setUint16(at, column / lanes, true);
      },
      (step, lane, column, i) => {
        found[step * lanes + lane] = rows.place[i];
        code[(first + Math.floor(step / BUNDLE)) * lanes + lane] |= column << (bits * (step % BUNDLE));
      },
    );
    if (isPacked) this.pack(found, view);
    else this.place.set(found, first * BUNDLE * lanes);
  }

  private pack(found: Int32Array, view: DataView): void {
    const { lanes, layout, place } = this;
    for (let step = 0, start = 0; step * lanes < found.length; step++) {
      const record = Math.floor(step / BUNDLE) * layout.bytes;
      const s = step % BUNDLE;
      if (s === 0) {
        start = this.next;
        view.setInt32(record + layout.values, start, true);
      } else view.setUint8(record + layout.offsets + s - 1, this.next - start);
      let bits = 0;
      for (let lane = 0; lane < lanes; lane++) {
        const from = found[step * lanes + lane];
        if (from < 0) continue;
        bits |= 1 << lane;
        place[this.next++] = from;
      }
      view.setUint16(record + layout.bits + 2 * s, bits, true);
    }
  }
}

const LINE = 64;
/** Sums of each row, so that additions do not wait for one another. */
const SUMS = 3;

/** Buffers: values, codes, records, bounds, then those of slicesKernel. */
export function windowsKernel(name: string, shape: WindowsShape, epilogue: Epilogue, target: SimdTarget, threads: number): Kernel {
  const { rows, columns, bundles, steps, length, isPacked } = shape;
  const { lanes } = target;
  const startBytes = startBytesOf(columns, lanes);
  const layout = recordLayout(shape, startBytes);
  const bits = Math.log2(2 * lanes);
  const b = new KernelBuilder(name, target, threads);
  const values = b.buffer("values", 4 * length, "read");
  const codes = b.buffer("codes", 4 * bundles * lanes, "read");
  const records = b.buffer("records", bundles * layout.bytes, "read");
  const bounds = b.buffer("bounds", 4 * (sliceCount(rows, lanes) + 1), "read");
  // A start that is a byte needs no check: as far as it can reach there is memory.
  const lastStart = startBytes === 1 ? BYTES - 1 : Math.ceil(columns / lanes) - 1;

  const fetchAhead = (i: Int, start: Int): void => {
    const lines = Math.ceil((4 * length) / bundles / LINE);
    for (let line = 0; line < lines; line++) b.prefetch(values, plus(times(start, 4), AHEAD + line * LINE));
    b.prefetch(codes, plus(times(i, 4 * lanes), AHEAD));
  };
  /** The values of a bundle's steps, zeros in lanes that have none. */
  const valuesOf = (i: Int): ((s: number) => Vec) => {
    if (!isPacked) return (s) => b.load(values, plus(times(i, 4 * lanes * BUNDLE), s * lanes * 4));
    const record = times(i, layout.bytes);
    const start = b.loadInt(records, plus(record, layout.values), "i32", 0, length - BYTES - lanes);
    fetchAhead(i, start);
    return (s) => {
      const offset = s === 0 ? 0 : b.loadInt(records, plus(record, layout.offsets + s - 1), "u8", 0, BYTES - 1);
      return b.expand(values, plus(times(start, 4), times(offset, 4)), records, plus(record, layout.bits + 2 * s));
    };
  };
  const tableOf = (vector: number, i: Int, window: number): Vec[] => {
    const at = plus(times(i, layout.bytes), layout.starts + window * startBytes);
    const start = b.loadInt(records, at, startBytes === 1 ? "u8" : "u16", 0, lastStart);
    return [0, 1].map((half) => b.load(vector, plus(times(start, lanes * 4), half * lanes * 4)));
  };
  const bundle = (vector: number, i: Int, sums: readonly Vec[], allFinite: boolean): void => {
    const packed = b.load(codes, times(i, 4 * lanes), lanes, "i32");
    const step = valuesOf(i);
    let table: Vec[] = [];
    for (let s = 0; s < BUNDLE; s++) {
      if (s % steps === 0) table = tableOf(vector, i, s / steps);
      const index = s === 0 ? b.op("mov", packed) : b.op("iushr", packed, undefined, undefined, undefined, bits * s);
      const [found, value] = [b.op("lookup", table[0], table[1], index, index), step(s)];
      const kept = allFinite ? found : b.op("select", found, b.f32(0), b.op("ne", value, b.f32(0)));
      b.accumulate(sums[s % SUMS], kept, value);
    }
  };
  const sum = (slice: Int, vector: number, allFinite: boolean): Vec => {
    const from = b.loadInt(bounds, times(slice, 4), "i32", 0, bundles);
    const to = b.loadInt(bounds, plus(times(slice, 4), 4), "i32", 0, bundles);
    const sums = Array.from({ length: SUMS }, () => b.op("mov", b.f32(0)));
    b.loop(from, to, 1, (i) => bundle(vector, i, sums, allFinite));
    return sums.reduce((all, v) => b.op("add", all, v));
  };
  return slicesKernel(b, shape, epilogue, { reach: lastStart + 2, fillsUp: true, sum });
}
