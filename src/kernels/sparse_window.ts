// Sparse matrix to windows, for one vector without gathers: lanes are rows, and what they take in one step lies within a window of columns that registers hold.
import type { SimdTarget } from "../ir/kernel.ts";
import type { Csb } from "../sparse/csb.ts";
import { marchApartOf } from "./sparse_apart.ts";
import { asExtra, EMPTY, marchOf, SECOND, Taken } from "./sparse_march.ts";
import { Packer } from "./sparse_packed.ts";
import { type Extra, type Rows, type SlicedMatrix, type Slices, type SlicesShape, slicesByLength, slicesInOrder } from "./sparse_slices.ts";

/** Steps whose codes share a vector, with one row of a lane and with two: five bits each where tables have 32 lanes, and one more that says which row. */
const BUNDLE = [6, 5] as const;
/** A byte each where tables have twice as many: six bits of column, and the highest says which row. */
export const WIDE_BUNDLE = 4;
const WIDE_ROW_BIT = 7;
/** Windows of a bundle: windows cost loads, steps in which few lanes find something cost steps. */
const WINDOWS = [1, 2, 3, 4, 5, 6] as const;
/** What a window costs, in steps, and a step with two rows of a lane: measured on Zen 5. Where bytes take longer than steps, two rows are for nothing. */
const WINDOW_COST = { narrow: 0.5, wide: 0.75 } as const;
const TWO_ROWS_COST = { cached: 1.2, streamed: 1, fewLanes: 1.75 } as const;
/** Slices that the number of steps is chosen by. */
const SAMPLED = 8;
/** What it costs to put a vector of results back into the order of rows, where these are sorted: a gather. */
const SORTED_COST = 4;
/** Values are packed, which takes half as long again from caches, where they probably come from memory and that saves bytes: they alone, or with zeros the matrix, would fill so many second-level caches. */
const STREAMED_CACHES = 2;
const WORTH_PACKING = 0.85;
const LARGE_CACHES = 4;
const WORTH_PACKING_LARGE = 0.75;

export interface WindowsShape extends SlicesShape {
  readonly walk: "windows";
  readonly bundles: number;
  /** Columns that a window begins at multiples of, and has two times: as many as a vector has lanes, or, wide, twice as many. */
  readonly unit: number;
  /** Windows of each bundle. */
  readonly windows: number;
  /** Values; packed, if lanes without one have none, else a vector for each step. */
  readonly length: number;
  readonly isPacked: boolean;
}

/** Steps of all slices. */
export const windowSteps = (shape: WindowsShape, lanes: number): number => shape.bundles * bundleOf(shape, lanes);
export const bundleOf = ({ height, unit }: Pick<WindowsShape, "height" | "unit">, lanes: number): number =>
  unit > lanes ? WIDE_BUNDLE : BUNDLE[height / lanes - 1];

/** Bytes of a bundle's record: where each window starts, in vectors; packed, also where its values start, bits of lanes for each step, and how many values come before each step but the first. */
export interface RecordLayout {
  readonly starts: number;
  readonly values: number;
  readonly bits: number;
  readonly offsets: number;
  readonly bytes: number;
}

export function recordLayout({ windows, isPacked }: WindowsShape, bundle: number, startBytes: number): RecordLayout {
  const values = startBytes * windows;
  const bits = values + 4;
  const offsets = bits + 2 * bundle;
  return { starts: 0, values, bits, offsets, bytes: isPacked ? offsets + bundle - 1 : values };
}
/** Where a window starts is a byte if that can say it. */
export const startBytesOf = ({ columns, unit }: WindowsShape): number => (columns <= BYTES * unit ? 1 : 2);
export const BYTES = 256;

/** How rows are cut into slices and steps into windows. */
export interface WindowsPlan extends Slices {
  readonly height: number;
  readonly unit: number;
  readonly windows: number;
  /** Bundles before each slice, and all. */
  readonly bounds: Int32Array;
  /** Steps of a bundle. */
  readonly bundle: number;
  /** Columns of a step are apart, as the transposed product wants them. */
  readonly apart: boolean;
  /** As Taken has them; whoever writes the matrix puts places where items are. */
  readonly items: Int32Array;
  readonly codes: Uint8Array;
  readonly starts: Uint16Array;
}

