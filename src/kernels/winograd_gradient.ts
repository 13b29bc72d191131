// Gradients of the weights of 3×3 convolutions of stride 1 with a quarter of the multiplications: Winograd's F(4×4, 3×3) turned around.
// Of y = Aᵀ·[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A the gradient for g is Gᵀ·[Σ (A·dy·Aᵀ) ⊙ (Bᵀ·d·B)]·G, summed over all tiles.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
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
  type TileGrid,
  TileReader,
  tileGrid,
} from "./winograd_tiles.ts";
import { type Part, shareOut } from "./work.ts";

export interface WinogradGradientShape {
  readonly batch: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly input: { readonly height: number; readonly width: number };
  readonly output: { readonly height: number; readonly width: number };
  /** Of the convolution. */
  readonly pad: { readonly y: number; readonly x: number };
}

export interface WinogradGradientSchedule {
  /** Rows are in channels, vectors are out channels. */
  readonly tile: TileShape;
  /** Image tiles worked on together. */
  readonly block: number;
  /** Partial sums, one a thread. */
  readonly slots: number;
}

const gridOf = ({ batch, output }: WinogradGradientShape): TileGrid => tileGrid(batch, output);

/** Elements of one slot of sums: [product][tile of out channels][in channel][out channel of the tile]. */
const slotElements = ({ inChannels, outChannels }: WinogradGradientShape, { lanes }: SimdTarget): number =>
  PRODUCTS * inChannels * roundUp(outChannels, lanes);

export const winogradSumElements = (shape: WinogradGradientShape, { slots }: WinogradGradientSchedule, target: SimdTarget): number =>
  slots * slotElements(shape, target);

/** Most bytes of sums, in second-level caches: each block of tiles goes through all of them. */
const MOST_SUMS = 3;

/** The schedule, or null where summing directly is faster. */
export function scheduleWinogradGradient(
  shape: WinogradGradientShape,
  target: SimdTarget,
  threads: number,
): WinogradGradientSchedule | null {
  const { inChannels, outChannels, output, batch } = shape;
  if (inChannels < 16 || outChannels < 16) return null;
  const { total } = gridOf(shape);
  const waste = (total * OUT * OUT) / (batch * output.height * output.width);
  if (total < 16 * threads || waste > 1.6 || 4 * slotElements(shape, target) > MOST_SUMS * target.l2) return null;
  const perTile = 4 * PRODUCTS * (roundUp(inChannels, target.lanes) + roundUp(outChannels, target.lanes));
  const block = Math.min(Math.ceil(total / threads), 64, Math.floor(target.l2 / 2 / perTile));
  if (block < 12) return null;
  return { tile: chooseTile(target, inChannels, Math.ceil(outChannels / target.lanes)), block, slots: threads };
}

/** Buffers: x (batch, y, x, channels), gy (batch, y, x, channels), sums (winogradSumElements). */
export function winogradGradientKernel(
  name: string,
  shape: WinogradGradientShape,
  schedule: WinogradGradientSchedule,
  target: SimdTarget,
  threads: number,
): Kernel {
  return new WinogradGradient(name, shape, schedule, target, threads).build();
}

/** Calls `body` with each tile of out channels: its number of the first one, and vectors. */
function overColumns(
  b: KernelBuilder,
  { outChannels }: WinogradGradientShape,
  { tile }: WinogradGradientSchedule,
  body: (first: Int, vectors: number) => void,
): void {
  const width = tile.vectors * b.lanes;
  const padded = roundUp(outChannels, b.lanes);
  const full = Math.floor(padded / width);
  b.loop(0, full, 1, (t) => body(times(t, width), tile.vectors));
  if (full * width < padded) body(full * width, padded / b.lanes - full * tile.vectors);
}

class WinogradGradient {
  private readonly b: KernelBuilder;
  private readonly sums: number;
  private readonly scratch: number;
  private readonly inputs: TileReader;
  private readonly gradients: TileReader;
  private readonly inPadded: number;
  private readonly outPadded: number;
  /** Bytes between products, of inputs and of gradients. */
  private readonly inPlane: number;
  private readonly outPlane: number;
  /** Byte offset of the transformed gradients in scratch; the transformed inputs are before them. */
  private readonly right: number;

