// Convolutions and transposed ones to SIMT products: images are gathered on the fly, weights put in the order in which they are read.

import { loadReader } from "../../ir/expr_interpreter.ts";
import type { Node, Reader, Value } from "../../ir/graph.ts";
import { addIndex, type Index, mulIndex, unlinearIndex } from "../../ir/index_expr.ts";
import type { SimtKernel } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { type Image, type Sliding, spreadOperand, windowOperand } from "../../kernels/simt/image_operand.ts";
import { type Operand, stridedOperand } from "../../kernels/simt/operand.ts";
import { type ConvGeometry, convGeometry } from "../../ops/conv.ts";
import { convTransposeGeometry } from "../../ops/conv_transpose.ts";
import { transposed } from "../implement/transposed.ts";
import { type KernelCall, valuePlace } from "../step.ts";
import { phases } from "./implement_phases.ts";
import { implementDepthwise } from "./implement_windows.ts";
import { type GpuImplementation, type GpuTask, productCalls, type Source } from "./product_calls.ts";
import { reordered } from "./weights.ts";

/** Fewer output channels of a group, or products of a sum, are not worth tiles: a thread for each element reads as much. */
export const LEAST_CHANNELS = 8;
export const LEAST_DEPTH = 8;
/** More channels are read as vectors when they are innermost. */
const MOST_IN_FRONT = 3;

export const isFloat = (values: readonly (Value | null)[]): boolean =>
  values.every((v) => !v || v.type.dtype === "f32" || v.type.dtype === "f16" || v.type.dtype === "bf16");

export const implementConv: GpuImplementation = (task) =>
  implementDepthwise(task) ?? convolution(task, convGeometry(taskNode(task)), false);
export const implementConvTranspose: GpuImplementation = (task) => {
  const g = convTransposeGeometry(taskNode(task));
  return isBlocks(g) ? blocks(task, g) : convolution(task, g, true);
};

export const taskNode = ({ anchor }: GpuTask): Node => anchor;

function convolution(task: GpuTask, g: ConvGeometry, isSpread: boolean): readonly KernelCall<SimtKernel>[] | null {
  const [x, w, bias] = task.inputs as readonly [Value, Value, Value?]; // neither is ever absent
  const [channels, perGroup] = [g.inChannels / g.group, g.outChannels / g.group];
  const taps = elementCount(g.kernel);
  if (!isFloat([x, w, bias ?? null]) || perGroup < LEAST_CHANNELS || channels * taps < LEAST_DEPTH) return null;
  if (elementCount(x.type.shape) === 0) return null;
  const seen = isSpread ? null : channelsFirst(x, g);
  const image: Image = { dtype: x.type.dtype, images: g.batch, groups: g.group, channels, isChannelsLast: g.layout === "NHWC" && !seen };
  const inPhases = isSpread ? phases(task, g, image) : null;
  if (inPhases) return inPhases;
  const { weights, calls } = orderedWeights(task, w, g, isSpread);
  return [
    ...calls,
    ...productCalls(task, {
      left: { operand: imageOperand(image, g, isSpread), place: valuePlace(seen ?? x) },
      right: weights,
      batch: g.group,
      place: (group, row, column) => {
        const [n, ...position] = unlinearIndex(row, [g.batch, ...g.output]);
        const channel = addIndex(mulIndex(group, perGroup), column);
        return g.layout === "NHWC" ? [n, ...position, channel] : [n, channel, ...position];
      },
      bias: bias && { value: bias, axis: g.layout === "NHWC" ? g.output.length + 1 : 1 },
      key: `${isSpread ? "spread" : "window"} ${JSON.stringify([image, slidingOf(g), w.type.dtype])}`,
    }),
  ];
}

export const slidingOf = ({ input, output, kernel, strides, dilations, padsBegin }: ConvGeometry): Sliding => ({ input, output, kernel, strides, dilations, padsBegin }); // biome-ignore format: short

/** What x is, channels innermost, of an image with few channels in front: they are read where they lie. */
function channelsFirst(x: Value, g: ConvGeometry): Value | null {
  const source = g.layout === "NHWC" && g.inChannels <= MOST_IN_FRONT ? transposed(x) : undefined;
  const last = x.type.shape.length - 1;
  return source?.perm.every((axis, i) => axis === (i === 0 ? 0 : i === last ? 1 : i + 1)) ? source.before : null;
}

/** One tap at every place: the image is a matrix as it lies. */
export const isPointwise = (g: ConvGeometry): boolean =>
  g.layout === "NHWC" && elementCount(g.kernel) === 1 && g.input.join() === g.output.join() && [...g.strides].every((s) => s === 1) && g.padsBegin.every((p) => p === 0); // biome-ignore format: short

