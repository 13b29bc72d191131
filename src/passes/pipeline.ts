// All passes in the order in which they help each other: from the graph as it was read to Groups that become kernels.
import type { Graph, Node, Pass } from "../ir/graph.ts";
import { atOnce, type Pieces } from "../ir/pieces.ts";
import type { NarrowPrecision } from "../ir/precision.ts";
import { alignedProducts } from "./aligned_products.ts";
import { attention } from "./attention.ts";
import { cse } from "./cse.ts";
import { expand } from "./expand.ts";
import { factor } from "./factor.ts";
import { flattened } from "./flattened.ts";
import { float8Weights, narrowProducts } from "./float8_products.ts";
import { fold } from "./fold.ts";
import { type FuseOptions, fuse } from "./fuse.ts";
import { gelu } from "./gelu.ts";
import { geluProducts } from "./gelu_products.ts";
import { hardSwish } from "./hard_swish.ts";
import { lateWidening } from "./late_widening.ts";
import { layerNorm } from "./layer_norm.ts";
import { layerNormGradients } from "./layer_norm_gradients.ts";
import { layout } from "./layout.ts";
import type { LayoutCosts } from "./layout_plan.ts";
import { mixedPrecision } from "./mixed_precision.ts";
import { normalizationFolding } from "./normalization_folding.ts";
import { paddedChannels } from "./padded_channels.ts";
import { pickedClasses } from "./picked_classes.ts";
import { simplify } from "./simplify.ts";
import { softmax } from "./softmax.ts";
import { tiledPools } from "./tiled_pools.ts";

export interface OptimizeOptions extends FuseOptions {
  /** Nodes besides anchors that are not expanded, since there are kernels for them. */
  readonly keeps?: (node: Node) => boolean;
  /** Channels innermost; default true. */
  readonly layout?: boolean;
  /** Of layouts; default: operators that prefer channels innermost get them so, whatever it costs. */
  readonly layoutCosts?: LayoutCosts;
  /** Default: all as the graph has it. */
  readonly precision?: NarrowPrecision;
  /** Products with known weights multiply float8 numbers where there is a kernel for it. */
  readonly multipliesFloat8?: boolean;
  /** With a precision: what contractions read is stored in its 16 bits only. */
  readonly storesNarrow?: boolean;
  /** Called after each pass, with what it made and how long it took. */
  readonly onPass?: (name: string, graph: Graph, ms: number) => void;
}

/** The passes that optimize runs. */
function passesOf(options: OptimizeOptions = {}): readonly Pass[] {
  const { layout: isLayout = true, layoutCosts, anchors, keeps, rereads, precision, multipliesFloat8, storesNarrow } = options;
  const keep = (node: Node) => (anchors?.(node) ?? false) || (keeps?.(node) ?? false);
  return [
    ...(keeps ? narrowProducts(keeps) : []),
    fold, // shape arithmetic
    tiledPools(keep),
    expand(keep),
    fold,
    simplify,
    cse, // patterns compare values by identity
    ...[layerNorm, softmax, gelu, hardSwish, factor, pickedClasses],
    ...(keeps ? [attention(keeps)] : []),
    normalizationFolding,
    ...(keeps && multipliesFloat8 ? [float8Weights(keeps)] : []),
    ...(precision ? [mixedPrecision(precision, storesNarrow)] : []),
    ...(precision && rereads ? [lateWidening, alignedProducts, paddedChannels()] : []),
    ...(keeps ? [geluProducts(keeps), layerNormGradients(keeps)] : []),
    ...(isLayout ? [layout(layoutCosts)] : []),
    simplify,
    flattened,
    fold,
    cse,
    fuse({ ...(anchors && { anchors }), rereads }),
  ];
}

/** The graph that is compiled: the same outputs, from fewer nodes. */
export const optimize = (graph: Graph, options: OptimizeOptions = {}): Graph => atOnce(optimizeInPieces(graph, options));

export function* optimizeInPieces(graph: Graph, options: OptimizeOptions = {}): Pieces<Graph> {
  let result = graph;
  for (const pass of passesOf(options)) {
    const start = performance.now();
    result = pass.pieces ? yield* pass.pieces(result) : pass.run(result);
    options.onPass?.(pass.name, result, performance.now() - start);
    yield;
  }
  return result;
}
