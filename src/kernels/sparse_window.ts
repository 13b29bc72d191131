// Sparse matrix to windows, for one vector without gathers: lanes are rows, and what they take in one step lies within a window of columns that registers hold.
import type { SimdTarget } from "../ir/kernel.ts";
import type { Csb } from "../sparse/csb.ts";
import { marchApartOf } from "./sparse_apart.ts";
import { asExtra, EMPTY, type March, marchOf, OTHER, stepsOfWindows, Taken, type Windows } from "./sparse_march.ts";
import { Packer } from "./sparse_packed.ts";
import { type Extra, type Rows, type SlicedMatrix, type Slices, type SlicesShape, slicesInOrder } from "./sparse_slices.ts";

/** Steps whose codes share a vector, 32 bits a lane: a column of its window each, and a bit for each that is shared. */
const MOST_STEPS = 6;
/** A byte each where halves are looked up: six bits of column, and the highest says whose row it is. */
export const WORDS_BUNDLE = 4;
/** Cycles of a bundle: of each vector that it reads, between what that takes from near and from far, or from memory; of a window, of one that has all columns, and of one whose columns are apart (where lanes are many), which the transposed product adds to sums in memory; of a step that is shared, with the next lane or by two rows of a lane. */
interface Costs {
  readonly read: { readonly near: number; readonly far: number; readonly streamed: number };
  readonly window: { readonly narrow: number; readonly wide: number; readonly whole: number; readonly apart: number };
  readonly shared: { readonly narrow: number; readonly wide: number };
  readonly twoRows: { readonly fewLanes: number; readonly manyLanes: number };
}
/** Measured on Zen 5. */
const COSTS: Costs = {
  read: { near: 2, far: 3, streamed: 4 },
  window: { narrow: 1.2, wide: 1.6, whole: 0.4, apart: 2.5 },
  shared: { narrow: 0.4, wide: 0.6 },
  twoRows: { fewLanes: 1.75, manyLanes: 0.2 },
};
/** Of one row of a lane on Sapphire Rapids, whose last cache is slow: bytes count most. */
const SLOW_CACHE_COSTS: Costs = {
  ...COSTS,
  read: { near: 6, far: 6, streamed: 12 },
  window: { ...COSTS.window, narrow: 0.4, wide: 1.2, whole: 0.6 },
  shared: { narrow: 0.3, wide: 0.3 },
};
/** Second-level caches from which on values come from the last one, where rows have a lane each; from all of one on, from memory. */
const FAR_CACHES = 0.22;
/** What it costs to put a vector of results back into the order of rows, where these are sorted: a gather. */
const SORTED_COST = 9;
/** Slices that the number of steps is chosen by. */
const SAMPLED = 8;
/** Values are packed, which takes half as long again from caches, where they probably come from memory and that saves bytes: they alone, or with zeros the matrix, would fill so many second-level caches. */
const STREAMED_CACHES = 2;
const WORTH_PACKING = 0.85;
const LARGE_CACHES = 4;
const WORTH_PACKING_LARGE = 0.75;

export interface WindowsShape extends SlicesShape {
  readonly walk: "windows";
  readonly bundles: number;
  /** Windows have as many columns as four registers hold, not two. */
  readonly isWide: boolean;
  /** They hold halves of elements, low ones and high ones apart. */
  readonly byWords: boolean;
  /** Steps of a bundle, and how many of them, the last, have a bit that says which row: of a lane's two, or, where it has one, whether it is the next lane's. */
  readonly bundle: number;
  readonly shared: number;
  /** Windows of each bundle. */
  readonly windows: number;
  /** Values; packed, if lanes without one have none, else a vector for each step. */
  readonly length: number;
  readonly isPacked: boolean;
}

