// Rows of pixels times sparse weights whose zeros lie in blocks (block-sparse rows): each strip of outputs meets the inputs that any of it weighs, as in a dense product.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import type { LoadChannels, PixelSource } from "./sparse_panel.ts";
import { type Part, shareOut } from "./work.ts";

/** W (rows, depth), which lies by rows, or by columns. */
export interface StripWeights {
  readonly weights: Float32Array;
  readonly rows: number;
  readonly depth: number;
  readonly isByRows: boolean;
}

/** Which inputs each strip of outputs weighs. */
export interface Strips {
  readonly rows: number;
  readonly depth: number;
  /** Outputs of a strip, and inputs of a block. */
  readonly height: number;
  readonly width: number;
  /** Strip s has blocks [pointers[s], pointers[s + 1]). */
  readonly pointers: Int32Array;
  /** The first input of each block. */
  readonly inputs: Int32Array;
}

const placeOf = ({ rows, depth, isByRows }: StripWeights, row: number, k: number): number => (isByRows ? row * depth + k : k * rows + row);

export function stripsOf(w: StripWeights, { height, width }: Pick<Strips, "height" | "width">): Strips {
  const { rows, depth } = w;
  const count = Math.ceil(rows / height);
  const pointers = new Int32Array(count + 1);
  const inputs: number[] = [];
  for (let strip = 0; strip < count; strip++) {
    const top = strip * height;
    for (let k = 0; k < depth; k += width)
      if (hasNonzero(w, top, Math.min(rows, top + height), k, Math.min(depth, k + width))) inputs.push(k);
    pointers[strip + 1] = inputs.length;
  }
  return { rows, depth, height, width, pointers, inputs: Int32Array.from(inputs) };
}

/** Whether rows [top, end) weigh any of inputs [from, to): the first nonzero says it. */
function hasNonzero(w: StripWeights, top: number, end: number, from: number, to: number): boolean {
  for (let row = top; row < end; row++) for (let k = from; k < to; k++) if (w.weights[placeOf(w, row, k)] !== 0) return true;
  return false;
}

/** Weights block by block, input by input, a strip's outputs side by side. */
export function packStrips(w: StripWeights, { rows, depth, height, width, pointers, inputs }: Strips, out: Float32Array): void {
  for (let strip = 0; strip + 1 < pointers.length; strip++)
    for (let i = pointers[strip]; i < pointers[strip + 1]; i++)
      for (let j = 0; j < Math.min(width, depth - inputs[i]); j++)
        for (let r = 0; r < Math.min(height, rows - strip * height); r++)
          out[(i * width + j) * height + r] = w.weights[placeOf(w, strip * height + r, inputs[i] + j)];
}

/** What of the matrix a kernel depends on, and how it is cut up. */
export interface SparseStripShape {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  readonly height: number;
  readonly width: number;
  /** Blocks of all strips. */
  readonly stored: number;
  /** Pixels whose sums are in registers together. */
  readonly pixels: number;
  readonly hasBias: boolean;
}

/** How strips of so many vectors are multiplied: inputs of a block, pixels at a time at most, and of each four inputs how many are lanes of one vector. */
interface Tiling {
  readonly width: number;
  readonly pixels: number;
  readonly picked: number;
}
/**
 * A processor loads twice a cycle: with one vector a multiply-add each would take one, so that three of four inputs come out of a vector that is loaded once.
 * By vectors; where blocks have one input, registers are too few for the weights of four.
 */
const TILINGS: Readonly<Record<SimdTarget["name"], readonly Tiling[]>> = {
  avx512: [
    { width: 4, pixels: 16, picked: 3 },
    { width: 4, pixels: 10, picked: 0 },
  ],
  avx2: [
    { width: 4, pixels: 9, picked: 3 },
    { width: 1, pixels: 6, picked: 0 },
  ],
  wasm: [
    { width: 1, pixels: 7, picked: 0 },
    { width: 1, pixels: 4, picked: 0 },
  ],
};
const tilingOf = (height: number, { name, lanes }: SimdTarget): Tiling => TILINGS[name][height / lanes - 1];

/** Sizes of blocks that there are kernels for. */
export const stripSizes = (target: SimdTarget): Pick<Strips, "height" | "width">[] =>
  TILINGS[target.name].map(({ width }, i) => ({ height: (i + 1) * target.lanes, width }));

