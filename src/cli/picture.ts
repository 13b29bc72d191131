// A picture's pixels → the normalised tensor that a network reads.
import type { Image } from "../formats/image.ts";
import type { OnnxValueInfo } from "../formats/onnx/read.ts";
import { isFloat } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { fromNumbers, type TensorData } from "../ir/tensor.ts";

export interface PictureOptions {
  /** (pixel / 255 - mean) / std; one number, or one a channel. Integer inputs get the pixels as they are. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** Default: by which axis has 1 or 3 entries. */
  readonly layout?: "nchw" | "nhwc";
  /** Blue first. */
  readonly isBgr: boolean;
}

interface Frame {
  readonly layout: "nchw" | "nhwc";
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

const isChannels = (d: unknown): d is 1 | 3 => d === 1 || d === 3;

/** Sizes for a picture in an input of four axes; open sizes are the picture's own. */
function frameOf(image: Image, { name, shape }: Pick<OnnxValueInfo, "name" | "shape">, wanted: PictureOptions["layout"]): Frame {
  const bad = (why: string) =>
    new HeddleError("bad-input", `input ${name}: a picture does not fit [${shape?.map((d) => d ?? "?").join(",") ?? "any shape"}]: ${why}`);
  if (shape && shape.length !== 4) throw bad("wanted 4 axes, batch, channels, height and width in some order");
  const [batch, second, third, last] = shape ?? [1, 3, null, null];
  const layout = wanted ?? (isChannels(last) && !isChannels(second) ? "nhwc" : "nchw");
  const [channels, height, width] = layout === "nchw" ? [second, third, last] : [last, second, third];
  if (typeof batch === "number" && batch !== 1) throw bad(`one picture is a batch of 1, not ${batch}`);
  if (typeof channels === "number" && !isChannels(channels)) throw bad(`${channels} channels as ${layout}, wanted 1 or 3; see --layout`);
  const size = (d: number | string | null, own: number): number => (typeof d === "number" ? d : own);
  return { layout, channels: size(channels, 3), height: size(height, image.height), width: size(width, image.width) };
}

/** Where a destination pixel falls on a source line: two neighbours and the weight of the second. */
function taps(source: number, destination: number): { near: number; far: number; weight: number }[] {
  return Array.from({ length: destination }, (_, i) => {
    const at = Math.min(Math.max(((i + 0.5) * source) / destination - 0.5, 0), source - 1);
    const near = Math.floor(at);
    return { near, far: Math.min(near + 1, source - 1), weight: at - near };
  });
}

/** Bilinear between pixel centres, without smoothing when shrinking. Calls back with 0…255 for each of three channels. */
function resample(image: Image, frame: Frame, put: (x: number, y: number, rgb: readonly number[]) => void): void {
  const columns = taps(image.width, frame.width);
  const rows = taps(image.height, frame.height);
  const at = (x: number, y: number, c: number): number => image.data[(y * image.width + x) * 3 + c];
  for (const [y, row] of rows.entries()) {
    for (const [x, column] of columns.entries()) {
      const along = (line: number, c: number) => at(column.near, line, c) * (1 - column.weight) + at(column.far, line, c) * column.weight;
      put(
        x,
        y,
        [0, 1, 2].map((c) => along(row.near, c) * (1 - row.weight) + along(row.far, c) * row.weight),
      );
    }
  }
}

const perChannel = (values: readonly number[], c: number): number => values[Math.min(c, values.length - 1)];
/** Luma of Rec. 601, as OpenCV and Pillow make grey of colours. */
const grey = ([r, g, b]: readonly number[]): number => 0.299 * r + 0.587 * g + 0.114 * b;

/** `input` with the shape that the command line gave, if any. Throws HeddleError("bad-input"). */
export function pictureTensor(image: Image, input: OnnxValueInfo, options: PictureOptions): TensorData {
  const frame = frameOf(image, input, options.layout);
  const { layout, channels, height, width } = frame;
  const values = new Float64Array(channels * height * width);
  const isScaled = isFloat(input.dtype);
  resample(image, frame, (x, y, rgb) => {
    const colours = channels === 1 ? [grey(rgb)] : options.isBgr ? rgb.toReversed() : rgb;
    for (let c = 0; c < channels; c++) {
      const at = layout === "nchw" ? (c * height + y) * width + x : (y * width + x) * channels + c;
      values[at] = isScaled ? (colours[c] / 255 - perChannel(options.mean, c)) / perChannel(options.std, c) : Math.round(colours[c]);
    }
  });
  return fromNumbers(input.dtype, layout === "nchw" ? [1, channels, height, width] : [1, height, width, channels], values);
}
