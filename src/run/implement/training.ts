// Kernels of operators that only training has: gradients, dropout's random words, sparse layers that learn.
import type { Node, Op } from "../../ir/graph.ts";
import { ConvWeightGrad } from "../../ops/conv_weight_grad.ts";
import { hasTiledWindows, MaxPoolGrad } from "../../ops/max_pool_grad.ts";
import { RandomWords } from "../../ops/random_words.ts";
import { ScatterRows } from "../../ops/scatter_rows.ts";
import { SparseMatMul, SparseSampled } from "../../ops/sparse_matmul.ts";
import type { Implementation } from "../step.ts";
import { implementConvWeightGrad } from "./conv_weight_grad.ts";
import { implementMaxPoolGrad, implementScatterRows } from "./gradient.ts";
import { implementRandomWords } from "./random_words.ts";
import { implementSparseMatMul, implementSparseSampled } from "./sparse_layer.ts";

type Rows = readonly (readonly [Op, Implementation])[];

/** Operators whose kernels apply an epilogue. */
export const TRAINING_ANCHORS: Rows = [
  [ConvWeightGrad, implementConvWeightGrad],
  [MaxPoolGrad, implementMaxPoolGrad],
  [SparseMatMul, implementSparseMatMul],
];

/** Operators with a kernel that stands alone. */
export const TRAINING_ALONE: Rows = [
  [ScatterRows, implementScatterRows],
  [RandomWords, implementRandomWords],
  [SparseSampled, implementSparseSampled],
];

/** Whether a group may form around a node of the tables, by its attributes. */
export const canAnchor = (node: Node): boolean => node.op !== MaxPoolGrad || hasTiledWindows(node);
