// The operator table: every operator by its ONNX name.
import type { Op } from "../ir/graph.ts";
import { activationOps } from "./activation.ts";
import { argReduceOps } from "./arg_reduce.ts";
import { arithmeticOps } from "./arithmetic.ts";
import { castOps } from "./cast.ts";
import { compareOps } from "./compare.ts";
import { convOps } from "./conv.ts";
import { convTransposeOps } from "./conv_transpose.ts";
import { convWeightGradOps } from "./conv_weight_grad.ts";
import { cumulativeOps } from "./cumulative.ts";
import { depthSpaceOps } from "./depth_space.ts";
import { dynamicOps } from "./dynamic.ts";
import { narrowProductOps } from "./float8_product.ts";
import { gatherOps } from "./gather.ts";
import { geluProductOps } from "./gelu_product.ts";
import { generateOps } from "./generate.ts";
import { headAttentionOps } from "./head_attention.ts";
import { layerNormGradOps } from "./layer_norm_grad.ts";
import { logicOps } from "./logic.ts";
import { maskedAttentionOps } from "./masked_attention.ts";
import { mathOps } from "./math.ts";
import { matmulOps } from "./matmul.ts";
import { maxPoolGradOps } from "./max_pool_grad.ts";
import { normOps } from "./norm.ts";
import { padOps } from "./pad.ts";
import { poolOps } from "./pool.ts";
import { poolWindowOps } from "./pool_windows.ts";
import { pooledConvWeightGradOps } from "./pooled_conv_weight_grad.ts";
import { quantizeOps } from "./quantize.ts";
import { quantizedProductOps } from "./quantized_product.ts";
import { randomWordsOps } from "./random_words.ts";
import { RARE_AT_ONCE } from "./rare_at_once.ts";
import { reduceOps } from "./reduce.ts";
import { resizeOps } from "./resize.ts";
import { scatterOps } from "./scatter.ts";
import { scatterRowsOps } from "./scatter_rows.ts";
import { scoreWeightsOps } from "./score_weights.ts";
import { sliceOps } from "./slice.ts";
import { softmaxOps } from "./softmax.ts";
import { sparseOps } from "./sparse_matmul.ts";
import { tiledMaxPoolOps } from "./tiled_max_pool.ts";
import { topkOps } from "./topk.ts";
import { viewOps } from "./view.ts";

const families: readonly (readonly Op[])[] = [
  arithmeticOps,
  mathOps,
  activationOps,
  compareOps,
  logicOps,
  castOps,
  reduceOps,
  argReduceOps,
  cumulativeOps,
  viewOps,
  sliceOps,
  padOps,
  depthSpaceOps,
  resizeOps,
  gatherOps,
  scatterOps,
  generateOps,
  dynamicOps,
  randomWordsOps,
  convOps,
  convTransposeOps,
  convWeightGradOps,
  matmulOps,
  poolOps,
  poolWindowOps,
  maxPoolGradOps,
  tiledMaxPoolOps,
  pooledConvWeightGradOps,
  scatterRowsOps,
  sparseOps,
  normOps,
  softmaxOps,
  scoreWeightsOps,
  headAttentionOps,
  maskedAttentionOps,
  layerNormGradOps,
  geluProductOps,
  quantizeOps,
  quantizedProductOps,
  narrowProductOps,
  topkOps,
  RARE_AT_ONCE,
];

const byName = new Map(families.flat().map((op) => [op.name, op]));

/** Operators by name. */
export const OPS: ReadonlyMap<string, Op> = byName;

/** Puts operators into the table that were not loaded with it. */
export function addOperators(operators: readonly Op[]): void {
  for (const op of operators) byName.set(op.name, op);
}

export { evaluateGraph, evaluateNode } from "./evaluate.ts";
