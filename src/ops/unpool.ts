// What windows were taken apart is put together again: MaxUnpool and Col2Im; and CenterCropPad, which brings axes to given sizes.
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, defineOp, type Op, type Value } from "../ir/graph.ts";
import type { Slide } from "../ir/slide.ts";
import { elementCount, fromNumbers, type Shape, stridesOf, toNumbers } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { FLOATS, f32, inputType, ints, NUMBERS, normalizeAxes, requiredNumbers, tensorOf } from "./define.ts";
import { perAxis, type SlideAttrs, slide, visitWindows } from "./spatial.ts";

interface UnpoolAttrs {
  readonly kernel_shape: readonly number[];
  readonly pads?: readonly number[];
  readonly strides?: readonly number[];
}

/** Shape that a pool with these attributes made x from. */
function unpooledShape(x: Shape, attrs: UnpoolAttrs): number[] {
  const rank = x.length - 2;
  if (rank < 1) throw new HeddleError("bad-model", `MaxUnpool: input 0 is (${x}), wanted batch, channels and one spatial axis or more`);
  const kernel = perAxis("MaxUnpool", "kernel_shape", attrs.kernel_shape, rank, 1);
  const strides = perAxis("MaxUnpool", "strides", attrs.strides, rank, 1);
  const pads = perAxis("MaxUnpool", "pads", attrs.pads, 2 * rank, 0);
  const spatial = x.slice(2).map((d, i) => (d - 1) * strides[i] + kernel[i] - pads[i] - pads[rank + i]);
  if (spatial.some((d) => d < 0)) throw new HeddleError("bad-model", `MaxUnpool: pads (${pads}) are larger than the output`);
  return [...x.slice(0, 2), ...spatial];
}

function unpoolTarget(inputs: readonly (Value | null)[], from: Shape): Shape {
  if (!inputs[2]) return from;
  const asked = requiredNumbers("MaxUnpool", inputs, 2, "the output shape");
  if (asked.length !== from.length || asked.some((d, i) => d < from[i]))
    throw new HeddleError("bad-model", `MaxUnpool: the output shape (${asked}) is smaller than (${from})`);
  return asked;
}

/** Places count in the shape that the pool had; a larger output keeps it in its first corner. */
const MaxUnpool: Op = defineOp<UnpoolAttrs>({
  name: "MaxUnpool",
  kind: "opaque",
  attrs: { kernel_shape: { type: "ints" }, pads: { type: "ints", optional: true }, strides: { type: "ints", optional: true } },
  infer(inputs, attrs) {
    const { dtype, shape } = inputType("MaxUnpool", inputs, 0, FLOATS);
    const places = inputType("MaxUnpool", inputs, 1, ["i64"]).shape;
    if (places.join() !== shape.join()) throw new HeddleError("bad-model", `MaxUnpool: places (${places}) for (${shape}) elements`);
    return [{ dtype, shape: unpoolTarget(inputs, unpooledShape(shape, attrs)) }];
  },
  evaluate([x, places], node) {
    const { dtype, shape } = node.outputs[0].type;
    const from = unpooledShape(x!.shape, node.attrs); // checked by infer
    const count = elementCount(from);
    const [fromSteps, toSteps] = [stridesOf(from), stridesOf(shape)];
    const y = new Float64Array(elementCount(shape));
    const values = toNumbers(x!);
    for (const [i, place] of toNumbers(places!).entries()) {
      if (!(place >= 0 && place < count)) throw new HeddleError("bad-input", `MaxUnpool: place ${place} is outside of (${from})`);
      const at = from.reduce((sum, d, axis) => sum + (Math.floor(place / fromSteps[axis]) % d) * toSteps[axis], 0);
      y[at] = values[i];
    }
    return [fromNumbers(dtype, shape, y)];
  },
  samples: [
    { inputs: [f32(1, 1, 2, 2), tensorOf("i64", [5, 7, 13, 15], [1, 1, 2, 2])], attrs: { kernel_shape: [2, 2], strides: [2, 2] } },
    { inputs: [f32(1, 1, 1, 1), tensorOf("i64", [3], [1, 1, 1, 1]), ints(1, 1, 3, 4)], attrs: { kernel_shape: [2, 2] } },
  ],
});

interface Col2ImAttrs {
  readonly dilations?: readonly number[];
  readonly pads?: readonly number[];
  readonly strides?: readonly number[];
}

