// Softmax, its logarithm and LayerNormalization to kernels that work line by line.
import type { Node, Value } from "../../ir/graph.ts";
import { elementCount } from "../../ir/tensor.ts";
import { layerNormKernel } from "../../kernels/normalization.ts";
import { softmaxKernel } from "../../kernels/softmax.ts";
import { layerNormGeometry } from "../../ops/norm.ts";
import { LogSoftmax, softmaxGeometry } from "../../ops/softmax.ts";
import { type Implementation, sharedKernel, valuePlace } from "../step.ts";

const isFloatLine = (node: Node): boolean =>
  node.inputs.every((v) => !v || v.type.dtype === "f32") && elementCount(node.outputs[0].type.shape) > 0;

export const implementSoftmax: Implementation = (task) => {
  const { name, anchor, inputs, output, target, threads } = task;
  if (!isFloatLine(anchor)) return null;
  const { outer, size, inner } = softmaxGeometry(anchor);
  const shape = { outer, size, inner, isLog: anchor.op === LogSoftmax };
  const kernel = sharedKernel(task, `softmax ${JSON.stringify(shape)}`, () => softmaxKernel(name, shape, target, threads));
  return [{ kernel, places: [valuePlace(inputs[0] as Value), valuePlace(output)] }];
};

export const implementLayerNormalization: Implementation = (task) => {
  const { name, anchor, inputs, output, target, threads } = task;
  const { axis, epsilon, with_stats: hasStats } = anchor.attrs as { axis: number; epsilon: number; with_stats: number };
  const { rows, size } = layerNormGeometry(output.type.shape, axis);
  const fits = inputs.slice(1).every((v) => !v || elementCount(v.type.shape) === size);
  if (!isFloatLine(anchor) || hasStats || !fits) return null;
  const shape = { rows, size, epsilon, hasBias: inputs[2] != null };
  const kernel = sharedKernel(task, `layernorm ${JSON.stringify(shape)}`, () => layerNormKernel(name, shape, target, threads));
  const reads = inputs.filter((v): v is Value => v !== null);
  return [{ kernel, places: [...reads, output].map(valuePlace) }];
};
