// Pools over regions of interest: RoiAlign and MaxRoiPool.
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Op } from "../ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { emittable, FLOATS, f32, inputType, tensorOf } from "./define.ts";

export interface RoiAlignAttrs {
  readonly coordinate_transformation_mode: string;
  readonly mode: string;
  readonly output_height: number;
  readonly output_width: number;
  readonly sampling_ratio: number;
  readonly spatial_scale: number;
}

/** More samples a bin than this means a region far outside of any picture. */
const MAX_SAMPLES = 1024;

/** Four elements and their weights for one place; weights are 0 outside. */
interface Bilinear {
  readonly at: readonly number[];
  readonly weight: readonly number[];
}

function bilinear(y: number, x: number, height: number, width: number): Bilinear {
  if (!(y >= -1 && y <= height && x >= -1 && x <= width)) return { at: [0, 0, 0, 0], weight: [0, 0, 0, 0] };
  const axis = (v: number, n: number) => {
    const inside = Math.min(n - 1, Math.max(0, v));
    const low = Math.floor(inside);
    return { low, high: Math.min(n - 1, low + 1), f: inside - low };
  };
  const [a, b] = [axis(y, height), axis(x, width)];
  return {
    at: [a.low * width + b.low, a.low * width + b.high, a.high * width + b.low, a.high * width + b.high],
    weight: [(1 - a.f) * (1 - b.f), (1 - a.f) * b.f, a.f * (1 - b.f), a.f * b.f],
  };
}

/** One axis of one region: where its bins begin, how long they are, and samples in each. */
function binsOf(start: number, end: number, count: number, a: RoiAlignAttrs): { start: number; size: number; samples: number } {
  const isHalf = a.coordinate_transformation_mode === "half_pixel";
  const from = start * a.spatial_scale - (isHalf ? 0.5 : 0);
  const length = end * a.spatial_scale - (isHalf ? 0.5 : 0) - from;
  const size = (isHalf ? length : Math.max(1, length)) / count;
  const samples = a.sampling_ratio > 0 ? a.sampling_ratio : Math.max(1, Math.ceil(size));
  if (!(samples <= MAX_SAMPLES)) throw new HeddleError("bad-input", `RoiAlign: a region from ${start} to ${end} is too large`);
  return { start: from, size, samples };
}

/** x (N, C, H, W) · regions (R, 4) as x1, y1, x2, y2 · batch number of each → (R, C, height, width). */
function align(x: TensorData, rois: TensorData, batches: TensorData, a: RoiAlignAttrs): TensorData {
  const [batch, channels, height, width] = x.shape;
  const [values, boxes, numbers] = [x, rois, batches].map(toNumbers);
  const [rows, columns] = [a.output_height, a.output_width];
  const shape = [rois.shape[0], channels, rows, columns];
  const out = new Float64Array(elementCount(shape));
  for (let r = 0; r < rois.shape[0]; r++) {
    if (!(numbers[r] >= 0 && numbers[r] < batch))
      throw new HeddleError("bad-input", `RoiAlign: batch number ${numbers[r]} is outside of ${batch}`);
    const [x1, y1, x2, y2] = boxes.subarray(4 * r, 4 * r + 4);
    const [v, h] = [binsOf(y1, y2, rows, a), binsOf(x1, x2, columns, a)];
    const place = (bin: { start: number; size: number; samples: number }, i: number, s: number) =>
      bin.start + (i + (s + 0.5) / bin.samples) * bin.size;
    for (let i = 0; i < rows * columns; i++) {
      const points: Bilinear[] = [];
      for (let sy = 0; sy < v.samples; sy++)
        for (let sx = 0; sx < h.samples; sx++)
          points.push(bilinear(place(v, Math.floor(i / columns), sy), place(h, i % columns, sx), height, width));
      for (let c = 0; c < channels; c++) {
        const base = (numbers[r] * channels + c) * height * width;
        const parts = points.map(({ at, weight }) => at.map((p, k) => values[base + p] * weight[k]));
        // The largest of the weighted neighbours, not of the interpolated samples: as ONNX has it.
        out[(r * channels + c) * rows * columns + i] =
          a.mode === "avg"
            ? parts.reduce((sum, p) => sum + p[0] + p[1] + p[2] + p[3], 0) / points.length
            : parts.reduce((m, p) => Math.max(m, ...p), Number.NEGATIVE_INFINITY);
      }
    }
  }
  return fromNumbers(x.dtype, shape, out);
}

