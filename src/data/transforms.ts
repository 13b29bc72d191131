// Augmentations: an image that is read → the image that is learned from, changed at random by the example's own key.
import { DTYPES, type TypedArray } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { builtIn, type Dataset, type Example, type Recipe, recipeOf, type Transform } from "./dataset.ts";
import type { Random } from "./random.ts";

/** A dataset whose examples go through transforms, in order. */
export class TransformedDataset<F extends string = string> implements Dataset<F> {
  readonly length: number;
  private readonly dataset: Dataset<F>;
  private readonly transforms: readonly Transform[];

  constructor(dataset: Dataset<F>, transforms: readonly Transform[]) {
    this.length = dataset.length;
    this.dataset = dataset;
    this.transforms = transforms;
  }

  get(index: number, random: Random): Example<F> | Promise<Example<F>> {
    const example = this.dataset.get(index, random);
    return this.applyFrom(0, example, random) as Example<F> | Promise<Example<F>>; // transforms keep the fields
  }

  /** Without promises where nothing is asynchronous: they cost more than a small image. */
  private applyFrom(first: number, start: Example | Promise<Example>, random: Random): Example | Promise<Example> {
    let example = start;
    for (let i = first; i < this.transforms.length; i++) {
      if (example instanceof Promise) return example.then((ready) => this.applyFrom(i, ready, random));
      example = this.transforms[i].apply(example, random);
    }
    return example;
  }

  recipe(): Recipe {
    return builtIn(
      "TransformedDataset",
      recipeOf(this.dataset, "dataset"),
      this.transforms.map((t) => recipeOf(t, "transform")),
    );
  }
}

interface FieldOption {
  /** Which tensor of an example: (height, width), or (channels, height, width). Default "image". */
  readonly field?: string;
}