  constructor(
    name: string,
    private readonly shape: WinogradGradientShape,
    private readonly schedule: WinogradGradientSchedule,
    private readonly target: SimdTarget,
    threads: number,
  ) {
    const { batch, inChannels, outChannels, input, output, pad } = shape;
    const { block } = schedule;
    this.b = new KernelBuilder(name, target, threads);
    this.inPadded = roundUp(inChannels, target.lanes);
    this.outPadded = roundUp(outChannels, target.lanes);
    const x = this.b.buffer("x", 4 * batch * input.height * input.width * inChannels, "read");
    const gy = this.b.buffer("gy", 4 * batch * output.height * output.width * outChannels, "read");
    this.sums = this.b.buffer("sums", 4 * winogradSumElements(shape, schedule, target), "readwrite");
    this.inPlane = planeBytes(block, this.inPadded);
    this.outPlane = planeBytes(block, this.outPadded);
    this.right = PRODUCTS * this.inPlane;
    const patch = this.right + PRODUCTS * this.outPlane;
    const patchBytes = 4 * Math.max(IN * IN * this.inPadded, OUT * OUT * this.outPadded);
    this.scratch = this.b.buffer("tiles", patch + patchBytes, "scratch");
    this.inputs = new TileReader(this.b, { buffer: x, ...input, channels: inChannels, pad }, IN, this.scratch, patch);
    const image = { buffer: gy, ...output, channels: outChannels, pad: { y: 0, x: 0 } };
    this.gradients = new TileReader(this.b, image, OUT, this.scratch, patch);
  }

  build(): Kernel {
    const { b, shape, schedule } = this;
    const blocks = Math.ceil(gridOf(shape).total / schedule.block);
    const size = Math.ceil(blocks / b.threads);
    const slot = 4 * slotElements(shape, this.target);
    b.parallel(b.threads, (thread) => {
      const at = times(thread, slot);
      const zero = b.f32(0);
      b.loop(0, slot / (4 * b.lanes), 1, (v) => b.store(zero, this.sums, plus(at, times(v, 4 * b.lanes))));
      const from = b.min(times(thread, size), blocks);
      this.overBlocks(at, { from, to: b.min(plus(from, size), blocks) });
    });
    return b.build();
  }

  private overBlocks(at: Int, blocks: Part): void {
    const { b, shape, schedule } = this;
    const grid = gridOf(shape);
    const locate = (tile: Int) => locateTile(b, grid, shape.batch, tile);
    b.loop(blocks.from, blocks.to, 1, (block) => {
      const first = times(block, schedule.block);
      b.loop(0, schedule.block, 1, (i) => {
        const tile = plus(first, i);
        // Behind the last tile gradients are zeros, and inputs are some numbers.
        const place = locate(b.min(tile, grid.total - 1));
        this.inputs.read(place, (load, c) => inputTransform(b, load, (k, v) => this.store(v, 0, k, i, this.inPadded, c)));
        const transform = (): void =>
          this.gradients.read(place, (load, c) => gradientTransform(b, load, (k, v) => this.store(v, this.right, k, i, this.outPadded, c)));
        const clear = (): void => {
          const zero = b.f32(0);
          b.loop(0, PRODUCTS, 1, (k) => overVectors(b, this.outPadded, (c) => this.store(zero, this.right, k, i, this.outPadded, c)));
        };
        if (grid.total % schedule.block === 0) transform();
        else b.when(tile, grid.total, transform, clear);
      });
      this.multiply(at);
    });
  }

  /** Puts product k of tile i of the block into scratch, for the vector of channels at byte `c`. */
  private store(value: Vec, start: number, k: Int, i: Int, channels: number, c: Int): void {
    this.b.store(value, this.scratch, plus(start, times(k, start === 0 ? this.inPlane : this.outPlane), times(i, 4 * channels), c));
  }

  /** For each product: sums (in channels, out channels) += inputsᵀ (in channels, tiles) · gradients (tiles, out channels). */
  private multiply(at: Int): void {
    const { b, shape, schedule, outPadded } = this;
    const { inChannels } = shape;
    const { tile } = schedule;
    const full = Math.floor(inChannels / tile.rows);
    b.loop(0, PRODUCTS, 1, (k) =>
      overColumns(b, shape, schedule, (first, vectors) => {
        const left = times(k, this.inPlane);
        const right = plus(this.right, times(k, this.outPlane), times(first, 4));
        const sums = plus(at, times(k, 4 * inChannels * outPadded), times(first, 4 * inChannels));
        const product = (c: Int, rows: number): void =>
          this.product(plus(left, times(c, 4)), right, plus(sums, times(c, 4 * vectors * b.lanes)), rows, vectors);
        b.loop(0, full, 1, (c) => product(times(c, tile.rows), tile.rows));
        if (full * tile.rows < inChannels) product(full * tile.rows, inChannels - full * tile.rows);
      }),
    );
  }