const RoiAlign: Op = defineOp<RoiAlignAttrs>({
  name: "RoiAlign",
  kind: "opaque",
  attrs: {
    coordinate_transformation_mode: { type: "string", default: "half_pixel" },
    mode: { type: "string", default: "avg" },
    output_height: { type: "int", default: 1 },
    output_width: { type: "int", default: 1 },
    sampling_ratio: { type: "int", default: 0 },
    spatial_scale: { type: "float", default: 1 },
  },
  infer(inputs, a) {
    const { dtype, shape: x } = inputType("RoiAlign", inputs, 0, FLOATS);
    const rois = inputType("RoiAlign", inputs, 1, FLOATS).shape;
    const batches = inputType("RoiAlign", inputs, 2, ["i64"]).shape;
    if (x.length !== 4 || rois.length !== 2 || rois[1] !== 4 || batches.join() !== `${rois[0]}` || x[2] * x[3] === 0)
      throw new HeddleError("bad-model", `RoiAlign: regions (${rois}) and batch numbers (${batches}) do not fit (${x})`);
    if (!["avg", "max"].includes(a.mode)) throw new HeddleError("bad-model", `RoiAlign: mode is ${a.mode}, wanted avg or max`);
    if (!["half_pixel", "output_half_pixel"].includes(a.coordinate_transformation_mode))
      throw new HeddleError("bad-model", `RoiAlign: coordinate_transformation_mode is ${a.coordinate_transformation_mode}`);
    if (!(a.output_height >= 1 && a.output_width >= 1))
      throw new HeddleError("bad-model", `RoiAlign: output of ${a.output_height} by ${a.output_width}`);
    return [{ dtype, shape: [rois[0], x[1], a.output_height, a.output_width] }];
  },
  evaluate: ([x, rois, batches], node) => [align(x!, rois!, batches!, node.attrs)], // checked by infer
  // Up to opset 15 places were not shifted by half an element.
  importOnnx: ({ emit, inputs, attrs, opset }) =>
    emit(emittable(RoiAlign), inputs, opset < 16 ? { ...attrs, coordinate_transformation_mode: "output_half_pixel" } : attrs),
  flops: (node) => 32 * elementCount(node.outputs[0].type.shape),
  samples: [
    {
      inputs: [f32(2, 3, 6, 7), tensorOf("f32", [0, 0, 4, 5, 1, 2, 6, 4], [2, 4]), tensorOf("i64", [0, 1])],
      attrs: { output_height: 2, output_width: 3, sampling_ratio: 2 },
    },
    {
      inputs: [f32(2, 2, 6, 7), tensorOf("f32", [-3, 0, 4, 5, 1, 2, 9, 8], [2, 4]), tensorOf("i64", [1, 0])],
      attrs: { mode: "max", output_height: 3, output_width: 2, sampling_ratio: 3, coordinate_transformation_mode: "output_half_pixel" },
    },
    { inputs: [f32(1, 1, 5, 5), tensorOf("f32", [0, 0, 9, 9], [1, 4]), tensorOf("i64", [0])], attrs: { mode: "max", spatial_scale: 0.5 } },
    {
      inputs: [f32(2, 3, 9, 8), tensorOf("f32", [-2, 1, 5, 8.5, 6, 7, 2, 2, 1, 0, 30, 2], [3, 4]), tensorOf("i64", [1, 0, 1])],
      attrs: { output_height: 2, output_width: 3 },
    },
  ],
});