/** Steps of all slices. */
export const windowSteps = ({ bundles, bundle }: WindowsShape): number => bundles * bundle;
/** Columns of a window, in vectors. */
export const windowVectors = ({ isWide }: Pick<WindowsShape, "isWide">): number => (isWide ? 4 : 2);
/** Columns up to which a nearest cache holds halves of a vector twice, and what streams by. */
const MOST_TWICE = 2560;
export const liesTwice = ({ columns }: SlicesShape): boolean => columns <= MOST_TWICE;
/** One window has all columns: codes count from the first one, and registers hold it for the whole product. */
export const isWhole = ({ isWide, columns }: Pick<WindowsShape, "isWide" | "columns">, lanes: number): boolean =>
  columns <= windowVectors({ isWide }) * lanes;

/** Bytes of a bundle's record: where each window starts, in vectors; packed, also where its values start, bits of lanes for each step, and how many values come before each step but the first. */
export interface RecordLayout {
  readonly starts: number;
  readonly values: number;
  readonly bits: number;
  readonly offsets: number;
  readonly bytes: number;
}

export function recordLayout({ windows, bundle, isPacked }: WindowsShape, startBytes: number): RecordLayout {
  const values = startBytes * windows;
  const bits = values + 4;
  const offsets = bits + 2 * bundle;
  return { starts: 0, values, bits, offsets, bytes: isPacked ? offsets + bundle - 1 : values };
}
/** Where a window starts is a byte if that can say it. */
export const startBytesOf = ({ columns }: WindowsShape, lanes: number): number => (columns <= BYTES * lanes ? 1 : 2);
export const BYTES = 256;
/** Bundles before each slice. */
export const boundsType = ({ bundles }: WindowsShape): "u16" | "i32" => (bundles < 2 ** 16 ? "u16" : "i32");

/** How codes of steps share a vector, and steps windows. */
interface Form {
  readonly isWide: boolean;
  readonly byWords: boolean;
  readonly bundle: number;
  readonly shared: number;
  readonly windows: number;
}

/** How rows are cut into slices, and steps into windows. */
export interface WindowsPlan extends Form, Slices {
  readonly height: number;
  /** Columns of a step are apart, as the transposed product wants them. */
  readonly apart: boolean;
  /** Bundles before each slice, and all. */
  readonly bounds: Int32Array;
  /** As Taken has them; whoever writes the matrix puts places where items are. */
  readonly items: Int32Array;
  readonly codes: Uint8Array;
  readonly starts: Uint16Array;
}

/** All that may pay: with two rows of a lane all steps are shared, with one some or all, where products stay in their lanes and these are many. */
function formsOf({ lanes, name, slowWordLookups }: SimdTarget, columns: number, apart: boolean, height: number): readonly Form[] {
  const packed = (isWide: boolean, most: number) => {
    const bits = Math.log2(windowVectors({ isWide }) * lanes);
    const bundle = Math.min(MOST_STEPS, Math.floor(most === MOST_STEPS ? 32 / (bits + 1) : (32 - most) / bits));
    return { isWide, byWords: false, bundle, shared: Math.min(most, bundle) };
  };
  const words = (shared: number) => ({ isWide: true, byWords: true, bundle: WORDS_BUNDLE, shared });
  const forms =
    name === "avx512" && !apart
      ? [1, 2, MOST_STEPS].flatMap((most) => [
          packed(false, most),
          slowWordLookups ? packed(true, most) : words(Math.min(most, WORDS_BUNDLE)),
        ])
      : [packed(false, height > lanes ? MOST_STEPS : 0)];
  return forms.flatMap((form) => {
    const most = form.shared % form.bundle === 0 && (apart || !isWhole({ ...form, columns }, lanes)) ? form.bundle : 1;
    return Array.from({ length: most }, (_, i) => ({ ...form, windows: i + 1 }));
  });
}

const windowsIn = ({ isWide, bundle, shared, windows }: Form, lanes: number): Windows => ({
  columns: windowVectors({ isWide }) * lanes,
  bundle,
  windows,
  shared,
});

/** What costs depend on besides the form. */
interface Costing {
  readonly costs: Costs;
  readonly columns: number;
  readonly read: keyof Costs["read"];
  readonly height: number;
  readonly lanes: number;
  readonly apart: boolean;
}

