// The public interface: load a model, run it.
export type { DType, TypedArray } from "./ir/dtype.ts";
export { type ErrorCode, HeddleError } from "./ir/error.ts";
export { fromNumbers, type Shape, type TensorData, toNumbers } from "./ir/tensor.ts";
export { type LoadOptions, loadModel, type Model, type ModelValue } from "./model.ts";