export function sparseStripShape(
  { rows, depth, height, width, inputs }: Strips,
  n: number,
  hasBias: boolean,
  target: SimdTarget,
): SparseStripShape {
  const tiles = Math.ceil(n / tilingOf(height, target).pixels);
  return { rows, depth, n, height, width, stored: inputs.length, pixels: Math.ceil(n / tiles), hasBias };
}

/** Multiply-adds in flight, a latency of four cycles and two units: fewer sums would wait for each other. */
const IN_FLIGHT = 8;
const LANE = ["lane0", "lane1", "lane2", "lane3"] as const;

/** Buffers: values, pointers, inputs, those of the source or the operand (n, depth), bias (rows) where there is one, the epilogue's inputs, output (n, rows). */
export function sparseStripKernel(
  name: string,
  shape: SparseStripShape,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
  source?: PixelSource,
): Kernel {
  return new SparseStrips(name, shape, epilogue, target, threads, source).build();
}

/** Where the pixels of a tile are: pixel p begins p · rowBytes behind. */
interface Pixels {
  readonly buffer: number;
  readonly at: Int;
  readonly rowBytes: number;
  readonly first: Int;
  readonly count: number;
}

class SparseStrips {
  private readonly b: KernelBuilder;
  private readonly buffers: Readonly<Record<"values" | "pointers" | "inputs" | "bias" | "scratch", number>>;
  /** Where pixels lie, if they are read there; otherwise what copies them. */
  private readonly operand: number;
  private readonly load: LoadChannels | null;
  private readonly epilogue: EpilogueCode;
  private readonly strips: number;

  constructor(
    name: string,
    private readonly shape: SparseStripShape,
    epilogue: Epilogue,
    target: SimdTarget,
    threads: number,
    source?: PixelSource,
  ) {
    const { rows, depth, n, height, width, stored, pixels, hasBias } = shape;
    const b = new KernelBuilder(name, target, threads);
    this.b = b;
    this.strips = Math.ceil(rows / height);
    const values = b.buffer("values", 4 * stored * width * height, "read");
    const pointers = b.buffer("pointers", 4 * (this.strips + 1), "read");
    const inputs = b.buffer("inputs", 4 * stored, "read");
    this.operand = source ? -1 : b.buffer("x", 4 * depth * n, "read");
    this.load = source
      ? source.declare(b, shape)
      : collides(depth, pixels) || depth % width > 0
        ? (pixel, k, count) => b.load(this.operand, plus(times(pixel, depth * 4), times(k, 4)), count)
        : null;
    const bias = hasBias ? b.buffer("bias", 4 * rows, "read") : -1;
    this.epilogue = new EpilogueCode(b, epilogue, rows);
    const copied = this.load ? pixels * this.pitch : 0;
    const waiting = this.epilogue.scratchBytes({ rows: pixels, vectors: height / target.lanes }, depth);
    const scratch = copied + waiting > 0 ? b.buffer("scratch", copied + waiting, "scratch") : -1;
    if (waiting > 0) this.epilogue.useScratch(scratch, copied);
    this.buffers = { values, pointers, inputs, bias, scratch };
  }

  /** Bytes from one copied pixel to the next: a line more than needed, so that they do not share cache sets. */
  private get pitch(): number {
    return Math.ceil(this.shape.depth / 16) * 64 + 64;
  }

  build(): Kernel {
    const { b, shape, strips } = this;
    const { n, pixels } = shape;
    const whole = Math.floor(n / pixels);
    const rest = n % pixels;
    shareOut(b, [whole + (rest > 0 ? 1 : 0), strips], ([columns, rows]) => {
      b.loop(columns.from, b.min(columns.to, whole), 1, (tile) => this.tile(times(tile, pixels), pixels, rows));
      if (rest > 0) b.when(whole, columns.to, () => this.tile(whole * pixels, rest, rows));
    });
    return b.build();
  }

