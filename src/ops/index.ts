// The operator table: every operator by its ONNX name.
import type { Op } from "../ir/graph.ts";
import { activationOps } from "./activation.ts";
import { argReduceOps } from "./arg_reduce.ts";
import { arithmeticOps } from "./arithmetic.ts";
import { attentionOps } from "./attention.ts";
import { castOps } from "./cast.ts";
import { compareOps } from "./compare.ts";
import { controlOps } from "./control.ts";
import { convOps } from "./conv.ts";
import { convTransposeOps } from "./conv_transpose.ts";
import { convWeightGradOps } from "./conv_weight_grad.ts";
import { cumulativeOps } from "./cumulative.ts";
import { depthSpaceOps } from "./depth_space.ts";
import { detOps } from "./det.ts";
import { dynamicOps } from "./dynamic.ts";
import { einsumOps } from "./einsum.ts";
import { narrowProductOps } from "./float8_product.ts";
import { fourierOps } from "./fourier.ts";
import { gatherOps } from "./gather.ts";
import { geluProductOps } from "./gelu_product.ts";
import { generateOps } from "./generate.ts";
import { gridSampleOps } from "./grid_sample.ts";
import { headAttentionOps } from "./head_attention.ts";
import { layerNormGradOps } from "./layer_norm_grad.ts";
import { logicOps } from "./logic.ts";
import { lossOps } from "./loss.ts";
import { maskedAttentionOps } from "./masked_attention.ts";
import { mathOps } from "./math.ts";
import { matmulOps } from "./matmul.ts";
import { maxPoolGradOps } from "./max_pool_grad.ts";
import { nonMaxSuppressionOps } from "./non_max_suppression.ts";
import { normOps } from "./norm.ts";
import { padOps } from "./pad.ts";
import { poolOps } from "./pool.ts";
import { poolWindowOps } from "./pool_windows.ts";
import { pooledConvWeightGradOps } from "./pooled_conv_weight_grad.ts";
import { quantizeOps } from "./quantize.ts";
import { quantizedProductOps } from "./quantized_product.ts";
import { randomOps } from "./random.ts";
import { randomWordsOps } from "./random_words.ts";
import { reduceOps } from "./reduce.ts";
import { resizeOps } from "./resize.ts";
import { rnnOps } from "./rnn.ts";
import { roiOps } from "./roi.ts";
import { rotaryEmbeddingOps } from "./rotary_embedding.ts";
import { scatterOps } from "./scatter.ts";
import { scatterRowsOps } from "./scatter_rows.ts";
import { scoreWeightsOps } from "./score_weights.ts";
import { sliceOps } from "./slice.ts";
import { softmaxOps } from "./softmax.ts";
import { sparseOps } from "./sparse_matmul.ts";
import { tfIdfOps } from "./tf_idf.ts";
import { tiledMaxPoolOps } from "./tiled_max_pool.ts";
import { topkOps } from "./topk.ts";
import { unpoolOps } from "./unpool.ts";
import { viewOps } from "./view.ts";
import { windowOps } from "./window.ts";

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
  randomOps,
  randomWordsOps,
  windowOps,
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
  attentionOps,
  rotaryEmbeddingOps,
  maskedAttentionOps,
  layerNormGradOps,
  geluProductOps,
  controlOps,
  einsumOps,
  lossOps,
  nonMaxSuppressionOps,
  quantizeOps,
  quantizedProductOps,
  narrowProductOps,
  rnnOps,
  topkOps,
  detOps,
  fourierOps,
  gridSampleOps,
  roiOps,
  tfIdfOps,
  unpoolOps,
];

/** Operators by name. */
export const OPS: ReadonlyMap<string, Op> = new Map(families.flat().map((op) => [op.name, op]));

export { evaluateGraph, evaluateNode } from "./evaluate.ts";
