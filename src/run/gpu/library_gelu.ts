// Products with Gelu by tanh, or its slope, to calls of the device's library, which computes both at once.
import type { Node, Value } from "../../ir/graph.ts";
import type { GpuKernel, LibraryTail } from "../../ir/library_kernel.ts";
import type { SimtTarget } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { productGeometry } from "../../ops/matmul.ts";
import { type KernelCall, valuePlace } from "../step.ts";
import type { DirectImplementation } from "./direct.ts";
import { biasCalls, fitsTail, LEAST_FLOPS, libraryProduct } from "./library_gemm.ts";

/** Whether a network's products in 16 bits may take gradients of Gelu into them. */
export const fitsGeluGrad = (_: Node, narrow: string | undefined, { hasGemm }: SimtTarget): boolean =>
  hasGemm === true && narrow !== undefined;

/** Whether the library computes a GeluProduct or GeluGradProduct: of 16 bits, and not a small one. */
export function fitsGeluProduct({ inputs: [a, b] }: Node, _: unknown, { hasGemm }: SimtTarget): boolean {
  const { dtype, shape } = a!.type; // checked by infer, as b is
  const { m, n, k, batch } = productGeometry("MatMul", shape, b!.type.shape);
  const isHalf = dtype === "bf16" || dtype === "f16";
  return hasGemm === true && isHalf && fitsTail(n) && k % 8 === 0 && 2 * elementCount(batch) * m * n * k >= LEAST_FLOPS;
}

const tail = (gelu: LibraryTail["gelu"], hasBias: boolean): LibraryTail => ({ hasBias, hasAdded: false, isRelu: false, gelu });

export const geluProduct: DirectImplementation = (node, name, target, shared): readonly KernelCall<GpuKernel>[] | null => {
  const [x, w, bias] = node.inputs as readonly [Value, Value, Value]; // checked by infer
  const [y, sums] = node.outputs;
  const product = libraryProduct({ name, target, roundsF32: false }, x, w, y.type.dtype, tail("stored", true));
  if (!product) return null;
  const { place, calls } = biasCalls({ name, target, shared }, bias, y.type.dtype);
  const places = [...[product.left, product.right].map(valuePlace), place, ...[sums, y].map(valuePlace)];
  return [...calls, { kernel: product.kernel, places }];
};

export const geluGradProduct: DirectImplementation = (node, name, target) => {
  const [g, w, sums] = node.inputs as readonly [Value, Value, Value]; // checked by infer
  const [dx] = node.outputs;
  const product = libraryProduct({ name, target, roundsF32: false }, g, w, dx.type.dtype, tail("slope", false));
  return product && [{ kernel: product.kernel, places: [product.left, product.right, sums, dx].map(valuePlace) }];
};
