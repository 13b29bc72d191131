// 2:4 sparse matrices times dense: of each four columns a row has two, whose rows of the dense operand are found by two bits each.
import { type Int, type IntVar, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { groupsOf, placeBytes, placeOf, type TwoFour } from "../sparse/two_four.ts";
import { sparseVectors } from "./sparse_columns.ts";
import { shareOut } from "./work.ts";

export interface TwoFourShape {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
}

/** Rows worked off together, as far as registers reach: sums of one alone would wait for each other. */
const heightOf = ({ registers }: SimdTarget): number => (registers >= 32 ? 4 : 2);
/** Columns that a byte of places speaks of. */
const BYTE_COLUMNS = 8;

/** Buffers: places, values, dense operand (depth, n), output (rows, n). Several columns only. */
export function twoFourKernel(name: string, { rows, depth, n }: TwoFourShape, target: SimdTarget, threads: number): Kernel {
  const { lanes } = target;
  const height = heightOf(target);
  const b = new KernelBuilder(name, target, threads);
  const groups = groupsOf(depth);
  const bytes = placeBytes(depth);
  const places = b.buffer("places", rows * bytes, "read");
  const values = b.buffer("values", 4 * rows * groups * 2, "read");
  const x = b.buffer("x", 4 * depth * n, "read");
  const y = b.buffer("y", 4 * rows * n, "readwrite");
  const width = sparseVectors(n, target) * lanes;
  const pitch = width * 4;
  const panelBytes = Math.min(bytes, Math.max(1, Math.floor(target.l1 / 2 / (BYTE_COLUMNS * pitch))));
  const scratch = b.buffer("scratch", panelBytes * BYTE_COLUMNS * pitch, "scratch");

  /** Columns of X as rows next to each other, zeros after the last: places may name them. */
  const fill = (first: Int, count: number, column: Int, columns: number): void => {
    const rest = count % BYTE_COLUMNS;
    b.loop(0, count, 1, (k) => {
      for (let v = 0; v * lanes < columns; v++) {
        const at = plus(times(plus(first, k), n * 4), times(column, 4), v * lanes * 4);
        b.store(b.load(x, at, Math.min(lanes, columns - v * lanes)), scratch, plus(times(k, pitch), v * lanes * 4));
      }
    });
    for (let k = count; rest > 0 && k < count - rest + BYTE_COLUMNS; k++)
      for (let v = 0; v * lanes < columns; v++) b.store(b.f32(0), scratch, k * pitch + v * lanes * 4);
  };

  const add = (sums: readonly (readonly Vec[])[], row: Int, byte: Int, local: Int, count: number): void => {
    for (const [h, own] of sums.entries()) {
      const found = fourPlaces(b, b.loadInt(places, plus(times(row, bytes), h * bytes, byte), "u8", 0, 255));
      for (let i = 0; i < count; i++) {
        const value = b.splat(values, plus(times(row, groups * 8), h * groups * 8, times(byte, 16), 4 * i));
        const at = plus(times(local, BYTE_COLUMNS * pitch), times(found[i], pitch), (i >> 1) * 4 * pitch);
        for (const [v, sum] of own.entries()) b.accumulate(sum, value, b.load(scratch, plus(at, v * lanes * 4)));
      }
    }
  };

  /** `count` rows and the panel that byte `first` begins. */
  const strip = (row: Int, count: number, column: Int, columns: number, first: Int, panel: Panel): void => {
    const place = (h: number, v: number): Int => plus(times(row, n * 4), h * n * 4, times(column, 4), v * lanes * 4);
    const lanesOf = (v: number): number => Math.min(lanes, columns - v * lanes);
    const vectors = range(Math.ceil(columns / lanes));
    const zero = panel.isFirst ? b.f32(0) : null;
    const sums = range(count).map((h) => vectors.map((v) => (zero ? b.op("mov", zero) : b.load(y, place(h, v), lanesOf(v)))));
    b.loop(0, panel.whole, 1, (i) => add(sums, row, plus(first, i), i, 4));
    if (panel.half) add(sums, row, plus(first, panel.whole), panel.whole, 2);
    for (const [h, own] of sums.entries()) for (const [v, sum] of own.entries()) b.store(sum, y, place(h, v), lanesOf(v));
  };

  const tile = (column: Int, columns: number, from: Int, to: Int): void => {
    const part = (first: Int, panel: Panel): void => {
      fill(times(first, BYTE_COLUMNS), panel.columns, column, columns);
      const wholeRows = Math.floor(rows / height);
      b.loop(from, b.min(to, wholeRows), 1, (g) => strip(times(g, height), height, column, columns, first, panel));
      if (rows % height > 0) b.when(wholeRows, to, () => strip(wholeRows * height, rows % height, column, columns, first, panel));
    };
    const whole = { columns: panelBytes * BYTE_COLUMNS, whole: panelBytes, half: false, isFirst: false };
    // A last panel may end in columns that are not there.
    const inside = Math.floor(depth / whole.columns);
    if (inside > 0) part(0, { ...whole, isFirst: true });
    b.loop(1, inside, 1, (p) => part(times(p, panelBytes), whole));
    const rest = depth - inside * whole.columns;
    if (rest > 0)
      part(inside * panelBytes, {
        columns: rest,
        whole: Math.floor(groups / 2) - inside * panelBytes,
        half: groups % 2 === 1,
        isFirst: inside === 0,
      });
  };
  shareOut(b, [Math.ceil(n / width), Math.ceil(rows / height)], ([columns, parts]) => {
    const whole = Math.floor(n / width);
    b.loop(columns.from, b.min(columns.to, whole), 1, (t) => tile(times(t, width), width, parts.from, parts.to));
    if (n % width > 0) b.when(whole, columns.to, () => tile(whole * width, n % width, parts.from, parts.to));
  });
  return b.build();
}

interface Panel {
  readonly columns: number;
  /** Bytes of which all four places are used, and whether half a byte follows. */
  readonly whole: number;
  readonly half: boolean;
  readonly isFirst: boolean;
}

const fourPlaces = (b: KernelBuilder, byte: IntVar): readonly IntVar[] => [
  b.mod(byte, 4),
  b.mod(b.div(byte, 4), 4),
  b.mod(b.div(byte, 16), 4),
  b.div(byte, 64),
];

/** For one vector: where each value's column is among twice as many columns as a vector has lanes. */
export function twoFourLookups(w: TwoFour, { lanes }: SimdTarget): Uint8Array {
  const groups = groupsOf(w.columns);
  const out = new Uint8Array(w.rows * groups * 2);
  for (let row = 0, i = 0; row < w.rows; row++)
    for (let g = 0; g < groups; g++) for (let half = 0; half < 2; half++, i++) out[i] = (4 * g + placeOf(w, row, g, half)) % (2 * lanes);
  return out;
}

/** Buffers: lookups, values, vector (depth), output (rows). A vector of values meets two vectors of the operand. */
export function twoFourVectorKernel(name: string, { rows, depth }: TwoFourShape, target: SimdTarget, threads: number): Kernel {
  const { lanes } = target;
  const height = heightOf(target);
  const b = new KernelBuilder(name, target, threads);
  const count = groupsOf(depth) * 2;
  const lookups = b.buffer("lookups", rows * count, "read");
  const values = b.buffer("values", 4 * rows * count, "read");
  const x = b.buffer("x", 4 * depth, "read");
  const y = b.buffer("y", 4 * rows, "write");
  const parts = Math.ceil(count / lanes);
  const scratch = b.buffer("scratch", parts * 2 * lanes * 4, "scratch");

  const copy = (): void => {
    const whole = depth - (depth % lanes);
    b.loop(0, whole, lanes, (k) => b.store(b.load(x, times(k, 4)), scratch, times(k, 4)));
    for (let k = whole; k < parts * 2 * lanes; k += lanes) b.store(k < depth ? b.load(x, k * 4, depth - k) : b.f32(0), scratch, k * 4);
  };
  const add = (sums: readonly Vec[], row: Int, part: Int, some: number): void => {
    const [low, high] = [0, 1].map((half) => b.load(scratch, plus(times(part, 2 * lanes * 4), half * lanes * 4)));
    for (const [h, sum] of sums.entries()) {
      const at = plus(times(row, count), h * count, times(part, lanes));
      const own = b.op("lookup", low, high, b.load(lookups, at, some, "u8"));
      b.accumulate(sum, own, b.load(values, times(at, 4), some));
    }
  };
  const strip = (row: Int, lines: number): void => {
    const zero = b.f32(0);
    const sums = range(lines).map(() => b.op("mov", zero));
    const whole = Math.floor(count / lanes);
    b.loop(0, whole, 1, (part) => add(sums, row, part, lanes));
    if (count % lanes > 0) add(sums, row, whole, count % lanes);
    for (const [h, sum] of sums.entries()) b.store(b.op("sumlanes", sum), y, plus(times(row, 4), h * 4), 1);
  };
  shareOut(b, [Math.ceil(rows / height)], ([{ from, to }]) => {
    const whole = Math.floor(rows / height);
    copy();
    b.loop(from, b.min(to, whole), 1, (g) => strip(times(g, height), height));
    if (rows % height > 0) b.when(whole, to, () => strip(whole * height, rows % height));
  });
  return b.build();
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
