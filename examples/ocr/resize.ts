// Turns an image into the normalised (1,3,height,width) tensor that a network reads: scaled, padded, blue first.
import type { Image } from "../../src/formats/image.ts";
import type { FloatTensor } from "./net.ts";

/** (x/255 − mean) / deviation, one entry a channel. */
export interface Normalization {
  readonly mean: readonly [number, number, number];
  readonly deviation: readonly [number, number, number];
}

/** The networks were trained on pictures read by OpenCV, whose channels are blue, green, red. */
const CHANNEL_ORDER = [2, 1, 0];

/** ImageNet's, in the networks' channel order. */
export const IMAGENET: Normalization = { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };
/** To [−1, 1]. */
export const SIGNED: Normalization = { mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5] };

/** Where a destination pixel falls on a source line: two neighbours and the weight of the second. */
interface Tap {
  readonly near: number;
  readonly far: number;
  readonly weight: number;
}

function taps(source: number, destination: number): Tap[] {
  return Array.from({ length: destination }, (_, i) => {
    const at = Math.min(Math.max(((i + 0.5) * source) / destination - 0.5, 0), source - 1);
    const near = Math.floor(at);
    return { near, far: Math.min(near + 1, source - 1), weight: at - near };
  });
}

/** Bilinear, as OpenCV's INTER_LINEAR: no smoothing when shrinking. Columns from `width` to `paddedWidth` are 0. */
export function toTensor(image: Image, width: number, height: number, by: Normalization, paddedWidth = width): FloatTensor {
  const data = new Float32Array(3 * height * paddedWidth);
  const columns = taps(image.width, width);
  const rows = taps(image.height, height);
  for (const [c, channel] of CHANNEL_ORDER.entries()) {
    const scale = 1 / (255 * by.deviation[c]);
    const shift = -by.mean[c] / by.deviation[c];
    for (const [y, row] of rows.entries()) {
      const upper = row.near * image.width * 3 + channel;
      const lower = row.far * image.width * 3 + channel;
      const out = (c * height + y) * paddedWidth;
      for (let x = 0; x < width; x++) {
        const { near, far, weight } = columns[x];
        const top = image.data[upper + near * 3] * (1 - weight) + image.data[upper + far * 3] * weight;
        const bottom = image.data[lower + near * 3] * (1 - weight) + image.data[lower + far * 3] * weight;
        data[out + x] = (top * (1 - row.weight) + bottom * row.weight) * scale + shift;
      }
    }
  }
  return { shape: [1, 3, height, paddedWidth], data };
}
