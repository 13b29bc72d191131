// What training scripts import as "heddle/train": tensors and their functions, layers, optimizers, data, pruning, and the definition of a run.
export * as prune from "../compress/prune/index.ts";
export * as data from "../data/index.ts";
export { loadSafetensors } from "../formats/safetensors.ts";
export { type ErrorCode, HeddleError } from "../ir/error.ts";
export * as nn from "../nn/index.ts";
export * as optim from "../optim/index.ts";
export * from "../tensor/index.ts";
export {
  defineTraining,
  type Evaluation,
  type OptionSpec,
  type OptionSpecs,
  type OptionValues,
  type SetupContext,
  type TensorBatch,
  type Training,
  type TrainingParts,
  type TrainingSpec,
} from "./define.ts";
export type { RunEvent, RunResult, RunSettings } from "./run.ts";
export type { EpochResult, History, LossPoint } from "./saved.ts";
