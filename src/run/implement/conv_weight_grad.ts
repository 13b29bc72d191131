// ConvWeightGrad to kernels: sums over all pixels, one partial sum a thread, and a kernel that adds these up into the weights' order.
import type { Value } from "../../ir/graph.ts";
import { elementCount } from "../../ir/tensor.ts";
import {
  scheduleWeightGradient,
  sumWeightsKernel,
  type WeightGradientShape,
  weightGradientKernel,
  weightSumElements,
} from "../../kernels/conv_weight_gradient.ts";
import { convWeightGradGeometry } from "../../ops/conv_weight_grad.ts";
import { type Implementation, type Place, sharedKernel, tailPlaces, valuePlace } from "../step.ts";
import { axesOf, windowAxis } from "./conv_task.ts";

export const implementConvWeightGrad: Implementation = (task) => {
  const geometry = convWeightGradGeometry(task.anchor);
  const [x, dy] = task.inputs as readonly [Value, Value]; // checked by infer
  const axes = axesOf(geometry);
  if (!axes || x.type.dtype !== "f32" || dy.type.dtype !== "f32" || geometry.layout !== "NHWC") return null;
  if ([x, dy, task.output].some((v) => elementCount(v.type.shape) === 0)) return null;
  const { batch, group, inChannels, outChannels } = geometry;
  const { target, threads, name } = task;
  const shape: WeightGradientShape = {
    batch,
    groups: group,
    inChannels: inChannels / group,
    outChannels: outChannels / group,
    y: windowAxis(axes[0]),
    x: windowAxis(axes[1]),
  };
  const schedule = scheduleWeightGradient(shape, target, threads);
  const key = JSON.stringify(shape);
  const product = sharedKernel(task, `weight gradient ${key}`, () => weightGradientKernel(name, shape, schedule, target, threads));
  const sum = sharedKernel(task, `weight sum ${key} ${task.epilogueKey}`, () =>
    sumWeightsKernel(`${name}_sum`, shape, schedule, task.epilogue, target, threads),
  );
  const sums: Place = { k: "temporary", id: 0, bytes: 4 * weightSumElements(shape, schedule, target) };
  return [
    { kernel: product, places: [valuePlace(x), valuePlace(dy), sums] },
    { kernel: sum, places: [sums, ...tailPlaces(task)] },
  ];
};
