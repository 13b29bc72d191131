// Gradients of a convolution's weights to SIMT products: what is summed over are the image's positions.
import type { Value } from "../../ir/graph.ts";
import { addIndex, divIndex, modIndex, mulIndex, unlinearIndex } from "../../ir/index_expr.ts";
import { elementCount } from "../../ir/tensor.ts";
import { type Image, turnedWindow } from "../../kernels/simt/image_operand.ts";
import { stridedOperand } from "../../kernels/simt/operand.ts";
import { convWeightGradGeometry } from "../../ops/conv_weight_grad.ts";
import { valuePlace } from "../step.ts";
import { isFloat, LEAST_CHANNELS, LEAST_DEPTH, slidingOf, taskNode } from "./implement_conv.ts";
import { type GpuImplementation, productCalls } from "./product_calls.ts";

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
