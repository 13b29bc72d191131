// The public interface in a browser: load a model from an address or a file, run it on WebAssembly or WebGPU, time its nodes.
export type { DType, TypedArray } from "../ir/dtype.ts";
export { type ErrorCode, HeddleError } from "../ir/error.ts";
export { fromNumbers, type Shape, type TensorData, toNumbers } from "../ir/tensor.ts";
export type { ModelValue } from "../model_inputs.ts";
export type { Peaks, WebDeviceOptions as LoadOptions } from "./device.ts";
export { loadModel, type Model, type NodeTime } from "./model.ts";
export type { WebSource as Source } from "./source.ts";