interface Plane {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

function planeOf({ shape }: TensorData, what: string, field: string): Plane {
  if (shape.length !== 2 && shape.length !== 3)
    throw new HeddleError("bad-input", `${what}: ${field} has shape (${shape}), wanted (channels, height, width)`);
  return { channels: shape.length === 3 ? shape[0] : 1, height: shape.at(-2)!, width: shape.at(-1)! };
}

/** A transform of one field. */
function define<O extends FieldOption>(
  name: string,
  options: O,
  change: (image: TensorData, random: Random, field: string) => TensorData,
): Transform {
  const { field = "image" } = options;
  return {
    apply(example, random) {
      const image = example[field];
      if (!image) throw new HeddleError("bad-argument", `${name}: examples have no field ${field} (${Object.keys(example)})`);
      const changed = change(image, random, field);
      return changed === image ? example : { ...example, [field]: changed };
    },
    recipe: () => builtIn(name, options),
  };
}

export interface NormalizeOptions extends FieldOption {
  /** Of each channel, or of all, after scaling. Default 0. */
  readonly mean?: number | readonly number[];
  /** Default 1. */
  readonly std?: number | readonly number[];
  /** What values are multiplied by first. Default: 1/255 for bytes, else 1. */
  readonly scale?: number;
}

/** f32 (value · scale - mean) / std. */
export function normalize(options: NormalizeOptions = {}): Transform {
  const { mean = 0, std = 1 } = options;
  const of = (value: number | readonly number[], channel: number, channels: number, name: string): number => {
    if (typeof value === "number") return value;
    if (value.length !== channels)
      throw new HeddleError("bad-argument", `normalize: ${value.length} values of ${name} for ${channels} channels`);
    return value[channel];
  };
  return define("normalize", options, (image, _, field) => {
    const { channels, height, width } = planeOf(image, "normalize", field);
    const scale = options.scale ?? (image.dtype === "u8" ? 1 / 255 : 1);
    const plain = image.dtype === "f16" || image.dtype === "bf16" || image.dtype === "i64" || image.dtype === "u64";
    const from = plain ? toNumbers(image) : (image.data as Float32Array); // or another array of numbers
    const size = height * width;
    const out = new Float32Array(channels * size);
    for (let c = 0; c < channels; c++) {
      const factor = scale / of(std, c, channels, "std");
      const offset = -of(mean, c, channels, "mean") / of(std, c, channels, "std");
      for (let i = c * size; i < (c + 1) * size; i++) out[i] = from[i] * factor + offset;
    }
    return { dtype: "f32", shape: image.shape, data: out };
  });
}

/** The element that stands for a number in a tensor's array. */
const stored = (image: TensorData, value: number): number | bigint => fromNumbers(image.dtype, [1], [value]).data[0];
const fill = (data: TypedArray, value: number | bigint): TypedArray => (data as Float32Array).fill(value as number); // as stored() gives it

export interface RandomCropOptions extends FieldOption {
  /** Pixels added on every side before cropping. Default 0. */
  readonly padding?: number;
  /** Height and width of what is cut out. Default: the image's. */
  readonly size?: number | readonly [height: number, width: number];
  /** Value of added pixels. Default 0. */
  readonly fill?: number;
}

/** A part at a random place. */
export function randomCrop(options: RandomCropOptions): Transform {
  const { padding = 0 } = options;
  return define("randomCrop", options, (image, random, field) => {
    const { channels, height, width } = planeOf(image, "randomCrop", field);
    const { size = [height, width] } = options;
    const [outHeight, outWidth] = typeof size === "number" ? [size, size] : size;
    const [roomY, roomX] = [height + 2 * padding - outHeight, width + 2 * padding - outWidth];
    if (roomY < 0 || roomX < 0)
      throw new HeddleError("bad-argument", `randomCrop: ${outHeight} × ${outWidth} out of ${height} × ${width} with padding ${padding}`);
    const [top, left] = [random.below(roomY + 1) - padding, random.below(roomX + 1) - padding];
    const out = new DTYPES[image.dtype].array(channels * outHeight * outWidth);
    if (options.fill) fill(out, stored(image, options.fill));
    const [x0, x1] = [Math.max(left, 0), Math.min(left + outWidth, width)];
    for (let c = 0; c < channels; c++) {
      for (let y = Math.max(top, 0); y < Math.min(top + outHeight, height) && x0 < x1; y++) {
        const from = (c * height + y) * width;
        const to = (c * outHeight + y - top) * outWidth - left;
        for (let x = x0; x < x1; x++) out[to + x] = image.data[from + x];
      }
    }
    return { dtype: image.dtype, shape: [...image.shape.slice(0, -2), outHeight, outWidth], data: out };
  });
}

export interface RandomFlipOptions extends FieldOption {
  /** Default 0.5. */
  readonly probability?: number;
}

/** Left and right change places, or not. */
export function randomFlip(options: RandomFlipOptions = {}): Transform {
  const { probability = 0.5 } = options;
  return define("randomFlip", options, (image, random, field) => {
    const { width } = planeOf(image, "randomFlip", field);
    if (random.uniform() >= probability) return image;
    const data = image.data.slice();
    for (let i = 0; i < data.length; i += width) data.subarray(i, i + width).reverse();
    return { ...image, data };
  });
}

export interface RandomEraseOptions extends FieldOption {
  /** Height and width of the square. */
  readonly size: number;
  /** Default 0. */
  readonly fill?: number;
  /** Default 1. */
  readonly probability?: number;
}

/** A square around a random pixel becomes one value (cutout, DeVries & Taylor 2017); it may reach over the edge. */
export function randomErase(options: RandomEraseOptions): Transform {
  const { size, fill: value = 0, probability = 1 } = options;
  return define("randomErase", options, (image, random, field) => {
    const { channels, height, width } = planeOf(image, "randomErase", field);
    const [middleY, middleX] = [random.below(height), random.below(width)]; // drawn always: what follows does not depend on it
    if (random.uniform() >= probability) return image;
    const [top, left] = [middleY - (size >> 1), middleX - (size >> 1)];
    const [x0, x1] = [Math.max(left, 0), Math.min(left + size, width)];
    const data = image.data.slice();
    const element = stored(image, value);
    for (let c = 0; c < channels; c++)
      for (let y = Math.max(top, 0); y < Math.min(top + size, height); y++) {
        const row = (c * height + y) * width;
        fill(data.subarray(row + x0, row + x1), element);
      }
    return { ...image, data };
  });
}
