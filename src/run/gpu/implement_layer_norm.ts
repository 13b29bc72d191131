// LayerNormalization over the last axis, and a rounding of its result, to its kernel.
import { elementCount } from "../../ir/tensor.ts";
import { fitsLayerNorm, layerNormKernel } from "../../kernels/simt/layer_norm.ts";
import { layerNormGeometry } from "../../ops/norm.ts";
import { valuePlace } from "../step.ts";
import { isBareTail } from "./library_tail.ts";
import type { GpuImplementation } from "./product_calls.ts";

/** Null where rows do not fit into registers or are few, or more follows in the group. */
export const implementLayerNorm: GpuImplementation = ({ anchor, inputs, output, name, target, shared }) => {
  const [x, scale, bias] = inputs.map((v) => v?.type); // the first two are never absent
  const { axis, epsilon } = anchor.attrs as { readonly axis: number; readonly epsilon: number };
  const { axis: first, size: width } = layerNormGeometry(x!.shape, axis);
  const rows = elementCount(x!.shape) / width;
  const isOne = anchor.outputs.length === 1 && first === x!.shape.length - 1 && isBareTail(output);
  const isPlain = [scale, bias].every((t) => !t || (t.dtype === "f32" && elementCount(t.shape) === width));
  if (!isOne || !isPlain || !isFloat(x!.dtype) || !isFloat(output.type.dtype) || !fitsLayerNorm({ rows, width }, target)) return null;
  const shape = { rows, width, epsilon, x: x!.dtype, hasBias: bias !== undefined, out: output.type.dtype };
  const kernel = shared(`LayerNorm ${JSON.stringify(shape)}`, name, (n) => layerNormKernel(n, shape, target));
  return [{ kernel, places: [...inputs.flatMap((v) => (v ? [valuePlace(v)] : [])), valuePlace(output)] }];
};

const isFloat = (dtype: string): boolean => dtype === "f32" || dtype === "bf16" || dtype === "f16";