/** What a bundle costs. */
function costOf(form: Form, { costs, columns, read, height, lanes, apart }: Costing): number {
  const { isWide, bundle, shared, windows } = form;
  const kind = isWide ? "wide" : "narrow";
  const sharing = height > lanes ? costs.twoRows[lanes < 16 ? "fewLanes" : "manyLanes"] : costs.shared[kind];
  const window = apart ? (lanes < 16 ? kind : "apart") : isWhole({ isWide, columns }, lanes) ? "whole" : kind;
  return costs.read[read] * (bundle + 1) + costs.window[window] * windows + sharing * shared;
}

/** The plan that some slices say is the best: rows one of a lane in their order, or sorted; null: columns are apart, rows in their order, one or two of a lane. */
export function planWindows(w: Pick<Csb, "rows" | "columns">, rows: Rows, target: SimdTarget, sorted: Slices | null): WindowsPlan {
  const { rows: count, columns } = w;
  const { lanes, l2, slowWordLookups } = target;
  const apart = sorted === null;
  const costs = slowWordLookups && !apart ? SLOW_CACHE_COSTS : COSTS;
  const caches = (4 * rows.place.length) / l2;
  const read = caches > 1 ? "streamed" : caches > FAR_CACHES && !apart ? "far" : "near";
  const marchOver = (slice: Int32Array): March => (apart ? marchApartOf : marchOf)(rows, slice, lanes);
  const cuts = [slicesInOrder(count, lanes), sorted ?? slicesInOrder(count, 2 * lanes)];
  let best: { readonly cost: number; readonly form: Form; readonly cut: Slices; readonly bundles: number } | null = null;
  for (const cut of cuts) {
    const sample = sampleOf(cut.slices, lanes).map(marchOver);
    const sorting = cut.order ? SORTED_COST * sample.length : 0;
    const { length: height } = cut.slices[0];
    for (const form of formsOf(target, columns, apart, height)) {
      // From memory a second one of four registers takes longer than the bytes that it saves.
      if (read === "streamed" && form.isWide && form.windows > 1) continue;
      const bundles = sample.reduce((sum, take) => sum + Math.ceil(take(windowsIn(form, lanes), null) / form.bundle), 0);
      const cost = sorting + costOf(form, { costs, columns, read, height, lanes, apart }) * bundles;
      if (!best || cost < best.cost) best = { cost, form, cut, bundles: bundles / sample.length };
    }
  }
  const { form, cut, bundles } = best!; // of forms that there are
  const { slices } = cut;
  const bounds = new Int32Array(slices.length + 1);
  const taken = new Taken(lanes, form.bundle, form.windows, Math.ceil(slices.length * (bundles + 1)));
  for (const [s, slice] of slices.entries()) bounds[s + 1] = taken.end(marchOver(slice)(windowsIn(form, lanes), taken));
  return { ...cut, ...form, height: slices[0].length, apart, bounds, ...taken.all() };
}

/** How many steps a plan has. */
export const stepsOf = ({ bounds, bundle }: WindowsPlan): number => bounds[bounds.length - 1] * bundle;

export function windowsOf(w: Csb, rows: Rows, plan: WindowsPlan, { lanes, l2, expandsLoads }: SimdTarget): SlicedMatrix<WindowsShape> {
  const { slices, order, period, height, isWide, byWords, bundle, shared, windows, bounds } = plan;
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
    period,
    bundles: bounds[slices.length],
    isWide,
    byWords,
    bundle,
    shared,
    windows,
    // The last steps may read as far beyond packed values as their offsets and a vector reach.
    length: isPacked ? w.values.length + BYTES + lanes : slots,
    isPacked,
  };
  const writer = new WindowsWriter(shape, plan, rows, lanes);
  const extras = slices.map((_, s) => writer.slice(s));
  const { code, turnedCode, records, place } = writer;
  const ends = boundsType(shape) === "u16" ? Uint16Array.from(bounds) : bounds;
  const turned = turnedCode && { index: [turnedCode, records, ends], extras };
  return { shape, place, index: [code, records, ends, ...(order ? [order] : [])], bounds, turned };
}

