// Tiles of Winograd's F(4×4, 3×3) on channels-last images: where they are, how they are read with zeros around, and how inputs are transformed.
import { type Int, type KernelBuilder, plus, times, type Vec } from "../ir/kernel.ts";

/** Outputs of a tile along an axis, inputs that they need, and products for them. */
export const OUT = 4;
export const IN = 6;
export const PRODUCTS = IN * IN;

export const roundUp = (n: number, to: number): number => Math.ceil(n / to) * to;

const LINE = 64;
/**
 * Bytes from one product's tiles to the next one's: an odd number of cache lines.
 * A tile's transforms are written to all 36 products at once; multiples of large powers of two would all meet in a few sets of the cache.
 */
export const planeBytes = (tiles: number, channels: number): number => {
  const lines = Math.ceil((4 * tiles * channels) / LINE);
  return LINE * (lines + 1 - (lines % 2));
};

/** Tiles of an image's columns and rows, and of all images. */
export interface TileGrid {
  readonly y: number;
  readonly x: number;
  readonly total: number;
}

export function tileGrid(batch: number, { height, width }: { readonly height: number; readonly width: number }): TileGrid {
  const y = Math.ceil(height / OUT);
  const x = Math.ceil(width / OUT);
  return { y, x, total: batch * y * x };
}

/** Where a tile is: its image, row and column of tiles. */
export interface TileAt {
  readonly image: Int;
  readonly y: Int;
  readonly x: Int;
}

export function locateTile(b: KernelBuilder, { y, x }: TileGrid, batch: number, tile: Int): TileAt {
  const row = b.div(tile, x);
  return { image: batch === 1 ? 0 : b.div(row, y), y: batch === 1 ? row : b.mod(row, y), x: b.mod(tile, x) };
}

/** Calls `body` for every vector of a list of channels: byte offset of its first channel, lanes. */
export function overVectors(b: KernelBuilder, channels: number, body: (at: Int, lanes: number) => void): void {
  const whole = channels - (channels % b.lanes);
  b.loop(0, whole, b.lanes, (c) => body(times(c, 4), b.lanes));
  if (whole < channels) body(whole * 4, channels - whole);
}

/** Images (batch, height, width, channels) in a buffer, and zeros above and left of them that belong to tiles. */
export interface TiledImage {
  readonly buffer: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly pad: { readonly y: number; readonly x: number };
}

/** Reads tiles of `size` × `size` pixels, which begin OUT apart; those at a border through a padded copy in scratch memory. */
export class TileReader {
  private readonly padded: number;

  /** The copy takes size² pixels of padded channels from byte `patch` of `scratch` on. */
  constructor(
    private readonly b: KernelBuilder,
    private readonly image: TiledImage,
    private readonly size: number,
    private readonly scratch: number,
    private readonly patch: number,
  ) {
    this.padded = roundUp(image.channels, b.lanes);
  }

  /** Calls `body` for every vector of channels with what loads row r, column q of the tile; `at`: four times the first channel. */
  read(tile: TileAt, body: (load: (r: number, q: number) => Vec, at: Int) => void): void {
    const { b, image, size, scratch, padded } = this;
    const { height, width, channels, pad } = image;
    const y = plus(times(tile.y, OUT), -pad.y);
    const x = plus(times(tile.x, OUT), -pad.x);
    const inside = b.min(b.min(y, plus(height - size, times(y, -1))), b.min(x, plus(width - size, times(x, -1))));
    const fromImage = (): void => {
      const corner = this.pixel(tile.image, b.min(b.max(y, 0), height - size), b.min(b.max(x, 0), width - size));
      overVectors(b, channels, (at, lanes) =>
        body((r, q) => b.load(image.buffer, plus(corner, (r * width + q) * channels * 4, at), lanes), at),
      );
    };
    const fromPatch = (): void => {
      this.copyPatch(tile.image, y, x);
      b.loop(0, padded, b.lanes, (c) =>
        body((r, q) => b.load(scratch, plus(this.patch + (r * size + q) * padded * 4, times(c, 4))), times(c, 4)),
      );
    };
    if (height < size || width < size) fromPatch();
    else b.when(-1, inside, fromImage, fromPatch);
  }

  /** Byte offset of a pixel. */
  private pixel(image: Int, y: Int, x: Int): Int {
    const { height, width, channels } = this.image;
    return plus(times(image, height * width * channels * 4), times(y, width * channels * 4), times(x, channels * 4));
  }

  /** The pixels of a tile at the border, with zeros outside of the image. */
  private copyPatch(image: Int, y: Int, x: Int): void {
    const { b, size, scratch, padded } = this;
    const { height, width, channels } = this.image;
    b.loop(0, size * size * padded, b.lanes, (at) => b.store(b.f32(0), scratch, plus(this.patch, times(at, 4))));
    const range = (start: Int, extent: number): [Int, Int] => [
      b.min(b.max(times(start, -1), 0), size),
      b.max(b.min(plus(extent, times(start, -1)), size), 0),
    ];
    const inside = (start: Int, i: Int, extent: number): Int => b.max(b.min(plus(start, i), extent - 1), 0);
    b.loop(...range(y, height), 1, (r) => {
      const row = inside(y, r, height);
      b.loop(...range(x, width), 1, (q) => {
        const from = this.pixel(image, row, inside(x, q, width));
        overVectors(b, channels, (at, lanes) => {
          const to = plus(this.patch, times(r, size * padded * 4), times(q, padded * 4), at);
          b.store(b.load(this.image.buffer, plus(from, at), lanes), scratch, to, lanes);
        });
      });
    });
  }
}

/** Bᵀ·d of six vectors. */
function inputLine(b: KernelBuilder, d: readonly Vec[]): Vec[] {
  const [two, four, five] = [b.f32(2), b.f32(4), b.f32(5)];
  const minusFour = (x: Vec, from: Vec): Vec => b.op("fnma", x, four, from);
  const even = minusFour(d[2], d[4]);
  const odd = minusFour(d[1], d[3]);
  const even2 = b.op("sub", d[4], d[2]);
  const odd2 = b.op("sub", d[3], d[1]);
  return [
    b.op("fma", d[0], four, b.op("fnma", d[2], five, d[4])),
    b.op("add", even, odd),
    b.op("sub", even, odd),
    b.op("fma", odd2, two, even2),
    b.op("fnma", odd2, two, even2),
    b.op("fma", d[1], four, b.op("fnma", d[3], five, d[5])),
  ];
}

/** Bᵀ·d·B. */
export function inputTransform(b: KernelBuilder, load: (r: number, q: number) => Vec, store: (k: number, value: Vec) => void): void {
  const range = [0, 1, 2, 3, 4, 5];
  const columns = range.map((q) => inputLine(b, range.map((r) => load(r, q)))); // biome-ignore format: one line
  for (const r of range) {
    const row = inputLine(b, range.map((q) => columns[q][r])); // biome-ignore format: one line
    for (const [q, value] of row.entries()) store(r * IN + q, value);
  }
}
