// Conv and ConvTranspose to kernels: matrix products where the window is one pixel, sliding windows where each channel stands alone, direct convolution otherwise.

import type { Value } from "../../ir/graph.ts";
import { elementCount, type TensorData, toNumbers } from "../../ir/tensor.ts";
import { type ConvShape, convKernel, packConvWeights, scheduleConv } from "../../kernels/conv.ts";
import { type GemmShape, gemmKernel, packRight, scheduleGemm } from "../../kernels/gemm.ts";
import { packDepthwiseWeights, type SlideShape, slideKernel } from "../../kernels/slide.ts";
import { plainAxis, type WindowAxis } from "../../kernels/window.ts";
import { packWinogradWeights, scheduleWinograd, type WinogradShape, winogradKernel } from "../../kernels/winograd.ts";
import { type ConvGeometry, convGeometry } from "../../ops/conv.ts";
import { convTransposeGeometry } from "../../ops/conv_transpose.ts";
import { constantOf } from "../../ops/source.ts";
import {
  type AnchorTask,
  constantPlace,
  type Implementation,
  type KernelCall,
  type Place,
  packedPlace,
  sharedKernel,
  tailPlaces,
  valuePlace,
} from "../step.ts";
import { transposed } from "./transposed.ts";

/** Float32 numbers of a constant; undefined when it is computed at run time. */
export function constantFloats(value: Value | null | undefined): Float32Array | undefined {
  const tensor: TensorData | undefined = constantOf(value);
  if (!tensor) return undefined;
  return tensor.data instanceof Float32Array ? tensor.data : Float32Array.from(toNumbers(tensor));
}

/** What all convolutions need: geometry with two spatial axes, constant weights, float32. */
interface ConvTask {
  readonly task: AnchorTask;
  readonly geometry: ConvGeometry;
  readonly weights: Float32Array;
  readonly bias: Float32Array | undefined;
  readonly y: Axis;
  readonly x: Axis;
}

/** One spatial axis of a convolution. */
interface Axis {
  readonly input: number;
  readonly output: number;
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  readonly pad: number;
}

const unitAxis: Axis = { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, pad: 0 };

function convTask(task: AnchorTask, geometry: ConvGeometry): ConvTask | null {
  const [x, w, b] = task.inputs;
  const weights = constantFloats(w);
  const bias = b ? constantFloats(b) : undefined;
  if (!weights || (b && !bias) || x?.type.dtype !== "f32" || geometry.layout !== "NHWC") return null;
  const axes = geometry.input.map((input, i) => ({
    input,
    output: geometry.output[i],
    kernel: geometry.kernel[i],
    stride: geometry.strides[i],
    dilation: geometry.dilations[i],
    pad: geometry.padsBegin[i],
  }));
  if (axes.length > 2 || elementCount(task.output.type.shape) === 0 || elementCount(x.type.shape) === 0) return null;
  const [ay, ax] = axes.length === 2 ? axes : [unitAxis, axes[0]];
  return { task, geometry, weights, bias, y: ay, x: ax };
}

const windowAxis = (a: Axis): WindowAxis => ({
  outputs: a.output,
  inputs: a.input,
  taps: a.kernel,
  stride: a.stride,
  offset: -a.pad,
  dilation: a.dilation,
});

const biasPlaces = (bias: Float32Array | undefined): Place[] => (bias ? [constantPlace(bias)] : []);

export const implementConv: Implementation = (task) => {
  const c = convTask(task, convGeometry(task.anchor));
  if (!c) return null;
  const { geometry, y, x } = c;
  const isPointwise = [y, x].every((a) => a.kernel === 1 && a.stride === 1 && a.pad === 0 && a.output === a.input);
  if (isPointwise && geometry.group === 1) return pointwise(c);
  if (geometry.group === geometry.inChannels && geometry.outChannels === geometry.inChannels) return depthwise(c);
  return winograd(c) ?? direct(c);
};