/** Channels and window of a node of Col2Im. */
export function blocksOf(inputs: readonly (Value | null)[], attrs: Col2ImAttrs): { channels: number; window: Slide } {
  const { shape } = inputType("Col2Im", inputs, 0, NUMBERS);
  const [image, block] = ["the image's shape", "the block's shape"].map((what, i) => requiredNumbers("Col2Im", inputs, i + 1, what));
  if (shape.length !== 3 || image.length !== block.length || block.some((d) => !(d >= 1)) || image.some((d) => !(d >= 1)))
    throw new HeddleError("bad-model", `Col2Im: (${shape}) is no list of blocks (${block}) of an image (${image})`);
  const full: SlideAttrs = { ...attrs, auto_pad: "NOTSET", layout: "NCHW" };
  const window = slide("Col2Im", image, block, full);
  const channels = shape[1] / elementCount(block);
  if (!Number.isInteger(channels) || shape[2] !== elementCount(window.output))
    throw new HeddleError(
      "bad-model",
      `Col2Im: (${shape}) does not hold the ${elementCount(window.output)} blocks (${block}) of an image (${image})`,
    );
  return { channels, window };
}

const optionalInts: AttrSpec = { type: "ints", optional: true };

/** x (N, C · block, blocks) → (N, C, image…): overlapping blocks add up. */
const Col2Im: Op = defineOp<Col2ImAttrs>({
  name: "Col2Im",
  kind: "opaque",
  attrs: { dilations: optionalInts, pads: optionalInts, strides: optionalInts },
  infer(inputs, attrs) {
    const { channels, window } = blocksOf(inputs, attrs);
    const { dtype, shape } = inputs[0]!.type; // blocksOf has seen it
    return [{ dtype, shape: [shape[0], channels, ...window.input] }];
  },
  evaluate([x], node) {
    const { channels, window } = blocksOf(node.inputs, node.attrs);
    const { dtype, shape } = node.outputs[0].type;
    const values = toNumbers(x!); // checked by infer
    const [size, blocks, block] = [window.input, window.output, window.kernel].map(elementCount);
    const y = new Float64Array(elementCount(shape));
    visitWindows(window, (position, { count, kernel, input }) => {
      for (let c = 0; c < shape[0] * channels; c++)
        for (let t = 0; t < count; t++) y[c * size + input[t]] += values[(c * block + kernel[t]) * blocks + position];
    });
    return [fromNumbers(dtype, shape, y)];
  },
  samples: [
    { inputs: [f32(1, 5, 5), ints(5, 5), ints(1, 5)] },
    { inputs: [f32(2, 8, 9), ints(4, 4), ints(2, 2)] },
    { inputs: [f32(1, 4, 4), ints(4, 4), ints(2, 2)], attrs: { strides: [2, 2] } },
  ],
});

interface CropTarget {
  readonly axes: readonly number[];
  readonly sizes: readonly number[];
}

function cropTarget(inputs: readonly (Value | null)[], given: readonly number[] | undefined): CropTarget {
  const { shape } = inputType("CenterCropPad", inputs, 0);
  const sizes = requiredNumbers("CenterCropPad", inputs, 1, "the shape");
  const axes = normalizeAxes("CenterCropPad", given ?? shape.map((_, i) => i), shape.length);
  if (sizes.length !== axes.length || sizes.some((d) => d < 0))
    throw new HeddleError("bad-model", `CenterCropPad: sizes (${sizes}) do not fit axes (${axes})`);
  return { axes, sizes };
}

/** Crops or pads as much on both sides; an odd element goes to the end of a pad, and leaves the end of a crop. */
const CenterCropPad: Op = defineOp<{ axes?: readonly number[] }>({
  name: "CenterCropPad",
  kind: "opaque",
  attrs: { axes: { type: "ints", optional: true } },
  infer(inputs, attrs) {
    const { axes, sizes } = cropTarget(inputs, attrs.axes);
    const { dtype, shape } = inputs[0]!.type; // cropTarget has seen it
    return [{ dtype, shape: axes.reduce<readonly number[]>((out, axis, i) => out.with(axis, sizes[i]), shape) }];
  },
  expand(inputs, attrs, node) {
    const { axes, sizes } = cropTarget(inputs, attrs.axes);
    const x = inputs[0]!; // cropTarget has seen it
    const build = builder(node.from);
    const more = axes.map((axis, i) => sizes[i] - x.type.shape[axis]);
    const before = more.map((d) => Math.floor(d / 2));
    const starts = more.map((d) => Math.floor(Math.max(0, -d) / 2));
    const ends = starts.map((s, i) => s + Math.min(sizes[i], x.type.shape[axes[i]]));
    const cropped = build.op("Slice", [x, build.ints(...starts), build.ints(...ends), build.ints(...axes)]);
    const pads = [...more.map((d, i) => (d > 0 ? before[i] : 0)), ...more.map((d, i) => (d > 0 ? d - before[i] : 0))];
    return [build.op("Pad", [cropped, build.ints(...pads), null, build.ints(...axes)])];
  },
  samples: [{ inputs: [f32(5, 8), ints(8, 5)] }, { inputs: [f32(2, 7, 3), ints(4, 4)], attrs: { axes: [-2, 2] } }],
});

export const unpoolOps: readonly Op[] = [MaxUnpool, Col2Im, CenterCropPad];
