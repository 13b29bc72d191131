// What kernels of Conv and ConvTranspose have in common: axes, a bias, and weights that are packed when compiling or, where they change, at run time.
import type { DType } from "../../ir/dtype.ts";
import type { Value } from "../../ir/graph.ts";
import type { Kernel } from "../../ir/kernel.ts";
import { elementCount, type TensorData, toNumbers } from "../../ir/tensor.ts";
import { type ConvShape, convKernel, scheduleConv } from "../../kernels/conv.ts";
import {
  convWeightElements,
  packConvKernel,
  packConvWeights,
  packDepthwiseKernel,
  packDepthwiseWeights,
  type WeightStrides,
  weightAt,
} from "../../kernels/conv_weights.ts";
import { convertKernel } from "../../kernels/convert.ts";
import { type SlideShape, slideKernel } from "../../kernels/slide.ts";
import type { WindowAxis } from "../../kernels/window.ts";
import { scheduleWinograd, type WinogradShape, winogradKernel } from "../../kernels/winograd.ts";
import { packWinogradKernel, packWinogradWeights, winogradWeightElements } from "../../kernels/winograd_weights.ts";
import type { ConvGeometry } from "../../ops/conv.ts";
import { constantOf } from "../../ops/source.ts";
import { type AnchorTask, constantPlace, type KernelCall, type Place, packedPlace, sharedKernel, tailPlaces, valuePlace } from "../step.ts";

/** Float32 numbers of a constant; undefined when it is computed at run time. */
export function constantFloats(value: Value | null | undefined): Float32Array | undefined {
  const tensor: TensorData | undefined = constantOf(value);
  if (!tensor) return undefined;
  return tensor.data instanceof Float32Array ? tensor.data : Float32Array.from(toNumbers(tensor));
}

/** One spatial axis of a convolution. */
export interface Axis {
  readonly input: number;
  readonly output: number;
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  readonly pad: number;
}

const unitAxis: Axis = { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, pad: 0 };

/** The two spatial axes of a geometry with one or two; null: it has more. */
export function axesOf(g: ConvGeometry): readonly [Axis, Axis] | null {
  const axes = g.input.map((input, i) => ({
    input,
    output: g.output[i],
    kernel: g.kernel[i],
    stride: g.strides[i],
    dilation: g.dilations[i],
    pad: g.padsBegin[i],
  }));
  if (axes.length > 2) return null;
  return axes.length === 2 ? [axes[0], axes[1]] : [unitAxis, axes[0]];
}

export const windowAxis = (a: Axis): WindowAxis => ({
  outputs: a.output,
  inputs: a.input,
  taps: a.kernel,
  stride: a.stride,
  offset: -a.pad,
  dilation: a.dilation,
});

/** A convolution with two spatial axes on images with channels last. */
export interface ConvTask {
  readonly task: AnchorTask;
  readonly geometry: ConvGeometry;
  readonly input: Value;
  readonly weights: Value;
  /** Their numbers, where they are known. */
  readonly constants: Float32Array | undefined;
  readonly bias: Value | null;
  readonly y: Axis;
  readonly x: Axis;
  /** Where kernels find the input, the weights and the bias. */
  readonly places: { readonly input: Place; readonly weights: Place; readonly bias: readonly Place[] };
}

export function convTask(task: AnchorTask, geometry: ConvGeometry): ConvTask | null {
  const [input, weights, bias] = task.inputs as readonly [Value, Value, (Value | null)?]; // checked by infer
  const axes = axesOf(geometry);
  if (!axes || !isKernelFloat(input.type.dtype) || geometry.layout !== "NHWC") return null;
  if (elementCount(task.output.type.shape) === 0 || elementCount(input.type.shape) === 0) return null;
  const places = { input: valuePlace(input), weights: valuePlace(weights), bias: biasPlaces(bias ?? null) };
  return { task, geometry, input, weights, constants: constantFloats(weights), bias: bias ?? null, y: axes[0], x: axes[1], places };
}

/** The shape in words of two bf16, where the target multiplies these; null elsewhere. */
export function pairedShape({ task, input }: ConvTask, shape: ConvShape): ConvShape | null {
  const { image, row, pixel, channel } = shape.input;
  if (input.type.dtype !== "bf16" || !task.target.dotsBf16 || shape.inChannels % 2 !== 0 || channel !== 1) return null;
  return {
    ...shape,
    inChannels: shape.inChannels / 2,
    input: { image: image / 2, row: row / 2, pixel: pixel / 2, channel },
    isPaired: true,
  };
}

