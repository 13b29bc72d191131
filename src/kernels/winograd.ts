// 3×3 convolutions of stride 1 with a quarter of the multiplications: Winograd's F(4×4, 3×3) (Lavin and Gray, 2016) on channels-last images.
import { affine, type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import { chooseTile, multiplyTile, overDepth, type TileShape, unrollOf } from "./tile.ts";
import {
  IN,
  inputTransform,
  locateTile,
  OUT,
  overVectors,
  PRODUCTS,
  planeBytes,
  roundUp,
  type TileAt,
  type TileGrid,
  TileReader,
  tileGrid,
} from "./winograd_tiles.ts";
import { shareOut } from "./work.ts";

export interface WinogradShape {
  readonly batch: number;
  readonly inChannels: number;
  readonly outChannels: number;
  /** Rows and columns of the input and of the output, and of zeros above and left of the input. */
  readonly input: { readonly height: number; readonly width: number };
  readonly output: { readonly height: number; readonly width: number };
  readonly pad: { readonly y: number; readonly x: number };
  readonly hasBias: boolean;
}

export interface WinogradSchedule {
  /** Register tile of the products. */
  readonly tile: TileShape;
  /** Image tiles worked on together: rows of each of the 36 products. */
  readonly block: number;
}

const tilesOf = (s: WinogradShape): TileGrid => tileGrid(s.batch, s.output);

/** The schedule, or null where direct convolution is faster: few channels, few tiles, weights or tiles that leave the second-level cache. */
export function scheduleWinograd(shape: WinogradShape, target: SimdTarget): WinogradSchedule | null {
  const { inChannels, outChannels, output, batch } = shape;
  if (inChannels < 16 || outChannels < 16) return null;
  const tiles = tilesOf(shape);
  const waste = (tiles.total * OUT * OUT) / (batch * output.height * output.width);
  const weightBytes = 4 * PRODUCTS * inChannels * roundUp(outChannels, target.lanes);
  if (tiles.total < 8 || waste > 1.6 || weightBytes > 4 * target.l2) return null;
  const tile = chooseTile(target, Math.min(tiles.total, 14), Math.ceil(outChannels / target.lanes));
  const perTile = 4 * PRODUCTS * (roundUp(inChannels, target.lanes) + roundUp(outChannels, target.lanes));
  const fit = Math.floor(target.l2 / 2 / perTile);
  const block = tile.rows * Math.max(1, Math.floor(Math.min(fit, 28, roundUp(tiles.total, tile.rows)) / tile.rows));
  return block <= 2 * fit ? { tile, block } : null;
}

/** Buffers: input, packed weights, bias when there is one, the epilogue's inputs, output. */
export function winogradKernel(
  name: string,
  shape: WinogradShape,
  schedule: WinogradSchedule,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
): Kernel {
  return new Winograd(name, shape, schedule, epilogue, target, threads).build();
}

class Winograd {
  private readonly b: KernelBuilder;
  private readonly input: number;
  private readonly weights: number;
  private readonly bias: number;
  private readonly scratch: number;
  private readonly reader: TileReader;
  private readonly epilogue: EpilogueCode;
  private readonly inPadded: number;
  private readonly outPadded: number;
  /** Bytes between products, of inputs and of results. */
  private readonly inPlane: number;
  private readonly outPlane: number;
  /** Byte offsets in scratch: transformed inputs, products, one tile's padded inputs or outputs. */
  private readonly at: { readonly inputs: number; readonly products: number; readonly patch: number };

  constructor(
    name: string,
    private readonly shape: WinogradShape,
    private readonly schedule: WinogradSchedule,
    epilogue: Epilogue,
    private readonly target: SimdTarget,
    threads: number,
  ) {
    const { batch, inChannels, outChannels, input } = shape;
    const { block } = schedule;
    this.b = new KernelBuilder(name, target, threads);
    this.inPadded = roundUp(inChannels, target.lanes);
    this.outPadded = roundUp(outChannels, target.lanes);
    this.input = this.b.buffer("input", 4 * batch * input.height * input.width * inChannels, "read");
    this.weights = this.b.buffer("weights", 4 * PRODUCTS * inChannels * this.outPadded, "read");
    this.bias = shape.hasBias ? this.b.buffer("bias", 4 * outChannels, "read") : -1;
    this.epilogue = new EpilogueCode(this.b, epilogue, outChannels);
    this.inPlane = planeBytes(block, this.inPadded);
    this.outPlane = planeBytes(block, this.outPadded);
    const products = PRODUCTS * this.inPlane;
    const patch = products + PRODUCTS * this.outPlane;
    this.at = { inputs: 0, products, patch };
    const patchBytes = 4 * Math.max(PRODUCTS * this.inPadded, OUT * OUT * this.outPadded);
    this.scratch = this.b.buffer("tiles", patch + patchBytes, "scratch");
    const image = { buffer: this.input, ...input, channels: inChannels, pad: shape.pad };
    this.reader = new TileReader(this.b, image, IN, this.scratch, patch);
  }

  build(): Kernel {
    const { b, schedule } = this;
    const { total } = tilesOf(this.shape);
    shareOut(b, [Math.ceil(total / schedule.block)], ([blocks]) => {
      b.loop(blocks.from, blocks.to, 1, (block) => {
        const first = times(block, schedule.block);
        // A last block that is not full works on its last tile several times.
        b.loop(0, schedule.block, 1, (i) => this.transformInput(i, this.locate(b.min(plus(first, i), total - 1))));
        this.multiply();
        b.loop(0, schedule.block, 1, (i) => {
          const tile = plus(first, i);
          b.when(tile, total, () => this.transformOutput(i, this.locate(b.min(tile, total - 1))));
        });
      });
    });
    return b.build();
  }

  private locate(tile: Int): TileAt {
    return locateTile(this.b, tilesOf(this.shape), this.shape.batch, tile);
  }

  private transformInput(i: Int, tile: TileAt): void {
    const { b, inPadded } = this;
    this.reader.read(tile, (load, at) =>
      inputTransform(b, load, (k, value) =>
        b.store(value, this.scratch, plus(this.at.inputs + k * this.inPlane, times(i, inPadded * 4), at)),
      ),
    );
  }

  /** The 36 products: tiles × in channels times in channels × out channels. */
  private multiply(): void {
    const { b, shape, schedule, outPadded, inPadded } = this;
    const { lanes } = this.target;
    const { tile, block } = schedule;
    const width = tile.vectors * lanes;
    const full = Math.floor(outPadded / width);
    const rest = (outPadded - full * width) / lanes;
    b.loop(0, PRODUCTS, 1, (k) => {
      const left = plus(this.at.inputs, times(k, this.inPlane));
      const right = times(k, shape.inChannels * outPadded * 4);
      const to = plus(this.at.products, times(k, this.outPlane));
      b.loop(0, block, tile.rows, (row) => {
        const product = (first: Int, vectors: number): void =>
          this.product(plus(left, times(row, inPadded * 4)), plus(right, times(first, shape.inChannels * 4)), vectors, (r, v) =>
            plus(to, times(row, outPadded * 4), r * outPadded * 4, times(first, 4), v * lanes * 4),
          );
        b.loop(0, full, 1, (t) => product(times(t, width), tile.vectors));
        if (rest > 0) product(full * width, rest);
      });
    });
  }

  /** One register tile, stored to scratch. */
  private product(left: Int, right: Int, vectors: number, to: (r: number, v: number) => Int): void {
    const { b, shape, scratch, inPadded, weights } = this;
    const { lanes } = this.target;
    const sums = Array.from({ length: this.schedule.tile.rows }, () => Array.from({ length: vectors }, () => b.op("mov", b.f32(0))));
    const width = vectors * lanes * 4;
    overDepth(b, shape.inChannels, unrollOf(this.target, shape.inChannels, sums.length * vectors), (c, count) =>
      multiplyTile(b, sums, count, {
        left: { buffer: scratch, at: (r, i) => plus(left, times(c, 4), r * inPadded * 4 + i * 4) },
        right: { buffer: weights, at: (v, i) => plus(right, times(c, width), i * width + v * lanes * 4) },
      }),
    );
    for (const [r, row] of sums.entries()) for (const [v, sum] of row.entries()) b.store(sum, scratch, to(r, v));
  }

  private transformOutput(i: Int, tile: TileAt): void {
    const { b, shape, outPadded, scratch } = this;
    const { height, width } = shape.output;
    b.loop(0, outPadded, b.lanes, (c) => {
      const at = plus(times(i, outPadded * 4), times(c, 4));
      const load = (r: number, q: number): Vec => b.load(scratch, plus(this.at.products + (r * IN + q) * this.outPlane, at));
      outputTransform(b, load, (k, value) => b.store(value, scratch, plus(this.at.patch + k * outPadded * 4, times(c, 4))));
    });
    const y = times(tile.y, OUT);
    const x = times(tile.x, OUT);
    b.loop(0, b.min(plus(height, times(y, -1)), OUT), 1, (r) => {
      const row = plus(times(tile.image, height * width), times(b.min(plus(y, r), height - 1), width));
      b.loop(0, b.min(plus(width, times(x, -1)), OUT), 1, (q) => {
        const pixel = plus(row, b.min(plus(x, q), width - 1));
        const from = plus(this.at.patch, times(r, OUT * outPadded * 4), times(q, outPadded * 4));
        overVectors(b, shape.outChannels, (at, lanes) => this.finish(b.load(scratch, plus(from, at)), pixel, at, lanes));
      });
    });
  }

  /** Adds the bias, applies the epilogue and stores. `at`: four times the channel. */
  private finish(value: Vec, row: Int, at: Int, lanes: number): void {
    const { b, bias } = this;
    const sum = bias < 0 ? value : b.op("add", value, b.load(bias, at, lanes));
    this.epilogue.storeTile([[sum]], { row, rowStep: 0, column: () => quarter(at), lanesOf: () => lanes });
  }
}

/** An offset in bytes of 4-byte elements to one in elements. */
function quarter(at: Int): Int {
  if (typeof at === "number") return at / 4;
  const { base, terms } = affine(at);
  return { base: base / 4, terms: terms.map(({ v, c }) => ({ v, c: c / 4 })) };
}

/** Aᵀ·m of six vectors. */
function outputLine(b: KernelBuilder, m: readonly Vec[]): Vec[] {
  const sum = b.op("add", m[1], m[2]);
  const difference = b.op("sub", m[1], m[2]);
  const sum2 = b.op("add", m[3], m[4]);
  const difference2 = b.op("sub", m[3], m[4]);
  return [
    b.op("add", b.op("add", m[0], sum), sum2),
    b.op("fma", difference2, b.f32(2), difference),
    b.op("fma", sum2, b.f32(4), sum),
    b.op("add", b.op("fma", difference2, b.f32(8), difference), m[5]),
  ];
}

/** Aᵀ·m·A. */
function outputTransform(b: KernelBuilder, load: (r: number, q: number) => Vec, store: (k: number, value: Vec) => void): void {
  const range = [0, 1, 2, 3, 4, 5];
  const columns = range.map((q) => outputLine(b, range.map((r) => load(r, q)))); // biome-ignore format: one line
  for (let r = 0; r < OUT; r++) {
    const row = outputLine(b, range.map((q) => columns[q][r])); // biome-ignore format: one line
    for (const [q, value] of row.entries()) store(r * OUT + q, value);
  }
}
