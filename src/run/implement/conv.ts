// Conv to kernels: matrix products where the window is one pixel, sliding windows where each channel stands alone, direct convolution otherwise.
import { type ConvShape, wholeImage } from "../../kernels/conv.ts";
import type { WeightStrides } from "../../kernels/conv_weights.ts";
import { type GemmShape, gemmKernel, packedElements, packPairs, packRight, scheduleGemm } from "../../kernels/gemm.ts";
import { packKernel } from "../../kernels/pack.ts";
import { convGeometry } from "../../ops/conv.ts";
import { type Implementation, type KernelCall, type Place, sharedKernel, tailPlaces, valuePlace } from "../step.ts";
import {
  CONVERTED,
  type ConvTask,
  type ConvWindows,
  convTask,
  depthwiseCalls,
  directCalls,
  directShape,
  floatBias,
  floatPlace,
  inFloat32,
  type Packing,
  pairedCalls,
  pairedShape,
  rowsOfPixels,
  windowAxis,
  winogradCalls,
  withWeights,
} from "./conv_task.ts";
import { formatOf } from "./matmul.ts";
import { rowsTimesSparse } from "./sparse.ts";
import { sparseWindows } from "./sparse_windows.ts";
import { transposed } from "./transposed.ts";

export const implementConv: Implementation = (task) => {
  const c = convTask(task, convGeometry(task.anchor));
  if (!c) return null;
  const { geometry, y, x } = c;
  const isPointwise = [y, x].every((a) => a.kernel === 1 && a.stride === 1 && a.pad === 0 && a.output === a.input);
  if (isPointwise && geometry.group === 1) return pointwise(c);
  return paired(c) ?? inFloat32(c, windows);
};

/** A window on bf16 numbers, directly; null where the target does not multiply pairs of channels. */
function paired(c: ConvTask): readonly KernelCall[] | null {
  const shape = pairedShape(c, directShape(c, allWindows(c)));
  return shape && pairedCalls(c, shape, weightStrides(c));
}

function windows(c: ConvTask): readonly KernelCall[] | null {
  const { geometry, y, x } = c;
  if (geometry.group === geometry.inChannels && geometry.outChannels === geometry.inChannels) {
    return depthwiseCalls(c, allWindows(c), weightStrides(c));
  }
  const fast = winogradCalls(c, { y: y.pad, x: x.pad }, weightStrides(c));
  return sparseWindows(c, fast !== null) ?? fast ?? direct(c);
}

/** Weights (out, in of the group, tap y, tap x). */
function weightStrides({ geometry, y, x }: ConvTask): WeightStrides {
  const perOut = (geometry.inChannels / geometry.group) * y.kernel * x.kernel;
  const perGroup = (geometry.outChannels / geometry.group) * perOut;
  return { base: 0, group: perGroup, out: perOut, in: y.kernel * x.kernel, y: x.kernel, x: 1 };
}

/** A window of one pixel: pixels × channels times the weights. */
function pointwise(c: ConvTask): readonly KernelCall[] {
  const { task, geometry, y, x } = c;
  const { target, threads } = task;
  const { inChannels, outChannels: n, batch } = geometry;
  const m = batch * y.input * x.input;
  const sparse = sparsePointwise(c, m);
  if (sparse) return sparse;
  const before: KernelCall[] = [];
  const format = formatOf(c.input.type.dtype, inChannels, target) ?? "f32"; // it is a float that kernels read
  const k = format === "pairs" ? inChannels / 2 : inChannels;
  const shape: GemmShape = { format, batch: 1, m, n, k, left: { batch: 0, row: k }, isRightBatched: false, hasBias: c.bias !== null };
  const schedule = scheduleGemm(shape, target, task.epilogue.output.dtype);
  const kernel = sharedKernel(task, `gemm ${JSON.stringify([shape, schedule])} ${task.epilogueKey}`, () =>
    gemmKernel(task.name, shape, schedule, task.epilogue, target, threads),
  );
  const strides = { k: 1, n: inChannels };
  const packShape: GemmShape = format === "pairs" ? shape : { ...shape, format: "f32" };
  const packing: Packing = {
    key: JSON.stringify([packShape, schedule, strides]),
    elements: packedElements(shape, schedule, target),
    fill: (weights, out) => (format === "pairs" ? packPairs : packRight<Float32Array>)(weights, strides, shape, schedule, target, out),
    kernel: (name) => packKernel(name, { batch: 0, ...strides }, packShape, schedule, target, threads),
  };
  const bias = floatBias(c, before);
  // Numbers of 16 bits one below another are packed only as pairs.
  const weights = format === "pairs" || c.constants ? c.places.weights : floatPlace(task, c.weights, CONVERTED + 1, before);
  const calls = withWeights({ ...c, places: { ...c.places, weights } }, packing, (packed) => ({
    kernel,
    places: [c.places.input, packed, ...bias, ...tailPlaces(task)],
    storesPartialSums: schedule.depth < k,
  }));
  return [...before, ...calls];
}

/** Null where the weights are not known or not sparse enough. */
function sparsePointwise({ task, geometry, constants, places, input }: ConvTask, n: number): readonly KernelCall[] | null {
  if (!constants || input.type.dtype !== "f32") return null;
  const size = { rows: geometry.outChannels, depth: geometry.inChannels, n };
  return rowsTimesSparse(task, places.input, { weights: constants, isTransposed: true, bias: places.bias }, size);
}

function direct(c: ConvTask): readonly KernelCall[] {
  const source = imageSource(c);
  return directCalls(c, directShape(c, allWindows(c), source.strides), weightStrides(c), source.place);
}

/** The windows of the whole output. */
const allWindows = ({ y, x }: ConvTask): ConvWindows => ({ y: windowAxis(y), x: windowAxis(x), output: wholeImage(y.output, x.output) });

/** Elements between images, rows, pixels and channels of what a convolution reads. */
interface ImageSource {
  readonly place: Place;
  readonly strides: ConvShape["input"];
}

/** Few channels are read where they are before a Transpose to channels last, so that it need not run. */
const MAX_STRIDED_CHANNELS = 4;

function imageSource(c: ConvTask): ImageSource {
  const { inChannels, input } = c.geometry;
  const source = c.input.type.dtype === "f32" ? transposed(c.input) : null;
  const fromFirst = input.length === 2 ? "0,2,3,1" : "0,2,1";
  const pixels = c.y.input * c.x.input;
  if (source?.perm.join() === fromFirst && inChannels <= MAX_STRIDED_CHANNELS)
    return { place: valuePlace(source.before), strides: { image: inChannels * pixels, row: c.x.input, pixel: 1, channel: pixels } };
  return { place: c.places.input, strides: rowsOfPixels(c.geometry) };
}