/** 3×3 windows of stride 1 where Winograd's algorithm pays; null elsewhere. */
function winograd({ task, geometry, weights, bias, y, x }: ConvTask): readonly KernelCall[] | null {
  if (geometry.group !== 1 || [y, x].some((a) => a.kernel !== 3 || a.stride !== 1 || a.dilation !== 1)) return null;
  const shape: WinogradShape = {
    batch: geometry.batch,
    inChannels: geometry.inChannels,
    outChannels: geometry.outChannels,
    input: { height: y.input, width: x.input },
    output: { height: y.output, width: x.output },
    pad: { y: y.pad, x: x.pad },
    hasBias: bias !== undefined,
  };
  const schedule = scheduleWinograd(shape, task.target);
  if (!schedule) return null;
  const kernel = sharedKernel(task, `winograd ${JSON.stringify(shape)} ${task.epilogueKey}`, () =>
    winogradKernel(task.name, shape, schedule, task.epilogue, task.target, task.threads),
  );
  const packed = packedPlace((out) => packWinogradWeights(weights, shape, schedule, task.target, out));
  return [{ kernel, places: [valuePlace(task.inputs[0] as Value), packed, ...biasPlaces(bias), ...tailPlaces(task)] }];
}

/** A window of one pixel: pixels × channels times the weights. */
function pointwise({ task, geometry, weights, bias, y, x }: ConvTask): readonly KernelCall[] {
  const { inChannels: k, outChannels: n, batch } = geometry;
  const m = batch * y.input * x.input;
  const shape: GemmShape = { batch: 1, m, n, k, left: { batch: 0, row: k }, isRightBatched: false, hasBias: bias !== undefined };
  const schedule = scheduleGemm(shape, task.target, task.epilogue.output.dtype);
  const kernel = sharedKernel(task, `gemm ${JSON.stringify([shape, schedule])} ${task.epilogueKey}`, () =>
    gemmKernel(task.name, shape, schedule, task.epilogue, task.target, task.threads),
  );
  const packed = packedPlace((out) => packRight(weights, { k: 1, n: k }, shape, schedule, task.target, out));
  const places = [valuePlace(task.inputs[0] as Value), packed, ...biasPlaces(bias), ...tailPlaces(task)];
  return [{ kernel, places, storesPartialSums: schedule.depth < k }];
}

function depthwise({ task, geometry, weights, bias, y, x }: ConvTask): readonly KernelCall[] {
  const shape: SlideShape = {
    batch: geometry.batch,
    channels: geometry.inChannels,
    y: windowAxis(y),
    x: windowAxis(x),
    combine: "multiply",
    hasBias: bias !== undefined,
  };
  const kernel = sharedKernel(task, `slide ${JSON.stringify(shape)} ${task.epilogueKey}`, () =>
    slideKernel(task.name, shape, task.epilogue, task.target, task.threads),
  );
  const packed = packedPlace((out) => packDepthwiseWeights(weights, shape, out));
  return [{ kernel, places: [valuePlace(task.inputs[0] as Value), packed, ...biasPlaces(bias), ...tailPlaces(task)] }];
}