export interface MaxRoiPoolAttrs {
  readonly pooled_shape: readonly number[];
  readonly spatial_scale: number;
}

/** x (N, C, H, W) · regions (R, 5) as batch, x1, y1, x2, y2 → (R, C, rows, columns); bins are rounded to whole elements. */
function maxOverRegions(x: TensorData, rois: TensorData, { pooled_shape, spatial_scale }: MaxRoiPoolAttrs): TensorData {
  const [batch, channels, height, width] = x.shape;
  const [rows, columns] = pooled_shape;
  const [values, boxes] = [x, rois].map(toNumbers);
  const shape = [rois.shape[0], channels, rows, columns];
  const out = new Float64Array(elementCount(shape));
  for (let r = 0; r < shape[0]; r++) {
    const [n, ...corners] = boxes.subarray(5 * r, 5 * r + 5);
    if (!(n >= 0 && n < batch)) throw new HeddleError("bad-input", `MaxRoiPool: batch number ${n} is outside of ${batch}`);
    const [x1, y1, x2, y2] = corners.map((v) => Math.round(v * spatial_scale));
    const range = (i: number, count: number, start: number, end: number, limit: number) => {
      const bin = Math.max(1, end - start + 1) / count;
      const inside = (v: number) => Math.min(limit, Math.max(0, v + start));
      return [inside(Math.floor(i * bin)), inside(Math.ceil((i + 1) * bin))];
    };
    for (let i = 0; i < rows * columns; i++) {
      const [top, bottom] = range(Math.floor(i / columns), rows, y1, y2, height);
      const [left, right] = range(i % columns, columns, x1, x2, width);
      for (let c = 0; c < channels; c++) {
        let best = bottom > top && right > left ? Number.NEGATIVE_INFINITY : 0;
        const base = (n * channels + c) * height * width;
        for (let y = top; y < bottom; y++) for (let k = left; k < right; k++) best = Math.max(best, values[base + y * width + k]);
        out[(r * channels + c) * rows * columns + i] = best;
      }
    }
  }
  return fromNumbers(x.dtype, shape, out);
}

const MaxRoiPool: Op = defineOp<MaxRoiPoolAttrs>({
  name: "MaxRoiPool",
  kind: "opaque",
  attrs: { pooled_shape: { type: "ints" }, spatial_scale: { type: "float", default: 1 } },
  infer(inputs, { pooled_shape }) {
    const { dtype, shape: x } = inputType("MaxRoiPool", inputs, 0, FLOATS);
    const rois = inputType("MaxRoiPool", inputs, 1, [dtype]).shape;
    if (x.length !== 4 || rois.length !== 2 || rois[1] !== 5)
      throw new HeddleError("bad-model", `MaxRoiPool: regions (${rois}) do not fit (${x}), wanted (n,5) and four axes`);
    if (pooled_shape.length !== 2 || pooled_shape.some((d) => !(d >= 1)))
      throw new HeddleError("bad-model", `MaxRoiPool: pooled_shape (${pooled_shape}) must be two positive numbers`);
    return [{ dtype, shape: [rois[0], x[1], ...pooled_shape] }];
  },
  evaluate: ([x, rois], node) => [maxOverRegions(x!, rois!, node.attrs)], // checked by infer
  samples: [
    { inputs: [f32(2, 3, 6, 7), tensorOf("f32", [0, 0, 0, 4, 5, 1, 2, 1, 6, 4], [2, 5])], attrs: { pooled_shape: [2, 2] } },
    {
      inputs: [f32(1, 2, 6, 7), tensorOf("f32", [0, -4, 1, 9, 3, 0, 8, 8, 9, 9], [2, 5])],
      attrs: { pooled_shape: [3, 2], spatial_scale: 0.5 },
    },
  ],
});

export const roiOps: readonly Op[] = [RoiAlign, MaxRoiPool];