/** The plan that some slices say is the best: rows in their order or by length (not where columns are apart), one or two of a lane, windows. */
export function planWindows(count: number, rows: Rows, { lanes, name, l2 }: SimdTarget, apart: boolean): WindowsPlan {
  let best = {
    cost: Number.POSITIVE_INFINITY,
    height: lanes,
    unit: lanes,
    windows: 1,
    bundle: 1,
    steps: 0,
    cut: slicesInOrder(count, lanes),
  };
  const isStreamed = 4 * rows.place.length > l2;
  const twoRows = TWO_ROWS_COST[lanes < 16 ? "fewLanes" : isStreamed ? "streamed" : "cached"];
  const units = name === "avx512" && !apart ? [lanes, 2 * lanes] : [lanes];
  const march = apart ? marchApartOf : marchOf;
  for (const isSorted of apart ? [false] : [false, true])
    for (const height of [lanes, 2 * lanes]) {
      const cut = isSorted ? slicesByLength(count, rows, height) : slicesInOrder(count, height);
      const sample = sampleOf(cut.slices, lanes).map((slice) => march(rows, slice, lanes));
      const sorting = isSorted ? (SORTED_COST * sample.length * height) / lanes : 0;
      for (const unit of units) {
        const bundle = bundleOf({ height, unit }, lanes);
        const windowCost = WINDOW_COST[unit > lanes ? "wide" : "narrow"];
        for (const windows of WINDOWS) {
          if (windows > bundle) continue;
          const steps = sample.reduce((sum, take) => sum + take({ unit, length: bundle / windows }, null), 0);
          const cost = sorting + steps * ((height > lanes ? twoRows : 1) + (windowCost * windows) / bundle);
          if (cost < best.cost) best = { cost, height, unit, windows, bundle, steps: steps / sample.length, cut };
        }
      }
    }
  const { height, unit, windows, bundle, cut } = best;
  const { slices, order } = cut;
  const bounds = new Int32Array(slices.length + 1);
  const taken = new Taken(lanes, bundle, windows, Math.ceil(slices.length * (best.steps / bundle + 1)));
  for (const [s, slice] of slices.entries())
    bounds[s + 1] = taken.end(march(rows, slice, lanes)({ unit, length: bundle / windows }, taken));
  return { slices, order, height, unit, windows, bounds, bundle, apart, ...taken.all() };
}

/** How many steps a plan has. */
export const stepsOf = ({ bounds, bundle }: WindowsPlan): number => bounds[bounds.length - 1] * bundle;

export function windowsOf(w: Csb, rows: Rows, plan: WindowsPlan, { lanes, l2, expandsLoads }: SimdTarget): SlicedMatrix<WindowsShape> {
  const { slices, order, height, unit, windows, bounds } = plan;
  const slots = plan.items.length;
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
    unit,
    windows,
    // The last steps may read as far beyond packed values as their offsets and a vector reach.
    length: isPacked ? w.values.length + BYTES + lanes : slots,
    isPacked,
  };
  const writer = new WindowsWriter(shape, plan, rows, lanes);
  const extras = slices.map((_, s) => writer.slice(s));
  const { code, turnedCode, records, place } = writer;
  const turned = turnedCode && { index: [turnedCode, records, bounds], extras };
  return { shape, place, index: [code, records, bounds, ...(order ? [order] : [])], bounds, turned };
}

/** Some slices, of as many rows whatever their height. */
function sampleOf(slices: readonly Int32Array[], lanes: number): readonly Int32Array[] {
  const count = Math.min(slices.length, (SAMPLED * lanes) / slices[0].length);
  return Array.from({ length: count }, (_, i) => slices[Math.floor((i * slices.length) / count)]);
}

class WindowsWriter {
  /** Columns of a bundle's steps in their windows, and the row, of each lane. */
  readonly code: Int32Array;
  /** For columns modulo lanes, where they are apart: whose lane's product they get, and, from the top, which half of the window they are in. */
  readonly turnedCode: Int32Array | null;
  /** A record for each bundle. */
  readonly records: Uint8Array;
  /** Where values are in the matrix, -1 where lanes are empty. */
  readonly place: Int32Array;
  private readonly layout: RecordLayout;
  private readonly packer: Packer | null;

