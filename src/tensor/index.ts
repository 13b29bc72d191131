// Tensors: traced TypeScript over the graph, with gradients, compiled functions and parameters.
import { compute } from "./execute.ts";
import type { Tensor } from "./tensor.ts";

export type { DType, TypedArray } from "../ir/dtype.ts";
export {
  arange,
  eye,
  fromArray,
  fromData,
  full,
  type NestedNumbers,
  ones,
  onesLike,
  tensor,
  zeros,
  zerosLike,
} from "./create.ts";
export { checkpoint, customVjp } from "./custom.ts";
export { setDevice } from "./device.ts";
export * from "./functions.ts";
export { grad, jvp, type ValueAndGrad, type ValueGradAux, valueAndGrad, vjp } from "./gradient.ts";
export { applyGraph, type GraphNames, toGraph } from "./graph.ts";
export { type JitOptions, type Jitted, jit } from "./jit.ts";
export { type Leak, type LeakCheck, leakCheck } from "./leaks.ts";
export { Parameter, type ParameterOptions } from "./parameter.ts";
export * as random from "./random.ts";
export { dropout, type Key, key } from "./random.ts";
export type { Range } from "./ranges.ts";
export type { Broadcast, Dims, MatMulShape } from "./shapes.ts";
export { type SparsePattern, sparseLinear } from "./sparse.ts";
export { type Axes, type Operand, Tensor } from "./tensor.ts";
export type { ConvOptions, ConvTransposeOptions, PerAxis, PoolOptions } from "./window_ops.ts";

/** Computes several tensors as one program. Without it each is computed when its data is first asked for. */
export async function evaluate(...tensors: readonly Tensor[]): Promise<void> {
  compute(tensors.map((t) => t.handle));
  await Promise.all(tensors.map((t) => t.tensorData()));
}
