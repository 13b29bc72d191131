// A picture → one of another size: each new pixel is the average of those that it covers, weighted by distance.
import type { Image } from "../formats/image.ts";

/** For each new pixel, where its old ones start and how much each counts. */
interface Taps {
  readonly first: Int32Array;
  readonly weights: readonly Float32Array[];
}

/** A triangle as wide as the step between old pixels or new ones, whichever is larger: linear upwards, averaging downwards. `from` … `from + length` of the old pixels become `count` new ones. */
function taps(old: number, from: number, length: number, count: number): Taps {
  const step = length / count;
  const radius = Math.max(step, 1);
  const first = new Int32Array(count);
  const weights = Array.from({ length: count }, (_, i) => {
    const middle = from + (i + 0.5) * step;
    const start = Math.max(0, Math.floor(middle - radius));
    const end = Math.min(old, Math.ceil(middle + radius));
    first[i] = start;
    const row = Float32Array.from({ length: end - start }, (_, k) => Math.max(0, 1 - Math.abs(start + k + 0.5 - middle) / radius));
    const sum = row.reduce((a, b) => a + b, 0);
    return row.map((weight) => weight / sum);
  });
  return { first, weights };
}

/** Scales a picture so that it covers width × height, keeping its proportions, and cuts off what hangs over on both sides alike. */
export function cover(image: Image, width: number, height: number): Image {
  if (image.width === width && image.height === height) return image;
  const scale = Math.min(image.width / width, image.height / height); // old pixels in a new one
  const across = taps(image.width, (image.width - width * scale) / 2, width * scale, width);
  const down = taps(image.height, (image.height - height * scale) / 2, height * scale, height);
  const top = down.first[0];
  const bottom = down.first[height - 1] + down.weights[height - 1].length;
  const rows = new Float32Array((bottom - top) * width * 3);
  for (let y = top; y < bottom; y++) sumAcross(image, y, across, rows.subarray((y - top) * width * 3));
  const data = new Uint8ClampedArray(width * height * 3); // rounds
  const line = new Float32Array(width * 3);
  for (let y = 0; y < height; y++) {
    line.fill(0);
    for (const [k, weight] of down.weights[y].entries()) {
      const from = (down.first[y] + k - top) * line.length;
      for (let i = 0; i < line.length; i++) line[i] += weight * rows[from + i];
    }
    data.set(line, y * line.length);
  }
  return { width, height, data: new Uint8Array(data.buffer) };
}

function sumAcross({ width, data }: Image, y: number, { first, weights }: Taps, out: Float32Array): void {
  for (let x = 0; x < weights.length; x++) {
    let [r, g, b] = [0, 0, 0];
    let at = (y * width + first[x]) * 3;
    for (const weight of weights[x]) {
      r += weight * data[at];
      g += weight * data[at + 1];
      b += weight * data[at + 2];
      at += 3;
    }
    out[3 * x] = r;
    out[3 * x + 1] = g;
    out[3 * x + 2] = b;
  }
}
