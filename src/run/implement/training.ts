// Kernels of operators that only training has: gradients, dropout's random words, sparse layers that learn.
import type { Node, Op } from "../../ir/graph.ts";
import { ConvWeightGrad } from "../../ops/conv_weight_grad.ts";
import { isSpreadInBands, PooledConvWeightGrad } from "../../ops/pooled_conv_weight_grad.ts";
import { RandomWords } from "../../ops/random_words.ts";
import { ScatterRows } from "../../ops/scatter_rows.ts";
import { SparseMatMul, SparseSampled } from "../../ops/sparse_matmul.ts";
import { hasTwoAxes, TiledMaxPool, TiledMaxPoolGrad } from "../../ops/tiled_max_pool.ts";
import type { Implementation } from "../step.ts";
import { implementConvWeightGrad, implementPooledConvWeightGrad } from "./conv_weight_grad.ts";
import { implementScatterRows, implementTiledMaxPool, implementTiledMaxPoolGrad } from "./gradient.ts";
import { implementRandomWords } from "./random_words.ts";
import { implementSparseMatMul, implementSparseSampled } from "./sparse_layer.ts";

type Rows = readonly (readonly [Op, Implementation])[];

/** Operators whose kernels apply an epilogue. */
export const TRAINING_ANCHORS: Rows = [
  [ConvWeightGrad, implementConvWeightGrad],
  [PooledConvWeightGrad, implementPooledConvWeightGrad],
  [TiledMaxPoolGrad, implementTiledMaxPoolGrad],
  [SparseMatMul, implementSparseMatMul],
];

/** Operators with a kernel that stands alone. */
export const TRAINING_ALONE: Rows = [
  [TiledMaxPool, implementTiledMaxPool],
  [ScatterRows, implementScatterRows],
  [RandomWords, implementRandomWords],
  [SparseSampled, implementSparseSampled],
];

/** Whether a group may form around a node of the tables, by its attributes. */
export function canAnchor(node: Node): boolean {
  if (node.op === PooledConvWeightGrad) return isSpreadInBands(node);
  return node.op !== TiledMaxPoolGrad || hasTwoAxes(node);
}
