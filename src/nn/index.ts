// Layers, losses and initialisers, named as in PyTorch.
export { type AttentionOptions, attention, MultiheadAttention, type MultiheadAttentionOptions } from "./attention.ts";
export { BatchNorm1d, BatchNorm2d, BatchNorm3d, type BatchNormOptions } from "./batch_norm.ts";
export { Conv1d, Conv2d, Conv3d, type ConvLayerOptions, ConvTranspose2d, type ConvTransposeLayerOptions } from "./conv.ts";
export { Dropout } from "./dropout.ts";
export { Embedding, type EmbeddingOptions } from "./embedding.ts";
export { type ImportOptions, importModule, OnnxModule } from "./from_onnx.ts";
export * as init from "./init.ts";
export { Linear, type LinearOptions, linear } from "./linear.ts";
export {
  bce,
  bceWithLogits,
  type CrossEntropyOptions,
  crossEntropy,
  huber,
  klDivergence,
  l1,
  mse,
  type Reduction,
} from "./losses.ts";
export { type LoadOptions, type Member, Module, type StateDict } from "./module.ts";
export { GroupNorm, LayerNorm, type NormOptions, RMSNorm } from "./norm.ts";
export { drawKeys, type Randomness, RandomStream } from "./random_stream.ts";
export { GRU, LSTM, type RecurrentOptions, type RecurrentOutput } from "./recurrent.ts";
export {
  AvgPool,
  ELU,
  Flatten,
  GELU,
  GlobalAvgPool,
  Identity,
  type Layer,
  LeakyReLU,
  MaxPool,
  ReLU,
  Sequential,
  Sigmoid,
  SiLU,
  Softmax,
  Softplus,
  Tanh,
} from "./sequential.ts";
export { SparseLinear, type SparseLinearOptions } from "./sparse_linear.ts";
export { type ExportModuleOptions, exportModule } from "./to_onnx.ts";
export { TransformerDecoderLayer, TransformerEncoderLayer, type TransformerLayerOptions } from "./transformer.ts";