  constructor(
    private readonly shape: WindowsShape,
    private readonly plan: WindowsPlan,
    private readonly rows: Rows,
    private readonly lanes: number,
  ) {
    const { bundle, apart, items } = plan;
    this.layout = recordLayout(shape, bundle, startBytesOf(shape));
    this.code = new Int32Array(shape.bundles * lanes);
    this.turnedCode = apart ? this.code.slice() : null;
    this.records = new Uint8Array(shape.bundles * this.layout.bytes);
    this.place = shape.isPacked ? new Int32Array(shape.length).fill(-1) : items;
    this.packer = shape.isPacked ? new Packer(lanes, bundle, this.layout, this.place) : null;
    this.putStarts();
  }

  private putStarts(): void {
    const { layout, shape, plan, records } = this;
    const { starts, windows } = plan;
    const view = new DataView(records.buffer);
    const startBytes = startBytesOf(shape);
    for (let b = 0, at = layout.starts; b < shape.bundles; b++, at += layout.bytes)
      for (let w = 0; w < windows; w++)
        if (startBytes === 1) view.setUint8(at + w, starts[b * windows + w]);
        else view.setUint16(at + 2 * w, starts[b * windows + w], true);
  }

  /** Puts places where items were. Returns nonzeros that the turned code does not have. */
  slice(s: number): readonly Extra[] {
    const { lanes, layout, plan, rows, packer, turnedCode } = this;
    const { items, bundle, codes, slices } = plan;
    const [first, end] = [plan.bounds[s], plan.bounds[s + 1]];
    const extras: Extra[] = [];
    for (let b = first; b < end; b++) this.bundle(b);
    const from = first * bundle * lanes;
    if (turnedCode)
      for (let at = from; at < end * bundle * lanes; at++) {
        if (at % lanes === 0) this.turn(at, turnedCode);
        if (items[at] >= EMPTY) continue;
        items[at] = asExtra(items[at]);
        extras.push({ slot: at, row: slices[s][(at % lanes) + (codes[at] < SECOND ? 0 : lanes)], column: rows.column[items[at]] });
      }
    const found = items.subarray(from, end * bundle * lanes);
    for (let at = 0; at < found.length; at++) if (found[at] !== EMPTY) found[at] = rows.place[found[at]];
    const slots = packer?.pack(found, new DataView(this.records.buffer, first * layout.bytes));
    return slots ? extras.map((one) => ({ ...one, slot: slots[one.slot - from] })) : extras;
  }

  private bundle(b: number): void {
    const { lanes, shape, code } = this;
    const { codes, bundle } = this.plan;
    const bits = codeBits(shape, lanes);
    const rowBit = rowBitOf(shape, lanes);
    for (let lane = 0; lane < lanes; lane++) {
      let word = 0;
      for (let s = 0, at = b * bundle * lanes + lane; s < bundle; s++, at += lanes)
        word |= ((codes[at] & (SECOND - 1)) | (codes[at] < SECOND ? 0 : 1 << rowBit)) << (bits * s);
      code[b * lanes + lane] = word;
    }
  }

  /** Of the step at `from`; columns that none of its products belong to get one that is zero. */
  private turn(from: number, turned: Int32Array): void {
    const { lanes, shape } = this;
    const { items, codes, bundle } = this.plan;
    const step = from / lanes;
    const s = step % bundle;
    const to = ((step - s) / bundle) * lanes;
    const shift = turnedBits(shape.height) * s;
    let free = -1;
    let empty = 0;
    for (let lane = 0; lane < lanes; lane++) {
      const item = items[from + lane];
      if (item === EMPTY) empty = lane;
      if (item < 0) continue;
      const code = codes[from + lane];
      const cls = code & (lanes - 1);
      free &= ~(1 << cls);
      turned[to + cls] |= ((lane + (code < SECOND ? 0 : lanes)) << shift) | (code & lanes ? 1 << (31 - s) : 0);
    }
    for (let cls = 0; cls < lanes; cls++) if (free & (1 << cls)) turned[to + cls] |= empty << shift;
  }
}

/** Bits of a step's code: a column of its window, then which row. */
export const codeBits = ({ height, unit }: WindowsShape, lanes: number): number =>
  unit > lanes ? 32 / WIDE_BUNDLE : Math.log2(2 * lanes) + height / lanes - 1;
export const rowBitOf = ({ unit }: WindowsShape, lanes: number): number => (unit > lanes ? WIDE_ROW_BIT : Math.log2(2 * lanes));

/** Bits of a step's turned code: a lane, then which of its rows. */
export const turnedBits = (height: number): number => Math.log2(height);
