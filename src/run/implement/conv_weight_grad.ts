// ConvWeightGrad and PooledConvWeightGrad to kernels: sums over all pixels, one partial sum a thread, and a kernel that adds these up into the weights' order.
import type { Value } from "../../ir/graph.ts";
import { elementCount } from "../../ir/tensor.ts";
import { scheduleWeightGradient, weightGradientKernel } from "../../kernels/conv_weight_gradient.ts";
import {
  type DepthwiseGradientShape,
  depthwiseGradientKernel,
  depthwiseSumElements,
  scheduleDepthwiseGradient,
} from "../../kernels/depthwise_weight_gradient.ts";
import { sumWeightsKernel, type WeightGradientShape, type WeightSums, weightSumElements } from "../../kernels/weight_sums.ts";
import {
  scheduleWinogradGradient,
  type WinogradGradientShape,
  winogradBackKernel,
  winogradGradientKernel,
  winogradSumElements,
} from "../../kernels/winograd_gradient.ts";
import type { ConvGeometry } from "../../ops/conv.ts";
import { convWeightGradGeometry } from "../../ops/conv_weight_grad.ts";
import { type PooledAttrs, pooledGeometry } from "../../ops/pooled_conv_weight_grad.ts";
import { type AnchorTask, type Implementation, type KernelCall, type Place, sharedKernel, tailPlaces, valuePlace } from "../step.ts";
import { axesOf, CONVERTED, floatPlace, isKernelFloat, windowAxis } from "./conv_task.ts";

/** What the convolution read, and the gradient of what it gave, as float32; behind a pool also which elements its maxima were. */
type Images = readonly Place[];

/** The shape, where kernels can; null elsewhere. */
function shapeOf(task: AnchorTask, geometry: ConvGeometry): WeightGradientShape | null {
  const axes = axesOf(geometry);
  const [x, dy] = task.inputs as readonly Value[]; // checked by infer
  if (!axes || !isKernelFloat(x.type.dtype) || geometry.layout !== "NHWC") return null;
  if ([x, dy, task.output].some((v) => elementCount(v.type.shape) === 0)) return null;
  const { batch, group, inChannels, outChannels } = geometry;
  return {
    batch,
    groups: group,
    inChannels: inChannels / group,
    outChannels: outChannels / group,
    y: windowAxis(axes[0]),
    x: windowAxis(axes[1]),
  };
}

/** A gradient behind a pool is spread out in the cache, a band at a time. */
export const implementPooledConvWeightGrad: Implementation = (task) => {
  const shape = shapeOf(task, pooledGeometry(task.anchor));
  const [x, dy, places] = task.inputs as readonly Value[]; // checked by infer
  const [py, px] = (task.anchor.attrs as unknown as PooledAttrs).pool;
  return shape && direct(task, [x, dy, places].map(valuePlace), { ...shape, pool: [py, px] });
};

export const implementConvWeightGrad: Implementation = (task) => {
  const shape = shapeOf(task, convWeightGradGeometry(task.anchor));
  if (!shape) return null;
  const [x, dy] = task.inputs as readonly Value[]; // checked by infer
  const isDepthwise = shape.inChannels === 1 && shape.outChannels === 1 && shape.groups > 1;
  const before: KernelCall[] = [];
  const images = [floatPlace(task, x, CONVERTED, before), floatPlace(task, dy, CONVERTED + 1, before)];
  const calls = isDepthwise ? depthwise(task, images, shape) : (winograd(task, images, shape) ?? direct(task, images, shape));
  return [...before, ...calls];
};

/** Each channel for itself. */
function depthwise(task: AnchorTask, images: Images, { batch, groups, y: ay, x: ax }: WeightGradientShape): KernelCall[] {
  const { target, threads, name } = task;
  const shape: DepthwiseGradientShape = { batch, channels: groups, y: ay, x: ax };
  const schedule = scheduleDepthwiseGradient(shape, target, threads);
  const kernel = sharedKernel(task, `depthwise gradient ${JSON.stringify(shape)}`, () =>
    depthwiseGradientKernel(name, shape, schedule, target, threads),
  );
  const sums: Place = { k: "temporary", id: 0, bytes: 4 * depthwiseSumElements(shape, schedule, target) };
  // As of one input channel that all see.
  const asOne: WeightGradientShape = { batch, groups: 1, inChannels: 1, outChannels: groups, y: ay, x: ax };
  const summed = { tile: { rows: 1, vectors: 1 }, slots: schedule.slots };
  return [{ kernel, places: [...images, sums] }, sumCall(task, asOne, summed, sums)];
}

function direct(task: AnchorTask, images: Images, shape: WeightGradientShape): KernelCall[] {
  const { target, threads, name } = task;
  const schedule = scheduleWeightGradient(shape, target, threads);
  const kernel = sharedKernel(task, `weight gradient ${JSON.stringify(shape)}`, () =>
    weightGradientKernel(name, shape, schedule, target, threads),
  );
  const sums: Place = { k: "temporary", id: 0, bytes: 4 * weightSumElements(shape, schedule, target) };
  return [{ kernel, places: [...images, sums] }, sumCall(task, shape, schedule, sums)];
}

/** 3×3 windows of stride 1 by Winograd's algorithm where it pays; null elsewhere. */
function winograd(task: AnchorTask, images: Images, shape: WeightGradientShape): KernelCall[] | null {
  const { batch, groups, inChannels, outChannels } = shape;
  if (groups !== 1 || [shape.y, shape.x].some((a) => a.taps !== 3 || a.stride !== 1 || a.dilation !== 1)) return null;
  const tiled: WinogradGradientShape = {
    batch,
    inChannels,
    outChannels,
    input: { height: shape.y.inputs, width: shape.x.inputs },
    output: { height: shape.y.outputs, width: shape.x.outputs },
    pad: { y: -shape.y.offset, x: -shape.x.offset },
  };
  const { target, threads, name } = task;
  const schedule = scheduleWinogradGradient(tiled, target, threads);
  if (!schedule) return null;
  const key = JSON.stringify(tiled);
  const kernel = sharedKernel(task, `winograd gradient ${key}`, () => winogradGradientKernel(name, tiled, schedule, target, threads));
  const back = sharedKernel(task, `winograd back ${key}`, () => winogradBackKernel(`${name}_back`, tiled, schedule, target, threads));
  const products: Place = { k: "temporary", id: 0, bytes: 4 * winogradSumElements(tiled, schedule, target) };
  const whole = { tile: schedule.tile, slots: 1 };
  const sums: Place = { k: "temporary", id: 1, bytes: 4 * weightSumElements(shape, whole, target) };
  return [{ kernel, places: [...images, products] }, { kernel: back, places: [products, sums] }, sumCall(task, shape, whole, sums)];
}

/** Partial sums to the weights' order, and what follows them. */
function sumCall(task: AnchorTask, shape: WeightGradientShape, schedule: WeightSums, sums: Place): KernelCall {
  const { target, threads, name, epilogue, epilogueKey } = task;
  const kernel = sharedKernel(task, `weight sum ${JSON.stringify([shape, schedule])} ${epilogueKey}`, () =>
    sumWeightsKernel(`${name}_sum`, shape, schedule, epilogue, target, threads),
  );
  return { kernel, places: [sums, ...tailPlaces(task)] };
}