/** Some slices, of as many rows whatever their height. */
function sampleOf(slices: readonly Int32Array[], lanes: number): readonly Int32Array[] {
  const most = (SAMPLED * lanes) / slices[0].length;
  const count = slices.length <= 2 * most ? slices.length : most;
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
  /** Of each step of a bundle. */
  private readonly steps: readonly { readonly window: number; readonly bits: ReturnType<typeof codeBits> }[];
  private readonly isWhole: boolean;
  private readonly inTurns: boolean;

  constructor(
    private readonly shape: WindowsShape,
    private readonly plan: WindowsPlan,
    private readonly rows: Rows,
    private readonly lanes: number,
  ) {
    const { bundle, apart, items } = plan;
    this.layout = recordLayout(shape, startBytesOf(shape, lanes));
    this.code = new Int32Array(shape.bundles * lanes);
    this.turnedCode = apart ? this.code.slice() : null;
    this.records = new Uint8Array(shape.bundles * this.layout.bytes);
    this.place = shape.isPacked ? new Int32Array(shape.length).fill(-1) : items;
    const windows = stepsOfWindows(shape).flatMap(({ steps }, w) => new Array<number>(steps).fill(w));
    this.steps = windows.map((window, s) => ({ window, bits: codeBits(shape, s, lanes) }));
    this.isWhole = isWhole(shape, lanes);
    this.inTurns = shape.byWords && liesTwice(shape);
    this.packer = shape.isPacked ? new Packer(lanes, bundle, this.layout, this.place) : null;
    this.putStarts();
  }

  private putStarts(): void {
    const { layout, shape, plan, records, lanes } = this;
    const { starts, windows } = plan;
    const view = new DataView(records.buffer);
    const startBytes = startBytesOf(shape, lanes);
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
        extras.push({ slot: at, row: slices[s][(at % lanes) + (codes[at] < OTHER ? 0 : lanes)], column: rows.column[items[at]] });
      }
    const found = items.subarray(from, end * bundle * lanes);
    for (let at = 0; at < found.length; at++) if (found[at] !== EMPTY) found[at] = rows.place[found[at]];
    const slots = packer?.pack(found, new DataView(this.records.buffer, first * layout.bytes));
    return slots ? extras.map((one) => ({ ...one, slot: slots[one.slot - from] })) : extras;
  }

  private bundle(b: number): void {
    const { lanes, code, steps, isWhole, inTurns } = this;
    const { codes, bundle, windows, starts } = this.plan;
    for (let lane = 0; lane < lanes; lane++) {
      let word = 0;
      for (let s = 0, at = b * bundle * lanes + lane; s < bundle; s++, at += lanes) {
        const { window, bits } = steps[s];
        const column = (codes[at] & (OTHER - 1)) + (isWhole ? starts[b * windows + window] * lanes : 0);
        word |= ((inTurns ? placeInTurns(column, lanes) : column) << bits.column) | (codes[at] < OTHER ? 0 : 1 << bits.other);
      }
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
      turned[to + cls] |= ((lane + (code < OTHER ? 0 : lanes)) << shift) | (code & lanes ? 1 << (31 - s) : 0);
    }
    for (let cls = 0; cls < lanes; cls++) if (free & (1 << cls)) turned[to + cls] |= empty << shift;
  }
}

/** Where a column of a window is whose vectors' halves lie in turns, two and two. */
const placeInTurns = (column: number, lanes: number): number =>
  (column & (2 * lanes)) | ((column & (lanes - 1)) << 1) | (column & lanes ? 1 : 0);

/** Where a step's column is in its code, and the bit that says whether it is of the other row. */
export function codeBits(
  { isWide, byWords, bundle, shared }: WindowsShape,
  s: number,
  lanes: number,
): { readonly column: number; readonly other: number } {
  if (byWords) return { column: 8 * s, other: 8 * s + 7 };
  return { column: Math.log2(windowVectors({ isWide }) * lanes) * s, other: 31 - Math.max(0, s - bundle + shared) };
}

/** Bits of a step's turned code: a lane, then which of its rows. */
export const turnedBits = (height: number): number => Math.log2(height);