/** A direct convolution on words of two bf16. Computed weights are packed from float32 copies: they lie far apart. */
export function pairedCalls(c: ConvTask, shape: ConvShape, strides: WeightStrides): KernelCall[] {
  const calls: KernelCall[] = [];
  const weights = c.constants ? c.places.weights : floatPlace(c.task, c.weights, CONVERTED + 1, calls);
  const bias = floatBias(c, calls);
  return [...calls, ...directCalls({ ...c, places: { ...c.places, weights, bias } }, shape, strides, c.places.input)];
}

/** Whether kernels read it. */
export const isKernelFloat = (dtype: DType): boolean => dtype === "f32" || dtype === "f16" || dtype === "bf16";

/** Where a value is as float32: kernels that convert it first are added to `calls`. Ids tell the temporaries of a step apart. */
export function floatPlace(task: AnchorTask, value: Value, id: number, calls: KernelCall[]): Place {
  const { dtype, shape } = value.type;
  if (dtype !== "f16" && dtype !== "bf16") return valuePlace(value);
  const count = elementCount(shape);
  const place: Place = { k: "temporary", id, bytes: 4 * count };
  const kernel = sharedKernel(task, `convert ${dtype} ${count}`, () =>
    convertKernel(`${task.name}_convert`, dtype, count, task.target, task.threads),
  );
  calls.push({ kernel, places: [valuePlace(value), place] });
  return place;
}

/** The calls of `implement` for the convolution on float32 copies of its operands. */
export function inFloat32(c: ConvTask, implement: (c: ConvTask) => readonly KernelCall[] | null): readonly KernelCall[] | null {
  if (c.input.type.dtype === "f32") return implement(c);
  const { task, input, weights, constants } = c;
  const calls: KernelCall[] = [];
  const places = {
    input: floatPlace(task, input, CONVERTED, calls),
    weights: constants ? valuePlace(weights) : floatPlace(task, weights, CONVERTED + 1, calls),
    bias: floatBias(c, calls),
  };
  const rest = implement({ ...c, places });
  return rest && [...calls, ...rest];
}
/** Temporaries with smaller ids are the kernels' own. */
export const CONVERTED = 8;

/** The bias as float32. */
export const floatBias = ({ task, bias }: ConvTask, calls: KernelCall[]): readonly Place[] =>
  bias && !constantFloats(bias) ? [floatPlace(task, bias, CONVERTED + 2, calls)] : biasPlaces(bias);

/** The bias as a parameter. */
function biasPlaces(bias: Value | null): Place[] {
  if (!bias) return [];
  const constants = constantFloats(bias);
  return [constants ? constantPlace(constants) : valuePlace(bias)];
}

/** How weights are brought into a kernel's order. */
export interface Packing {
  /** Equal for weights that are packed alike. */
  readonly key: string;
  /** Packed ones. */
  readonly elements: number;
  /** Packs constants. */
  fill(weights: Float32Array, out: Float32Array): void;
  /** Packs what is computed. Buffers: weights, packed weights. */
  kernel(name: string): Kernel;
}

/** A kernel that reads packed weights, after the one that packs them where they are not constant. */
export function withWeights({ task, places, constants }: ConvTask, packing: Packing, call: (packed: Place) => KernelCall): KernelCall[] {
  if (constants) return [call(packedPlace((out) => packing.fill(constants, out)))];
  const packed: Place = { k: "temporary", id: 0, bytes: 4 * packing.elements };
  const kernel = sharedKernel(task, `pack ${packing.key}`, () => packing.kernel(`${task.name}_pack`));
  return [{ kernel, places: [places.weights, packed] }, call(packed)];
}

/** Windows on both axes, and where in the output their results go. */
export type ConvWindows = Pick<ConvShape, "y" | "x" | "output">;

/** Strides of images with channels last. */
export const rowsOfPixels = ({ inChannels, input }: ConvGeometry): ConvShape["input"] => {
  const [rows, width] = input.length === 1 ? [1, input[0]] : input;
  return { image: inChannels * rows * width, row: width * inChannels, pixel: inChannels, channel: 1 };
};

