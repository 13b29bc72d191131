// Sparse matrix times one vector by its windows: what lanes take of the vector in a step is looked up among elements that registers hold.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { MEMORY_BYTES } from "../ir/kernel_ops.ts";
import type { Epilogue } from "./epilogue.ts";
import { unpack } from "./sparse_packed.ts";
import { sliceCount, slicesKernel } from "./sparse_slices.ts";
import { wideLookups } from "./sparse_wide.ts";
import {
  BYTES,
  boundsType,
  codeBits,
  isWhole,
  liesTwice,
  recordLayout,
  startBytesOf,
  type WindowsShape,
  windowVectors,
} from "./sparse_window.ts";

/** Bytes that values are fetched ahead: memory wants as many, but small matrices a part of theirs, as what lies behind their end is fetched for nothing. */
const MOST_AHEAD = 8192;
const LEAST_AHEAD = 1024;
const AHEAD_PART = 1 / 32;
/** Codes take a quarter of the bytes, or less. */
const CODES_AHEAD = 1 / 4;
const LINE = 64;
/** Sums of each row, so that additions do not wait for one another. */
const SUMS = 3;

/** Bundles as a kernel reads them. */
export interface Bundles {
  /** Fetches the beginning of all buffers, which no step does: before the vector is copied. */
  fetchFirst(): void;
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
  const { columns, bundles, bundle: size, windows, length, isPacked } = shape;
  const { lanes } = b;
  const startBytes = startBytesOf(shape, lanes);
  const layout = recordLayout(shape, startBytes);
  const values = b.buffer("values", 4 * length, "read");
  const codes = b.buffer("codes", 4 * bundles * lanes, "read");
  const records = b.buffer("records", bundles * layout.bytes, "read");
  const boundType = boundsType(shape);
  const boundBytes = MEMORY_BYTES[boundType];
  const bounds = b.buffer("bounds", boundBytes * (sliceCount(shape) + 1), "read");
  // A start that is a byte needs no check: as far as it can reach there is memory.
  const lastStart = startBytes === 1 ? BYTES - 1 : Math.ceil(columns / lanes) - 1;
  const part = Math.round((4 * length * AHEAD_PART) / LINE) * LINE;
  const ahead = Math.min(Math.max(part, LEAST_AHEAD), MOST_AHEAD);
  const fetchAhead = (i: Int, start: Int): void => {
    const lines = Math.ceil((4 * length) / bundles / LINE);
    for (let line = 0; line < lines; line++) b.prefetch(values, plus(times(start, 4), ahead + line * LINE));
    b.prefetch(codes, plus(times(i, 4 * lanes), ahead * CODES_AHEAD));
  };
  const begins = Array.from({ length: windows }, (_, window) => Math.round((window * size) / windows));
  const fetchLines = (buffer: number, bytes: number): void => {
    for (let at = 0; at < bytes; at += LINE) b.prefetch(buffer, at);
  };
  return {
    fetchFirst: () => {
      fetchLines(values, LEAST_AHEAD);
      fetchLines(codes, LEAST_AHEAD * CODES_AHEAD);
      for (const buffer of [records, bounds]) fetchLines(buffer, LINE);
    },
    size,
    reach: lastStart + windowVectors(shape),
    code: (i) => b.load(codes, times(i, 4 * lanes), lanes, "i32"),
    values: (i) => {
      if (!isPacked) {
        fetchAhead(i, times(i, lanes * size));
        return (s) => b.load(values, plus(times(i, 4 * lanes * size), s * lanes * 4));
      }
      return unpack(b, { values, last: length - BYTES - lanes, records }, layout, i, (start) => fetchAhead(i, start));
    },
    windowAt: (i, s) => {
      const window = begins.indexOf(s);
      if (window < 0) return null;
      const at = plus(times(i, layout.bytes), layout.starts + window * startBytes);
      return b.loadInt(records, at, startBytes === 1 ? "u8" : "u16", 0, lastStart);
    },
    overSlice: (slice, body) => {
      const from = b.loadInt(bounds, times(slice, boundBytes), boundType, 0, bundles);
      const to = b.loadInt(bounds, plus(times(slice, boundBytes), boundBytes), boundType, 0, bundles);
      b.loop(from, to, 1, body);
    },
  };
}

/** What a step reads of the vector: an element for each lane, by its code. */
export interface Lookups {
  /** Of a thread, before its slices. */
  prepare(): void;
  table(vector: number, start: Int): readonly Vec[];
  step(packed: Vec, s: number): Lookup;
}
export interface Lookup {
  /** The element of each lane. */
  found(table: readonly Vec[]): Vec;
  /** Its highest bit is whether a lane's value is of the other row, if the step is shared. */
  sign(): Vec;
}