function imageOperand(image: Image, g: ConvGeometry, isSpread: boolean): Operand {
  if (isPointwise(g) && image.isChannelsLast) return matrixOperand(image, g);
  return isSpread ? spreadOperand(image, slidingOf(g)) : windowOperand(image, slidingOf(g));
}

/** A row for each position. */
function matrixOperand(image: Image, g: ConvGeometry): Operand {
  const rows = g.batch * elementCount(g.input);
  const all = g.inChannels;
  const batch = [{ extent: g.group, stride: image.channels }];
  return stridedOperand(image.dtype, rows * all, batch, { extent: rows, stride: all }, { extent: image.channels, stride: 1 });
}

/** Weights as (group, output channel, tap, input channel), by a kernel where they lie otherwise. */
export function orderedWeights(
  task: GpuTask,
  w: Value,
  g: ConvGeometry,
  isSpread: boolean,
): { weights: Source; calls: readonly KernelCall<SimtKernel>[] } {
  const [channels, perGroup] = [g.inChannels / g.group, g.outChannels / g.group];
  const taps = elementCount(g.kernel);
  const depth = taps * channels;
  const { dtype } = w.type;
  const operand = stridedOperand(dtype, elementCount(w.type.shape), [{ extent: g.group, stride: perGroup * depth }], { extent: perGroup, stride: depth }, { extent: depth, stride: 1 }); // biome-ignore format: short
  if (!isSpread && taps === 1) return { weights: { operand, place: valuePlace(w) }, calls: [] };
  const given = loadReader(w.type, 0);
  const ordered: Reader = {
    type: { dtype, shape: [g.group, perGroup, ...g.kernel, channels] },
    at([group, m, ...rest]) {
      const [tap, c] = [rest.slice(0, -1), rest[rest.length - 1]];
      const own = (i: Index, size: number): Index => addIndex(mulIndex(group, size), i);
      return given.at(isSpread ? [own(c, channels), m, ...tap] : [own(m, perGroup), c, ...tap]);
    },
  };
  const { place, calls } = reordered(task, w, ordered, `${isSpread} ${g.group}`);
  return { weights: { operand, place }, calls };
}

/** Windows that do not overlap: each position gives a block of the output, by a product of its channels with all taps. */
const isBlocks = (g: ConvGeometry): boolean =>
  g.layout === "NHWC" && g.kernel.every((k, i) => k === g.strides[i] && g.padsBegin[i] === 0 && g.output[i] === g.input[i] * k);

function blocks(task: GpuTask, g: ConvGeometry): readonly KernelCall<SimtKernel>[] | null {
  const [x, w, bias] = task.inputs as readonly [Value, Value, Value?]; // neither is ever absent
  const [channels, perGroup] = [g.inChannels / g.group, g.outChannels / g.group];
  if (!isFloat([x, w, bias ?? null]) || channels < LEAST_DEPTH || elementCount(x.type.shape) === 0) return null;
  const columns = elementCount(g.kernel) * perGroup;
  const given = loadReader(w.type, 0);
  const ordered: Reader = {
    type: { dtype: w.type.dtype, shape: [g.group, ...g.kernel, perGroup, channels] },
    at([group, ...rest]) {
      const [tap, m, c] = [rest.slice(0, -2), rest[rest.length - 2], rest[rest.length - 1]];
      return given.at([addIndex(mulIndex(group, channels), c), m, ...tap]);
    },
  };
  const { place, calls } = reordered(task, w, ordered, `blocks ${g.group}`);
  const batch = [{ extent: g.group, stride: columns * channels }];
  const operand = stridedOperand(w.type.dtype, elementCount(w.type.shape), batch, { extent: columns, stride: channels }, { extent: channels, stride: 1 }); // biome-ignore format: short
  const image: Image = { dtype: x.type.dtype, images: g.batch, groups: g.group, channels, isChannelsLast: true };
  return [
    ...calls,
    ...productCalls(task, {
      left: { operand: matrixOperand(image, g), place: valuePlace(x) },
      right: { operand, place },
      batch: g.group,
      place: (group, row, column) => {
        const [n, ...position] = unlinearIndex(row, [g.batch, ...g.input]);
        const parts = unlinearIndex(column, [...g.kernel, perGroup]);
        const at = position.map((q, i) => addIndex(mulIndex(q, g.kernel[i]), parts[i]));
        return [n, ...at, addIndex(mulIndex(group, perGroup), parts[parts.length - 1])];
      },
      bias: bias && { value: bias, axis: g.output.length + 1 },
      key: `blocks ${JSON.stringify([image, slidingOf(g), w.type.dtype, perGroup])}`,
    }),
  ];
}
