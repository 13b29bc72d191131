// LayerNormGrad to its kernel.
import type { Node } from "../../ir/graph.ts";
import type { SimtTarget } from "../../ir/simt.ts";
import { fitsLayerNormGradient, layerNormGradientKernel } from "../../kernels/simt/layer_norm_gradient.ts";
import { layerNormGradGeometry } from "../../ops/layer_norm_grad.ts";
import { valuePlace } from "../step.ts";
import type { DirectImplementation } from "./direct.ts";

/** Whether there is a kernel: rows fit into registers, and the target has the types and memory. */
export function fitsLayerNormGrad(node: Node, _narrow: unknown, target: SimtTarget): boolean {
  const { width, rows } = layerNormGradGeometry(node);
  const [x, scale] = node.inputs.map((v) => v!.type.dtype); // checked by infer
  const isFloat = x === "f32" && scale === "f32" && node.inputs.every((v) => v && v.type.dtype !== "f64");
  return isFloat && rows > 0 && fitsLayerNormGradient({ width }, target);
}

export const layerNormGrad: DirectImplementation = (node, name, target, shared) => {
  if (!fitsLayerNormGrad(node, undefined, target)) return null;
  const { rows, width, parts, epsilon } = layerNormGradGeometry(node);
  const [, , dy, added] = node.inputs.map((v) => v!.type.dtype); // checked by infer
  const copy = node.outputs[3]?.type.dtype ?? null;
  const shape = { rows, width, parts, epsilon, dy, isAdded: added !== undefined, copy };
  const kernel = shared(`LayerNormGrad ${JSON.stringify(shape)}`, name, (n) => layerNormGradientKernel(n, shape, target));
  return [{ kernel, places: [...node.inputs.map((v) => v!), ...node.outputs].map(valuePlace) }];
};