export const directShape = ({ geometry, bias }: ConvTask, windows: ConvWindows, input = rowsOfPixels(geometry)): ConvShape => ({
  batch: geometry.batch,
  groups: geometry.group,
  inChannels: geometry.inChannels / geometry.group,
  outChannels: geometry.outChannels / geometry.group,
  ...windows,
  input,
  hasBias: bias !== null,
});

/** A direct convolution. */
export function directCalls(c: ConvTask, shape: ConvShape, strides: WeightStrides, source: Place): KernelCall[] {
  const { target, threads, epilogue, name, epilogueKey } = c.task;
  const tile = scheduleConv(shape, target);
  const kernel = sharedKernel(c.task, `conv ${JSON.stringify(shape)} ${epilogueKey}`, () =>
    convKernel(name, shape, tile, epilogue, target, threads),
  );
  const elements = elementCount(c.weights.type.shape);
  const packing: Packing = {
    key: `conv ${JSON.stringify([elements, strides, shape])}`,
    elements: convWeightElements(shape, target),
    fill: (weights, out) => packConvWeights(weights, weightAt(strides), shape, tile, target, out),
    kernel: (packName) => packConvKernel(packName, elements, strides, shape, tile, target, threads),
  };
  return withWeights(c, packing, (packed) => ({ kernel, places: [source, packed, ...c.places.bias, ...tailPlaces(c.task)] }));
}

/** Each channel with weights of its own: the group of the strides. */
export function depthwiseCalls(c: ConvTask, windows: ConvWindows, strides: WeightStrides): KernelCall[] {
  const { target, threads, epilogue, name, epilogueKey } = c.task;
  const { batch, inChannels } = c.geometry;
  const shape: SlideShape = { batch, channels: inChannels, combine: "multiply", hasBias: c.bias !== null, ...windows };
  const kernel = sharedKernel(c.task, `slide ${JSON.stringify(shape)} ${epilogueKey}`, () =>
    slideKernel(name, shape, epilogue, target, threads),
  );
  const elements = elementCount(c.weights.type.shape);
  const packing: Packing = {
    key: `slide ${JSON.stringify([elements, strides, shape])}`,
    elements: inChannels * shape.y.taps * shape.x.taps,
    fill: (weights, out) => packDepthwiseWeights(weights, weightAt(strides), shape, out),
    kernel: (packName) => packDepthwiseKernel(packName, elements, strides, shape, target, threads),
  };
  return withWeights(c, packing, (packed) => ({
    kernel,
    places: [c.places.input, packed, ...c.places.bias, ...tailPlaces(c.task)],
  }));
}

/** 3×3 windows of stride 1 by Winograd's algorithm where it pays; null elsewhere. */
export function winogradCalls(c: ConvTask, pad: WinogradShape["pad"], strides: WeightStrides): KernelCall[] | null {
  const { geometry, y, x } = c;
  const isFitting = [y, x].every((a) => a.kernel === 3 && a.stride === 1 && a.dilation === 1) && pad.y >= 0 && pad.x >= 0;
  if (geometry.group !== 1 || !isFitting) return null;
  const { batch, inChannels, outChannels } = geometry;
  const input = { height: y.input, width: x.input };
  const output = { height: y.output, width: x.output };
  const shape: WinogradShape = { batch, inChannels, outChannels, input, output, pad, hasBias: c.bias !== null };
  const { target, threads, epilogue, name, epilogueKey } = c.task;
  const schedule = scheduleWinograd(shape, target);
  if (!schedule) return null;
  const kernel = sharedKernel(c.task, `winograd ${JSON.stringify(shape)} ${epilogueKey}`, () =>
    winogradKernel(name, shape, schedule, epilogue, target, threads),
  );
  const elements = elementCount(c.weights.type.shape);
  const packing: Packing = {
    key: `winograd ${JSON.stringify([elements, strides, shape])}`,
    elements: winogradWeightElements(shape, target),
    fill: (weights, out) => packWinogradWeights(weights, strides, shape, schedule, target, out),
    kernel: (packName) => packWinogradKernel(packName, elements, strides, shape, schedule, target, threads),
  };
  return withWeights(c, packing, (packed) => ({
    kernel,
    places: [c.places.input, packed, ...c.places.bias, ...tailPlaces(c.task)],
  }));
}
