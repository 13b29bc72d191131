// Convolutions, transposed ones and gradients of weights to SIMT products: images are gathered on the fly, weights put in the order in which they are read.

import { interpret, loadReader } from "../../ir/expr_interpreter.ts";
import type { Node, Reader, TensorType, Value } from "../../ir/graph.ts";
import { addIndex, divIndex, type Index, modIndex, mulIndex, unlinearIndex } from "../../ir/index_expr.ts";
import type { SimtKernel } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { type Image, type Sliding, spreadOperand, turnedWindow, windowOperand } from "../../kernels/simt/image_operand.ts";
import { type Operand, stridedOperand } from "../../kernels/simt/operand.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import { type ConvGeometry, convGeometry } from "../../ops/conv.ts";
import { convTransposeGeometry } from "../../ops/conv_transpose.ts";
import { convWeightGradGeometry } from "../../ops/conv_weight_grad.ts";
import { constantOf } from "../../ops/source.ts";
import { constantPlace, type KernelCall, type Place, packedPlace, valuePlace } from "../step.ts";
import { type GpuImplementation, type GpuTask, productCalls, type Source } from "./product_calls.ts";

/** Fewer output channels of a group, or products of a sum, are not worth tiles: a thread for each element reads as much. */
const LEAST_CHANNELS = 8;
const LEAST_DEPTH = 8;

const isFloat = (values: readonly (Value | null)[]): boolean =>
  values.every((v) => !v || v.type.dtype === "f32" || v.type.dtype === "f16" || v.type.dtype === "bf16");

export const implementConv: GpuImplementation = (task) => convolution(task, convGeometry(taskNode(task)), false);
export const implementConvTranspose: GpuImplementation = (task) => convolution(task, convTransposeGeometry(taskNode(task)), true);

const taskNode = ({ anchor }: GpuTask): Node => anchor;

function convolution(task: GpuTask, g: ConvGeometry, isSpread: boolean): readonly KernelCall<SimtKernel>[] | null {
  const [x, w, bias] = task.inputs as readonly [Value, Value, Value?]; // neither is ever absent
  const [channels, perGroup] = [g.inChannels / g.group, g.outChannels / g.group];
  const taps = elementCount(g.kernel);
  if (!isFloat([x, w, bias ?? null]) || perGroup < LEAST_CHANNELS || channels * taps < LEAST_DEPTH) return null;
  if (elementCount(x.type.shape) === 0) return null;
  const image: Image = { dtype: x.type.dtype, images: g.batch, groups: g.group, channels, isChannelsLast: g.layout === "NHWC" };
  const { weights, calls } = orderedWeights(task, w, g, isSpread);
  return [
    ...calls,
    ...productCalls(task, {
      left: { operand: imageOperand(image, g, isSpread), place: valuePlace(x) },
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

const slidingOf = ({ input, output, kernel, strides, dilations, padsBegin }: ConvGeometry): Sliding => ({ input, output, kernel, strides, dilations, padsBegin }); // biome-ignore format: short

/** One tap at every place: the image is a matrix as it lies. */
export const isPointwise = (g: ConvGeometry): boolean =>
  g.layout === "NHWC" && elementCount(g.kernel) === 1 && g.input.join() === g.output.join() && [...g.strides].every((s) => s === 1) && g.padsBegin.every((p) => p === 0); // biome-ignore format: short

function imageOperand(image: Image, g: ConvGeometry, isSpread: boolean): Operand {
  if (!isPointwise(g)) return isSpread ? spreadOperand(image, slidingOf(g)) : windowOperand(image, slidingOf(g));
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
  const count = elementCount(w.type.shape);
  const operand = stridedOperand(dtype, count, [{ extent: g.group, stride: perGroup * depth }], { extent: perGroup, stride: depth }, { extent: depth, stride: 1 }); // biome-ignore format: short
  if (!isSpread && taps === 1) return { weights: { operand, place: valuePlace(w) }, calls: [] };
  const type: TensorType = { dtype, shape: [g.group, perGroup, ...g.kernel, channels] };
  const given = loadReader(w.type, 0);
  const ordered: Reader = {
    type,
    at([group, m, ...rest]) {
      const [tap, c] = [rest.slice(0, -1), rest[rest.length - 1]];
      const own = (i: Index, size: number): Index => addIndex(mulIndex(group, size), i);
      return given.at(isSpread ? [own(c, channels), m, ...tap] : [own(m, perGroup), c, ...tap]);
    },
  };
  const known = constantPlaceOf(w, ordered, task);
  if (known) return { weights: { operand, place: known }, calls: [] };
  const key = `weights ${isSpread} ${g.group} ${dtype}[${w.type.shape}]`;
  const kernel = task.shared(key, `${task.name}_weights`, (n) => lowerSimtReaders(n, [ordered], [w.type], task.target));
  const place: Place = { k: "temporary", id: 1, bytes: count * (task.target.storedBytes[dtype] ?? 0) };
  return { weights: { operand, place }, calls: [{ kernel, places: [valuePlace(w), place] }] };
}

/** Constant weights are put in order when compiling: float32, and others where the device keeps them as the host does. */
function constantPlaceOf(w: Value, ordered: Reader, { target }: GpuTask): Place | undefined {
  const tensor = constantOf(w);
  if (!tensor) return undefined;
  if (tensor.dtype === "f32") return packedPlace((out) => out.set(interpret(ordered, [tensor]).data as Float32Array)); // as its type is
  return target.name === "cuda" ? constantPlace(interpret(ordered, [tensor]).data) : undefined;
}

export const implementConvWeightGrad: GpuImplementation = (task) => {
  const g = convWeightGradGeometry(taskNode(task));
  const [x, dy] = task.inputs as readonly [Value, Value]; // neither is ever absent
  const [channels, perGroup] = [g.inChannels / g.group, g.outChannels / g.group];
  const taps = elementCount(g.kernel);
  const positions = g.batch * elementCount(g.output);
  // With channels first the gradient of several images is no matrix.
  if (!isFloat([x, dy]) || g.layout !== "NHWC" || perGroup < LEAST_CHANNELS || channels * taps < LEAST_DEPTH || positions === 0)
    return null;
  const image: Image = { dtype: x.type.dtype, images: g.batch, groups: g.group, channels, isChannelsLast: true };
  const batch = [{ extent: g.group, stride: perGroup }];
  const gradient = stridedOperand(dy.type.dtype, positions * g.outChannels, batch, { extent: perGroup, stride: 1 }, { extent: positions, stride: g.outChannels }); // biome-ignore format: short
  return productCalls(task, {
    left: { operand: gradient, place: valuePlace(dy) },
    right: { operand: turnedWindow(image, slidingOf(g)), place: valuePlace(x) },
    batch: g.group,
    place: (group, row, column) => [
      addIndex(mulIndex(group, perGroup), row),
      modIndex(column, channels),
      ...unlinearIndex(divIndex(column, channels), g.kernel),
    ],
    key: `weight gradient ${JSON.stringify([image, slidingOf(g), dy.type.dtype, g.outChannels])}`,
  });
};
