// Weights of 3×3 convolutions → the products' right operands of Winograd's F(4×4, 3×3): in JavaScript for constants, by a kernel for weights that change.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import type { WeightStrides } from "./conv_weights.ts";
import type { WinogradSchedule, WinogradShape } from "./winograd.ts";
import { IN, PRODUCTS, roundUp } from "./winograd_tiles.ts";
import { shareOut } from "./work.ts";

const TAPS = 3;

const G: readonly (readonly [number, number, number])[] = [
  [1 / 4, 0, 0],
  [-1 / 6, -1 / 6, -1 / 6],
  [-1 / 6, 1 / 6, -1 / 6],
  [1 / 24, 1 / 12, 1 / 6],
  [1 / 24, -1 / 12, 1 / 6],
  [0, 0, 1],
];

/** Elements of the packed weights: [product][channel tile][in channel][out channel of the tile]. */
export const winogradWeightElements = ({ inChannels, outChannels }: WinogradShape, { lanes }: SimdTarget): number =>
  PRODUCTS * inChannels * roundUp(outChannels, lanes);

/** G·g·Gᵀ of the weights g. */
export function packWinogradWeights(
  weights: Float32Array,
  strides: WeightStrides,
  { inChannels, outChannels }: WinogradShape,
  { tile }: WinogradSchedule,
  target: SimdTarget,
  out: Float32Array,
): void {
  const padded = roundUp(outChannels, target.lanes);
  const width = tile.vectors * target.lanes;
  const half = new Float64Array(IN * TAPS);
  const { y, x } = strides;
  for (let o = 0; o < outChannels; o++) {
    const first = Math.floor(o / width) * width;
    const w = Math.min(width, padded - first);
    for (let c = 0; c < inChannels; c++) {
      const g = strides.base + o * strides.out + c * strides.in;
      for (let i = 0; i < IN; i++)
        for (let k = 0; k < TAPS; k++)
          half[i * TAPS + k] = G[i][0] * weights[g + k * x] + G[i][1] * weights[g + y + k * x] + G[i][2] * weights[g + 2 * y + k * x];
      for (let i = 0; i < IN; i++)
        for (let j = 0; j < IN; j++) {
          const value = half[i * TAPS] * G[j][0] + half[i * TAPS + 1] * G[j][1] + half[i * TAPS + 2] * G[j][2];
          out[(i * IN + j) * inChannels * padded + first * inChannels + c * w + o - first] = value;
        }
    }
  }
}

/** The same by a kernel. Buffers: weights of `elements`, packed weights. */
export function packWinogradKernel(
  name: string,
  elements: number,
  strides: WeightStrides,
  shape: WinogradShape,
  { tile }: WinogradSchedule,
  target: SimdTarget,
  threads: number,
): Kernel {
  const { inChannels, outChannels } = shape;
  const { lanes } = target;
  const b = new KernelBuilder(name, target, threads);
  const source = b.buffer("weights", 4 * elements, "read");
  const packed = b.buffer("packed", 4 * winogradWeightElements(shape, target), "write");
  const padded = roundUp(outChannels, lanes);
  const vectors = padded / lanes;
  const full = Math.floor(outChannels / (tile.vectors * lanes)) * tile.vectors;

  /** One vector of output channels: the `inTile`-th of a tile of `width` channels that begins at vector `first`. */
  const transform = (channels: { from: Int; to: Int }, first: Int, inTile: Int, width: number, count: number): void => {
    const from = plus(strides.base * 4, times(plus(first, inTile), 4 * lanes * strides.out));
    const to = plus(times(first, 4 * lanes * inChannels), times(inTile, 4 * lanes));
    b.loop(channels.from, channels.to, 1, (c) => {
      const tap = (ky: number, kx: number): Vec => {
        const at = plus(from, times(c, 4 * strides.in), 4 * (ky * strides.y + kx * strides.x));
        return strides.out === 1 ? b.load(source, at, count) : b.strided(source, at, 4 * strides.out, count);
      };
      const columns = [0, 1, 2].map((kx) => line(b, [0, 1, 2].map((ky) => tap(ky, kx)))); // biome-ignore format: one line
      for (let i = 0; i < IN; i++)
        for (const [j, value] of line(b, columns.map((column) => column[i])).entries())
          b.store(value, packed, plus(to, times(c, 4 * width), (i * IN + j) * 4 * inChannels * padded)); // biome-ignore format: one idea
    });
  };
  shareOut(b, [vectors, inChannels], ([columns, channels]) => {
    if (full > 0)
      b.loop(columns.from, b.min(columns.to, full), 1, (v) => {
        const tileNumber = b.div(v, tile.vectors);
        transform(channels, b.set(times(tileNumber, tile.vectors)), b.mod(v, tile.vectors), tile.vectors * lanes, lanes);
      });
    for (let v = full; v < vectors; v++) {
      const count = Math.min(lanes, outChannels - v * lanes);
      b.when(v, columns.to, () => b.when(columns.from, v + 1, () => transform(channels, full, v - full, (vectors - full) * lanes, count)));
    }
  });
  return b.build();
}

/** G·g of three vectors. */
function line(b: KernelBuilder, [g0, g1, g2]: readonly Vec[]): Vec[] {
  const scaled = (v: Vec, by: number): Vec => b.op("mul", v, b.f32(by));
  const ends = b.op("add", g0, g2);
  const far = b.op("fma", g2, b.f32(4), g0);
  const sixth = scaled(ends, -1 / 6);
  const small = scaled(far, 1 / 24);
  const [middle, tenth] = [scaled(g1, 1 / 6), scaled(g1, 1 / 12)];
  return [
    scaled(g0, 1 / 4),
    b.op("sub", sixth, middle),
    b.op("add", sixth, middle),
    b.op("add", small, tenth),
    b.op("sub", small, tenth),
    g2,
  ];
}
