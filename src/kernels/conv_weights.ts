// Weights of convolutions → the order in which their kernels read them: in JavaScript for constants, by a kernel for weights that change.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import type { ConvShape } from "./conv.ts";
import type { SlideShape } from "./slide.ts";
import type { TileShape } from "./tile.ts";
import { shareOut } from "./work.ts";

/** Where an element of the weights is: base + the sum of these times group, out and in channel of the group, tap y and tap x. */
export interface WeightStrides {
  readonly base: number;
  readonly group: number;
  readonly out: number;
  readonly in: number;
  readonly y: number;
  readonly x: number;
}

/** The element for (group, out and in channel of the group, tap y, tap x). */
export type WeightAt = (group: number, out: number, into: number, y: number, x: number) => number;

export const weightAt =
  (s: WeightStrides): WeightAt =>
  (group, out, into, y, x) =>
    s.base + group * s.group + out * s.out + into * s.in + y * s.y + x * s.x;

/** Output channels of one group, rounded up to vectors. */
export const paddedChannels = (shape: ConvShape, target: SimdTarget): number => Math.ceil(shape.outChannels / target.lanes) * target.lanes;

/** Elements of the packed weights of a direct convolution. */
export const convWeightElements = (shape: ConvShape, target: SimdTarget): number =>
  shape.groups * paddedChannels(shape, target) * shape.y.taps * shape.x.taps * shape.inChannels;

/** Two float32 that are bf16, by their bits, in one word: the first in the lower half. */
export const pairOf = (first: number, second: number): number => (first >>> 16) | (second & -0x10000);

/** For a direct convolution: [group][channel tile][tap y][tap x][in channel][out channel of the tile]. */
export function packConvWeights(
  weights: Float32Array,
  at: WeightAt,
  shape: ConvShape,
  tile: TileShape,
  target: SimdTarget,
  out: Float32Array,
): void {
  const { groups, inChannels, outChannels, y, x } = shape;
  const padded = paddedChannels(shape, target);
  const width = tile.vectors * target.lanes;
  const bits = new Int32Array(weights.buffer, weights.byteOffset, weights.length);
  const words = new Int32Array(out.buffer, out.byteOffset, out.length);
  let to = 0;
  for (let g = 0; g < groups; g++) {
    for (let o0 = 0; o0 < padded; o0 += width) {
      const w = Math.min(width, padded - o0);
      const used = Math.min(w, outChannels - o0);
      for (let ky = 0; ky < y.taps; ky++)
        for (let kx = 0; kx < x.taps; kx++)
          for (let c = 0; c < inChannels; c++, to += w) {
            const word = (o: number): number =>
              shape.isPaired ? pairOf(bits[at(g, o, 2 * c, ky, kx)], bits[at(g, o, 2 * c + 1, ky, kx)]) : bits[at(g, o, c, ky, kx)];
            for (let o = 0; o < used; o++) words[to + o] = word(o0 + o);
          }
    }
  }
}

/** The same by a kernel. Buffers: weights of `elements`, packed weights. */
export function packConvKernel(
  name: string,
  elements: number,
  strides: WeightStrides,
  shape: ConvShape,
  tile: TileShape,
  target: SimdTarget,
  threads: number,
): Kernel {
  const { groups, inChannels, outChannels, y, x } = shape;
  const { lanes } = target;
  const b = new KernelBuilder(name, target, threads);
  const source = b.buffer("weights", 4 * elements, "read");
  const packed = b.buffer("packed", 4 * convWeightElements(shape, target), "write");
  const padded = paddedChannels(shape, target);
  const taps = y.taps * x.taps;
  const vectors = padded / lanes;
  const full = Math.floor(outChannels / (tile.vectors * lanes)) * tile.vectors;

  /** One vector of output channels: the `inTile`-th of a tile of `width` channels that begins at `first`. */
  const copy = (group: Int, first: Int, inTile: Int, width: number, count: number): void => {
    const channel = plus(times(first, lanes), times(inTile, lanes));
    const from = plus(strides.base * 4, times(group, strides.group * 4), times(channel, strides.out * 4));
    const to = plus(times(group, 4 * padded * taps * inChannels), times(first, 4 * lanes * taps * inChannels), times(inTile, 4 * lanes));
    b.loop(0, inChannels, 1, (c) =>
      b.loop(0, y.taps, 1, (ky) =>
        b.loop(0, x.taps, 1, (kx) => {
          const at = plus(from, times(c, (shape.isPaired ? 8 : 4) * strides.in), times(ky, 4 * strides.y), times(kx, 4 * strides.x));
          const read = (place: Int): Vec =>
            strides.out === 1 ? b.load(source, place, count) : b.strided(source, place, 4 * strides.out, count);
          const first = read(at);
          const value = shape.isPaired
            ? b.op("or", b.op("iushr", first, undefined, undefined, undefined, 16), read(plus(at, 4 * strides.in)))
            : first;
          const tap = plus(times(ky, x.taps), kx);
          b.store(value, packed, plus(to, times(tap, 4 * inChannels * width), times(c, 4 * width)));
        }),
      ),
    );
  };
  shareOut(b, [groups, vectors], ([groupPart, columns]) => {
    b.loop(groupPart.from, groupPart.to, 1, (group) => {
      if (full > 0)
        b.loop(columns.from, b.min(columns.to, full), 1, (v) => {
          const tileNumber = b.div(v, tile.vectors);
          copy(group, b.set(times(tileNumber, tile.vectors)), b.mod(v, tile.vectors), tile.vectors * lanes, lanes);
        });
      for (let v = full; v < vectors; v++) {
        const count = Math.min(lanes, outChannels - v * lanes);
        b.when(v, columns.to, () => b.when(columns.from, v + 1, () => copy(group, full, v - full, (vectors - full) * lanes, count)));
      }
    });
  });
  return b.build();
}

/** For a window that slides over each channel: (tap y, tap x, channel). The channel is the group of `at`. */
export function packDepthwiseWeights(weights: Float32Array, at: WeightAt, { channels, y, x }: SlideShape, out: Float32Array): void {
  for (let c = 0; c < channels; c++)
    for (let ky = 0; ky < y.taps; ky++)
      for (let kx = 0; kx < x.taps; kx++) out[(ky * x.taps + kx) * channels + c] = weights[at(c, 0, 0, ky, kx)];
}

/** The same by a kernel. Buffers: weights of `elements`, packed weights. */
export function packDepthwiseKernel(
  name: string,
  elements: number,
  strides: WeightStrides,
  { channels, y, x }: SlideShape,
  target: SimdTarget,
  threads: number,
): Kernel {
  const { lanes } = target;
  const b = new KernelBuilder(name, target, threads);
  const source = b.buffer("weights", 4 * elements, "read");
  const packed = b.buffer("packed", 4 * channels * y.taps * x.taps, "write");
  const copy = (v: Int, count: number): void =>
    b.loop(0, y.taps, 1, (ky) =>
      b.loop(0, x.taps, 1, (kx) => {
        const at = plus(4 * strides.base, times(v, 4 * lanes * strides.group), times(ky, 4 * strides.y), times(kx, 4 * strides.x));
        const to = plus(times(ky, 4 * x.taps * channels), times(kx, 4 * channels), times(v, 4 * lanes));
        b.store(b.strided(source, at, 4 * strides.group, count), packed, to, count);
      }),
    );
  const whole = Math.floor(channels / lanes);
  b.parallel(whole, (v) => copy(v, lanes));
  if (whole * lanes < channels) b.parallel(1, () => copy(whole, channels - whole * lanes));
  return b.build();
}
