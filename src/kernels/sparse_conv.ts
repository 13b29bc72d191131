// Windows as columns of a sparse product (implicit im2col): an image with room around it, and where in it each window begins and each of its elements lies.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";
import type { PixelSource } from "./sparse_panel.ts";
import type { WindowAxis } from "./window.ts";

export interface SparseConvShape {
  readonly batch: number;
  readonly channels: number;
  readonly y: WindowAxis;
  readonly x: WindowAxis;
}

/** An image whose windows all lie inside, with whole vectors of channels: rows, pixels of a row, channels of a pixel. */
export interface PaddedImage {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/** What one axis reaches to, from its first window's first element. */
const extentOf = ({ outputs, taps, stride, dilation }: WindowAxis): number => stride * (outputs - 1) + dilation * (taps - 1) + 1;

const paddedImage = ({ channels, y, x }: SparseConvShape, { lanes }: SimdTarget): PaddedImage => ({
  height: extentOf(y),
  width: extentOf(x),
  channels: Math.ceil(channels / lanes) * lanes,
});

export const paddedElements = (shape: SparseConvShape, target: SimdTarget): number => {
  const { height, width, channels } = paddedImage(shape, target);
  return shape.batch * height * width * channels;
};

/** Whether the image itself has all windows inside, in whole vectors. */
export const isPadded = (shape: SparseConvShape, target: SimdTarget): boolean =>
  paddedImage(shape, target).channels === shape.channels &&
  [shape.y, shape.x].every((axis) => axis.offset === 0 && extentOf(axis) === axis.inputs);

/** Buffers: image (batch, height, width, channels), padded image. */
export function padImageKernel(name: string, shape: SparseConvShape, target: SimdTarget, threads: number): Kernel {
  const { batch, channels, y, x } = shape;
  const { lanes } = target;
  const { height, width, channels: pitch } = paddedImage(shape, target);
  const b = new KernelBuilder(name, target, threads);
  const image = b.buffer("image", 4 * batch * y.inputs * x.inputs * channels, "read");
  const output = b.buffer("padded", 4 * batch * height * width * pitch, "write");
  // Of a padded row the pixels [first, last) come from the image.
  const first = Math.min(width, Math.max(0, -x.offset));
  const last = Math.max(first, Math.min(width, x.inputs - x.offset));
  const zero = b.f32(0);
  const clear = (from: Int, pixels: number): void =>
    b.loop(0, (pixels * pitch) / lanes, 1, (v) => b.store(zero, output, plus(times(from, pitch * 4), times(v, lanes * 4))));
  b.parallel(batch * height, (line) => {
    const row = plus(b.mod(line, height), y.offset);
    const start = times(line, width);
    const copy = (): void => {
      const inside = b.max(0, b.min(row, y.inputs - 1)); // it is, but intervals do not know
      const from = plus(times(b.div(line, height), y.inputs * x.inputs), times(inside, x.inputs), first + x.offset);
      clear(start, first);
      b.loop(0, last - first, 1, (pixel) => {
        for (let c = 0; c < pitch; c += lanes) {
          const count = Math.min(lanes, channels - c);
          const value = b.load(image, plus(times(plus(from, pixel), channels * 4), c * 4), count); // lanes beyond are zeros
          b.store(value, output, plus(times(plus(start, pixel), pitch * 4), (first * pitch + c) * 4));
        }
      });
      clear(plus(start, last), width - last);
    };
    b.when(
      -1,
      row,
      () => b.when(row, y.inputs, copy, () => clear(start, width)),
      () => clear(start, width),
    );
  });
  return b.build();
}

/** Where windows begin in a padded image, and from there each vector of a window's elements: taps by rows, their channels in order. */
export interface WindowPlaces {
  readonly starts: Int32Array;
  readonly parts: Int32Array;
}

export function windowPlaces(shape: SparseConvShape, target: SimdTarget): WindowPlaces {
  const { batch, y, x } = shape;
  const { height, width, channels } = paddedImage(shape, target);
  const starts: number[] = [];
  for (let image = 0; image < batch; image++)
    for (let oy = 0; oy < y.outputs; oy++)
      for (let ox = 0; ox < x.outputs; ox++) starts.push(((image * height + oy * y.stride) * width + ox * x.stride) * channels);
  const parts: number[] = [];
  for (let ty = 0; ty < y.taps; ty++)
    for (let tx = 0; tx < x.taps; tx++)
      for (let c = 0; c < channels; c += target.lanes) parts.push((ty * y.dilation * width + tx * x.dilation) * channels + c);
  return { starts: Int32Array.from(starts), parts: Int32Array.from(parts) };
}

/** Weights (rows, channels, tap y, tap x) as a matrix over the elements of windows: (rows, taps · padded channels). */
export function windowWeights(weights: Float32Array, rows: number, shape: SparseConvShape, target: SimdTarget): Float32Array {
  const { channels, y, x } = shape;
  const taps = y.taps * x.taps;
  const { channels: pitch } = paddedImage(shape, target);
  const out = new Float32Array(rows * taps * pitch);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < channels; c++)
      for (let t = 0; t < taps; t++) out[(r * taps + t) * pitch + c] = weights[(r * channels + c) * taps + t];
  return out;
}

/** Windows as pixels of a sparse product, their elements as channels. Buffers: padded image, starts, parts. */
export const windowSource = (shape: SparseConvShape, target: SimdTarget): PixelSource => ({
  key: JSON.stringify(shape),
  declare(b) {
    const { starts, parts } = windowPlaces(shape, target);
    const image = b.buffer("image", 4 * paddedElements(shape, target), "read");
    const [start, part] = [b.buffer("starts", 4 * starts.length, "read"), b.buffer("parts", 4 * parts.length, "read")];
    const [lastStart, lastPart] = [starts[starts.length - 1], parts[parts.length - 1]];
    return (window, k, count) => {
      const from = b.loadInt(start, times(window, 4), "i32", 0, lastStart);
      const to = b.loadInt(part, times(b.div(k, target.lanes), 4), "i32", 0, lastPart);
      return b.load(image, plus(times(from, 4), times(to, 4)), count);
    };
  },
});