  private product(left: Int, right: Int, at: Int, rows: number, vectors: number): void {
    const { b, schedule, scratch, inPadded, outPadded } = this;
    const sumAt = (r: number, v: number): Int => plus(at, 4 * b.lanes * (r * vectors + v));
    const sums = Array.from({ length: rows }, (_, r) => Array.from({ length: vectors }, (_, v) => b.load(this.sums, sumAt(r, v))));
    overDepth(b, schedule.block, unrollOf(this.target, schedule.block, rows * vectors), (i, count) =>
      multiplyTile(b, sums, count, {
        left: { buffer: scratch, at: (r, k) => plus(left, times(i, 4 * inPadded), 4 * (k * inPadded + r)) },
        right: { buffer: scratch, at: (v, k) => plus(right, times(i, 4 * outPadded), 4 * (k * outPadded + v * b.lanes)) },
      }),
    );
    for (const [r, row] of sums.entries()) for (const [v, sum] of row.entries()) b.store(sum, this.sums, sumAt(r, v));
  }
}

/** Adds up the slots and transforms the products back. Buffers: sums, weights as [tile of out channels][tap][in channel][out channel of the tile]. */
export function winogradBackKernel(
  name: string,
  shape: WinogradGradientShape,
  schedule: WinogradGradientSchedule,
  target: SimdTarget,
  threads: number,
): Kernel {
  const { inChannels, outChannels } = shape;
  const b = new KernelBuilder(name, target, threads);
  const padded = roundUp(outChannels, target.lanes);
  const sums = b.buffer("sums", 4 * winogradSumElements(shape, schedule, target), "read");
  const weights = b.buffer("weights", 4 * 9 * inChannels * padded, "write");
  const slot = 4 * slotElements(shape, target);
  shareOut(b, [inChannels], ([channels]) =>
    overColumns(b, shape, schedule, (first, vectors) =>
      b.loop(channels.from, channels.to, 1, (c) =>
        b.loop(0, vectors, 1, (v) => {
          const inTile = plus(times(c, 4 * vectors * b.lanes), times(v, 4 * b.lanes));
          const load = (k: number): Vec => {
            const at = plus(4 * k * inChannels * padded, times(first, 4 * inChannels), inTile);
            let sum = b.load(sums, at);
            for (let s = 1; s < schedule.slots; s++) sum = b.op("add", sum, b.load(sums, plus(at, s * slot)));
            return sum;
          };
          const columns = Array.from({ length: IN }, (_, q) =>
            weightLine(
              b,
              Array.from({ length: IN }, (_, r) => load(r * IN + q)),
            ),
          );
          for (let ky = 0; ky < 3; ky++)
            for (const [kx, value] of weightLine(b, columns.map((column) => column[ky])).entries()) // biome-ignore format: one idea
              b.store(value, weights, plus(times(first, 4 * 9 * inChannels), (ky * 3 + kx) * 4 * inChannels * vectors * b.lanes, inTile));
        }),
      ),
    ),
  );
  return b.build();
}

/** A·g of four vectors. */
function gradientLine(b: KernelBuilder, [g0, g1, g2, g3]: readonly Vec[]): Vec[] {
  const even = b.op("add", g0, g2);
  const odd = b.op("add", g1, g3);
  const even2 = b.op("fma", g2, b.f32(4), g0);
  const odd2 = b.op("fma", g3, b.f32(4), g1);
  return [g0, b.op("add", even, odd), b.op("sub", even, odd), b.op("fma", odd2, b.f32(2), even2), b.op("fnma", odd2, b.f32(2), even2), g3];
}

/** A·g·Aᵀ. */
function gradientTransform(b: KernelBuilder, load: (r: number, q: number) => Vec, store: (k: number, value: Vec) => void): void {
  const range = [0, 1, 2, 3];
  const columns = range.map((q) => gradientLine(b, range.map((r) => load(r, q)))); // biome-ignore format: one line
  for (let r = 0; r < IN; r++) {
    const row = gradientLine(b, range.map((q) => columns[q][r])); // biome-ignore format: one line
    for (const [q, value] of row.entries()) store(r * IN + q, value);
  }
}

/** Gᵀ·s of six vectors. */
function weightLine(b: KernelBuilder, [s0, s1, s2, s3, s4, s5]: readonly Vec[]): Vec[] {
  const near = b.op("add", s1, s2);
  const far = b.op("add", s3, s4);
  const sixth = b.f32(1 / 6);
  const scaled = b.op("mul", near, sixth);
  return [
    b.op("sub", b.op("fma", s0, b.f32(1 / 4), b.op("mul", far, b.f32(1 / 24))), scaled),
    b.op("fma", b.op("sub", s2, s1), sixth, b.op("mul", b.op("sub", s3, s4), b.f32(1 / 12))),
    b.op("sub", b.op("fma", far, sixth, s5), scaled),
  ];
}
