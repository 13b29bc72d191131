// Conv to kernels: matrix products where the window is one pixel, sliding windows where each channel stands alone, direct convolution otherwise.
import type { Value } from "../../ir/graph.ts";
import { type ConvShape, wholeImage } from "../../kernels/conv.ts";
import type { WeightStrides } from "../../kernels/conv_weights.ts";
import { type GemmShape, gemmKernel, packedElements, packRight, scheduleGemm } from "../../kernels/gemm.ts";
import { packKernel } from "../../kernels/pack.ts";
import { type ConvGeometry, convGeometry } from "../../ops/conv.ts";
import { type Implementation, type KernelCall, sharedKernel, tailPlaces, valuePlace } from "../step.ts";
import {
  biasPlaces,
  type ConvTask,
  convTask,
  depthwiseCalls,
  directCalls,
  type Packing,
  windowAxis,
  winogradCalls,
  withWeights,
} from "./conv_task.ts";
import { transposed } from "./transposed.ts";

export const implementConv: Implementation = (task) => {
  const c = convTask(task, convGeometry(task.anchor));
  if (!c) return null;
  const { geometry, y, x } = c;
  const isPointwise = [y, x].every((a) => a.kernel === 1 && a.stride === 1 && a.pad === 0 && a.output === a.input);
  if (isPointwise && geometry.group === 1) return pointwise(c);
  if (geometry.group === geometry.inChannels && geometry.outChannels === geometry.inChannels) {
    return depthwiseCalls(c, { y: windowAxis(y), x: windowAxis(x), output: wholeImage(y.output, x.output) }, weightStrides(c));
  }
  return winograd(c) ?? direct(c);
};

/** Weights (out, in of the group, tap y, tap x). */
function weightStrides({ geometry, y, x }: ConvTask): WeightStrides {
  const perOut = (geometry.inChannels / geometry.group) * y.kernel * x.kernel;
  const perGroup = (geometry.outChannels / geometry.group) * perOut;
  return { base: 0, group: perGroup, out: perOut, in: y.kernel * x.kernel, y: x.kernel, x: 1 };
}

function winograd(c: ConvTask): readonly KernelCall[] | null {
  const { geometry, y, x } = c;
  if (geometry.group !== 1 || [y, x].some((a) => a.kernel !== 3 || a.stride !== 1 || a.dilation !== 1)) return null;
  const { batch, inChannels, outChannels } = geometry;
  const input = { height: y.input, width: x.input };
  const output = { height: y.output, width: x.output };
  const shape = { batch, inChannels, outChannels, input, output, pad: { y: y.pad, x: x.pad }, hasBias: c.bias !== null };
  return winogradCalls(c, shape, weightStrides(c));
}

/** A window of one pixel: pixels × channels times the weights. */
function pointwise(c: ConvTask): readonly KernelCall[] {
  const { task, geometry, y, x } = c;
  const { target, threads } = task;
  const { inChannels: k, outChannels: n, batch } = geometry;
  const m = batch * y.input * x.input;
  const shape: GemmShape = { batch: 1, m, n, k, left: { batch: 0, row: k }, isRightBatched: false, hasBias: c.bias !== null };
  const schedule = scheduleGemm(shape, target, task.epilogue.output.dtype);
  const kernel = sharedKernel(task, `gemm ${JSON.stringify([shape, schedule])} ${task.epilogueKey}`, () =>
    gemmKernel(task.name, shape, schedule, task.epilogue, target, threads),
  );
  const strides = { k: 1, n: k };
  const packing: Packing = {
    key: JSON.stringify([shape, schedule, strides]),
    elements: packedElements(shape, schedule, target),
    fill: (weights, out) => packRight(weights, strides, shape, schedule, target, out),
    kernel: (name) => packKernel(name, { batch: 0, ...strides }, shape, schedule, target, threads),
  };
  return withWeights(c, packing, (packed) => ({
    kernel,
    places: [valuePlace(c.input), packed, ...biasPlaces(c.bias), ...tailPlaces(task)],
    storesPartialSums: schedule.depth < k,
  }));
}

function direct(c: ConvTask): readonly KernelCall[] {
  const { geometry, y, x } = c;
  const source = imageSource(c.input, geometry, y.input, x.input);
  const shape: ConvShape = {
    batch: geometry.batch,
    groups: geometry.group,
    inChannels: geometry.inChannels / geometry.group,
    outChannels: geometry.outChannels / geometry.group,
    y: windowAxis(y),
    x: windowAxis(x),
    input: source.strides,
    output: wholeImage(y.output, x.output),
    hasBias: c.bias !== null,
  };
  return directCalls(c, shape, weightStrides(c), valuePlace(source.value));
}

/** Elements between images, rows, pixels and channels of what a convolution reads. */
interface ImageSource {
  readonly value: Value;
  readonly strides: ConvShape["input"];
}

/** Few channels are read where they are before a Transpose to channels last, so that it need not run. */
const MAX_STRIDED_CHANNELS = 4;

function imageSource(x: Value, { inChannels, input }: ConvGeometry, height: number, width: number): ImageSource {
  const source = transposed(x);
  const fromFirst = input.length === 2 ? "0,2,3,1" : "0,2,1";
  const pixels = height * width;
  if (source?.perm.join() === fromFirst && inChannels <= MAX_STRIDED_CHANNELS)
    return { value: source.before, strides: { image: inChannels * pixels, row: width, pixel: 1, channel: pixels } };
  return { value: x, strides: { image: inChannels * pixels, row: width * inChannels, pixel: inChannels, channel: 1 } };
}
