// Pruning: which weights go, how the others make up for them, and masks that hold while a network learns.
export { type Allotted, allocateKept } from "./allocate.ts";
export { type Batch, fedProducts, inputProducts, inputSquares, type Sums } from "./calibrate.ts";
export { bestOfRandom, type CandidateOptions, type Chosen } from "./candidates.ts";
export { cholesky, inverseFactor, invertLower, solveCholesky } from "./cholesky.ts";
export { type Disagreement, disagreement } from "./disagreement.ts";
export { type DistillOptions, distill } from "./distill.ts";
export { type Block, type Grain, isPattern, type NOfM, parseGrain } from "./grains.ts";
export { type Layer, type LayerUse, layersOf, layerUses, matrixOf, weightFrom } from "./layer.ts";
export { fitOnMask, type Moments, outputError, reconstructionError } from "./least_squares.ts";
export {
  countKept,
  keepLargest,
  type Mask,
  SCOPES,
  type Scope,
  type Scored,
  type Selection,
  selectMasks,
} from "./mask.ts";
export { type GradualOptions, GradualPruner, type MaskOptions, Masks } from "./masked.ts";
export { predictedCost } from "./predicted_cost.ts";
export {
  type LayerCost,
  type LayerReport,
  type LayerSize,
  METHODS,
  type Method,
  type PruneOptions,
  type PruneResult,
  pruneOnnx,
} from "./prune_onnx.ts";
export { type CubicSchedule, cubicSparsity } from "./schedule.ts";
export { lampScores, magnitudes, wandaScores } from "./scores.ts";
export { damped, type Pruned, type SparseGptOptions, sparseGpt } from "./sparse_gpt.ts";
export { type WhileLearning, whileLearning } from "./while_learning.ts";