const hasBit = (b: KernelBuilder, packed: Vec, bit: number): Vec => b.op("iany", packed, b.i32(1 << bit));

function packedLookups(b: KernelBuilder, shape: WindowsShape): Lookups {
  const { isWide } = shape;
  const bytes = 4 * b.lanes;
  const isHigh = Math.log2(2 * b.lanes);
  const shifted = (op: "ishl" | "iushr", packed: Vec, by: number): Vec =>
    by === 0 ? b.op("mov", packed) : b.op(op, packed, undefined, undefined, undefined, by);
  return {
    prepare: () => {},
    table: (vector, start) => Array.from({ length: windowVectors(shape) }, (_, i) => b.load(vector, plus(times(start, bytes), i * bytes))),
    step: (packed, s) => {
      const { column, other } = codeBits(shape, s, b.lanes);
      return {
        found: ([low0, low1, high0, high1]) => {
          const index = shifted("iushr", packed, column);
          if (!isWide) return b.op("lookup", low0, low1, index, index);
          const copy = b.op("mov", index);
          const low = b.op("lookup", low0, low1, copy, copy);
          return b.op("select", b.op("lookup", high0, high1, index, index), low, hasBit(b, packed, column + isHigh));
        },
        sign: () => shifted("ishl", packed, 31 - other),
      };
    },
  };
}

/** Buffers: values, codes, records, bounds, then those of slicesKernel. */
export function windowsKernel(name: string, shape: WindowsShape, epilogue: Epilogue, target: SimdTarget, threads: number): Kernel {
  const { height, bundle: size, shared, byWords } = shape;
  const { lanes } = target;
  const b = new KernelBuilder(name, target, threads);
  const bundles = readBundles(b, shape);
  const isTwice = liesTwice(shape);
  const halves = byWords ? { plane: bundles.reach * lanes * (isTwice ? 4 : 2), isTwice } : null;
  const { prepare, table, step: lookup } = halves ? wideLookups(b, halves) : packedLookups(b, shape);
  let whole: readonly Vec[] = [];
  const ready = (vector: number): void => {
    if (isWhole(shape, lanes)) whole = table(vector, 0);
  };
  /** The parts of a step's values that belong to the lanes' own rows, and to the other ones. */
  const byRow = (value: () => Vec, packed: Vec, s: number, sign: () => Vec): Vec[] => {
    if (target.slowWordLookups) {
      const others = b.op("select", value(), b.f32(0), hasBit(b, packed, codeBits(shape, s, lanes).other));
      return [b.op("xor", others, value()), others];
    }
    const isOther = b.op("ishr", sign(), undefined, undefined, undefined, 31);
    const all = value();
    return [b.op("andnot", isOther, all), b.op("and", isOther, all)];
  };
  const bundle = (vector: number, i: Int, sums: readonly Vec[][], allFinite: boolean): void => {
    const packed = bundles.code(i);
    const step = bundles.values(i);
    let window = whole;
    for (let s = 0; s < bundles.size; s++) {
      const start = isWhole(shape, lanes) ? null : bundles.windowAt(i, s);
      if (start !== null) window = table(vector, start);
      const code = lookup(packed, s);
      const expanded = shape.isPacked ? step(s) : null;
      const value = (): Vec => expanded ?? step(s);
      const parts = s < size - shared ? [value()] : byRow(value, packed, s, code.sign);
      const element = code.found(window);
      for (const [row, value] of parts.entries()) {
        const kept = allFinite ? element : b.op("select", element, b.f32(0), b.op("ne", value, b.f32(0)));
        b.accumulate(sums[row][s % SUMS], kept, value);
      }
    }
  };
  const sums = (slice: Int, vector: number, allFinite: boolean): Vec[] => {
    const parts = Array.from({ length: shared > 0 ? 2 : 1 }, () => Array.from({ length: SUMS }, () => b.op("mov", b.f32(0))));
    bundles.overSlice(slice, (i) => bundle(vector, i, parts, allFinite));
    const rows = parts.map((row) => row.reduce((all, v) => b.op("add", all, v)));
    if (shared === 0 || height > lanes) return rows;
    const [own, next] = rows;
    return [b.op("add", own, b.op("lookup", next, next, b.iota(2 * lanes - 1)))];
  };
  const begin = (): void => {
    bundles.fetchFirst();
    prepare();
  };
  return slicesKernel(b, shape, epilogue, { reach: bundles.reach, halves, fillsUp: true, prepare: begin, ready, sums });
}