  /** Some pixels, and all strips of a part. */
  private tile(first: Int, count: number, strips: Part): void {
    const { b, shape, load, operand, buffers, pitch } = this;
    const rowBytes = shape.depth * 4;
    if (load) this.copy(load, first, count);
    const pixels: Pixels = load
      ? { buffer: buffers.scratch, at: 0, rowBytes: pitch, first, count }
      : { buffer: operand, at: times(first, rowBytes), rowBytes, first, count };
    b.loop(strips.from, strips.to, 1, (strip) => this.strip(strip, pixels));
  }

  private copy(load: LoadChannels, first: Int, count: number): void {
    const { b, shape, buffers, pitch } = this;
    const { lanes } = b.target;
    const whole = shape.depth - (shape.depth % lanes);
    for (let p = 0; p < count; p++) {
      // Lanes beyond the last channel are zeros, which blocks that reach there multiply by.
      const put = (k: Int, channels: number): void =>
        b.store(load(plus(first, p), k, channels), buffers.scratch, plus(times(k, 4), p * pitch));
      if (whole > 0) b.loop(0, whole, lanes, (k) => put(k, lanes));
      if (whole < shape.depth) put(whole, shape.depth - whole);
    }
  }

  private strip(strip: Int, pixels: Pixels): void {
    const { b, shape, buffers } = this;
    const { height, width, stored, depth } = shape;
    const { lanes } = b.target;
    const { picked } = tilingOf(height, b.target);
    const vectors = range(height / lanes);
    const from = b.loadInt(buffers.pointers, times(strip, 4), "i32", 0, stored);
    const to = b.loadInt(buffers.pointers, plus(times(strip, 4), 4), "i32", 0, stored);
    const zero = b.f32(0);
    // Where there are few sums, each input of a block has its own.
    const sides = shape.pixels * vectors.length < IN_FLIGHT ? width : 1;
    const sums = range(sides).map(() => range(pixels.count).map(() => vectors.map(() => b.op("mov", zero))));
    b.loop(from, to, 1, (i) => {
      const k = b.loadInt(buffers.inputs, times(i, 4), "i32", 0, (Math.ceil(depth / width) - 1) * width);
      const block = times(i, width * height * 4);
      const weights = range(width).map((j) => vectors.map((v) => b.load(buffers.values, plus(block, (j * height + v * lanes) * 4))));
      for (let p = 0; p < pixels.count; p++) {
        const at = plus(pixels.at, times(k, 4), p * pixels.rowBytes);
        const quad = picked > 0 ? b.quad(pixels.buffer, at) : null;
        for (const [j, own] of weights.entries()) {
          const x = quad && j < picked ? b.op(LANE[j], quad) : b.splat(pixels.buffer, plus(at, 4 * j));
          for (const [v, sum] of sums[j % sides][p].entries()) b.op("fma", x, own[v], sum, sum);
        }
      }
    });
    const totals = sums.reduce((left, right) => left.map((row, p) => row.map((sum, v) => b.op("add", sum, right[p][v]))));
    this.store(strip, totals, pixels);
  }

  /** Adds the bias, and has the epilogue store what is there of a strip. */
  private store(strip: Int, totals: readonly (readonly Vec[])[], { first }: Pixels): void {
    const { b, shape, epilogue, strips, buffers } = this;
    const { rows, height } = shape;
    const { lanes } = b.target;
    const put = (start: Int, outputs: number): void => {
      const lanesOf = (v: number): number => Math.min(lanes, outputs - v * lanes);
      const column = (v: number): Int => plus(start, v * lanes);
      const bias = range(Math.ceil(outputs / lanes)).map((v) =>
        buffers.bias < 0 ? null : b.load(buffers.bias, times(column(v), 4), lanesOf(v)),
      );
      const results = totals.map((row) => bias.map((added, v) => (added ? b.op("add", row[v], added) : row[v])));
      epilogue.storeTile(results, { row: first, rowStep: 1, column, lanesOf });
    };
    const rest = rows % height;
    const last = (strips - 1) * height;
    if (rest === 0) put(times(strip, height), height);
    else if (strips === 1) put(0, rest);
    else
      b.when(
        strip,
        strips - 1,
        () => put(times(b.min(strip, strips - 2), height), height),
        () => put(last, rest),
      );
  }
}

/** Whether pixels lie a multiple of a large power of two apart, so that they share few cache sets. */
const collides = (depth: number, pixels: number): boolean => (depth * 4) % 1024 === 0 && pixels > 4;

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