function direct({ task, geometry, weights, bias, y, x }: ConvTask): readonly KernelCall[] {
  const source = imageSource(task.inputs[0] as Value, geometry, y.input, x.input);
  const channels = geometry.inChannels / geometry.group;
  const shape: ConvShape = {
    batch: geometry.batch,
    groups: geometry.group,
    inChannels: channels,
    outChannels: geometry.outChannels / geometry.group,
    y: windowAxis(y),
    x: windowAxis(x),
    input: source.strides,
    output: { height: y.output, width: x.output, y0: 0, yStep: 1, x0: 0, xStep: 1 },
    hasBias: bias !== undefined,
  };
  const at = (o: number, c: number, ky: number, kx: number): number => ((o * channels + c) * y.kernel + ky) * x.kernel + kx;
  return [convCall(task, shape, weights, at, bias, valuePlace(source.value))];
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

/** Every phase (output position modulo stride) of a transposed convolution is a convolution with some of the taps. */
export const implementConvTranspose: Implementation = (task) => {
  const c = convTask(task, convTransposeGeometry(task.anchor));
  if (!c) return null;
  const { y, x } = c;
  const isTiling = [y, x].every((a) => a.kernel === a.stride && a.pad === 0 && a.dilation === 1 && a.output === a.input * a.stride);
  if (isTiling && c.geometry.group === 1) return patches(c);
  const calls: KernelCall[] = [];
  for (let py = 0; py < Math.min(y.stride, y.output); py++) {
    for (let px = 0; px < Math.min(x.stride, x.output); px++) {
      const ty = phaseAxis(y, py);
      const tx = phaseAxis(x, px);
      if (!ty || !tx) return null;
      calls.push(phase(c, ty, tx, py, px));
    }
  }
  return calls;
};

/** Windows that do not overlap: each input pixel makes a patch of the output, whose rows (tap x, out channel) are contiguous. */
function patches({ task, geometry, weights, bias, y, x }: ConvTask): readonly KernelCall[] {
  const { inChannels, outChannels, batch } = geometry;
  const shape = (ky: number): ConvShape => ({
    batch,
    groups: 1,
    inChannels,
    outChannels: x.kernel * outChannels,
    y: plainAxis(y.input),
    x: plainAxis(x.input),
    input: { image: y.input * x.input * inChannels, row: x.input * inChannels, pixel: inChannels, channel: 1 },
    output: { height: y.output, width: x.input, y0: ky, yStep: y.kernel, x0: 0, xStep: 1 },
    hasBias: bias !== undefined,
  });
  const rowBias = bias && Float32Array.from({ length: x.kernel * outChannels }, (_, i) => bias[i % outChannels]);
  return Array.from({ length: y.kernel }, (_, ky) => {
    const at = (o: number, c: number): number =>
      ((c * outChannels + (o % outChannels)) * y.kernel + ky) * x.kernel + Math.floor(o / outChannels);
    return convCall(task, shape(ky), weights, at, rowBias, valuePlace(task.inputs[0] as Value));
  });
}

/** A direct convolution with its weights packed. `at` is the element of the weights for (out, in, tap y, tap x). */
function convCall(
  task: AnchorTask,
  shape: ConvShape,
  weights: Float32Array,
  at: Parameters<typeof packConvWeights>[1],
  bias: Float32Array | undefined,
  source: Place,
): KernelCall {
  const { target, threads, epilogue } = task;
  const tile = scheduleConv(shape, target);
  const kernel = sharedKernel(task, `conv ${JSON.stringify(shape)} ${task.epilogueKey}`, () =>
    convKernel(task.name, shape, tile, epilogue, target, threads),
  );
  const packed = packedPlace((out) => packConvWeights(weights, at, shape, tile, target, out));
  return { kernel, places: [source, packed, ...biasPlaces(bias), ...tailPlaces(task)] };
}

/** A phase of a transposed axis: the taps that reach it, and the window that they are. */
interface PhaseAxis {
  readonly window: WindowAxis;
  /** Numbers of the taps in the weights. */
  readonly taps: readonly number[];
}

/** Output o = phase + stride·i gets input (o + pad − tap·dilation) / stride from the taps for which that is whole; null: from none. */
function phaseAxis(a: Axis, phase: number): PhaseAxis | null {
  const taps = Array.from({ length: a.kernel }, (_, t) => t).filter((t) => (phase + a.pad - t * a.dilation) % a.stride === 0);
  if (taps.length === 0) return null;
  const position = (t: number): number => (phase + a.pad - t * a.dilation) / a.stride;
  const dilation = taps.length > 1 ? position(taps[1]) - position(taps[0]) : 1;
  const outputs = Math.ceil((a.output - phase) / a.stride);
  return { window: { outputs, inputs: a.input, taps: taps.length, stride: 1, offset: position(taps[0]), dilation }, taps };
}

function phase({ task, geometry, weights, bias, y, x }: ConvTask, py: PhaseAxis, px: PhaseAxis, y0: number, x0: number): KernelCall {
  const outChannels = geometry.outChannels / geometry.group;
  const inChannels = geometry.inChannels / geometry.group;
  const shape: ConvShape = {
    batch: geometry.batch,
    groups: geometry.group,
    inChannels,
    outChannels,
    y: py.window,
    x: px.window,
    input: {
      image: y.input * x.input * geometry.inChannels,
      row: x.input * geometry.inChannels,
      pixel: geometry.inChannels,
      channel: 1,
    },
    output: { height: y.output, width: x.output, y0, yStep: y.stride, x0, xStep: x.stride },
    hasBias: bias !== undefined,
  };
  // Weights are (in channels, out channels of a group, taps).
  const at = (o: number, c: number, ky: number, kx: number): number => {
    const group = Math.floor(o / outChannels);
    return (((group * inChannels + c) * outChannels + (o % outChannels)) * y.kernel + py.taps[ky]) * x.kernel + px.taps[kx];
  };
  return convCall(task, shape, weights, at, bias, valuePlace(task.inputs[0] as Value));
}
