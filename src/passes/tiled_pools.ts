// Gradients of maxima over windows that lie side by side: the pool keeps a byte for each maximum, and what follows its gradient moves to the smaller side.
import { apply, type Graph, type Node, type Pass, rewriteGraph, type Value } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";
import { builder } from "../ops/build.ts";
import { ConvWeightGrad } from "../ops/conv_weight_grad.ts";
import { MaxPoolGrad } from "../ops/max_pool_grad.ts";
import { MaxPool } from "../ops/pool.ts";
import type { WindowAttrs } from "../ops/pool_windows.ts";
import { PooledConvWeightGrad } from "../ops/pooled_conv_weight_grad.ts";
import { splitAxes } from "../ops/spatial.ts";
import { areTiles, type TileAttrs, TiledMaxPool, type TiledMaxPoolAttrs, TiledMaxPoolGrad } from "../ops/tiled_max_pool.ts";
import { madeBy, numberOf, numbersOf, type Rule } from "./match.ts";
import { type Uses, usesOf } from "./uses.ts";

type PoolAttrs = Partial<TiledMaxPoolAttrs>;

/** Of a gradient through a pool whose elements a byte can name. */
function tilesOf(node: Node, { onlyUser }: Uses): PoolAttrs | null {
  const { kernel_shape, layout, ...rest } = node.attrs as unknown as WindowAttrs;
  const [x, y] = node.inputs as readonly Value[]; // checked by infer
  const isPool = y.node.op === MaxPool && y.node.inputs[0] === x && y.node.outputs.length === 1;
  const isTiled = areTiles({ kernel_shape, layout, ...rest }, splitAxes(node.op.name, x.type.shape, layout).spatial);
  if (!isPool || !isTiled || x.type.dtype !== "f32") return null;
  const [grad] = node.outputs;
  const user = onlyUser(grad);
  return { kernel_shape, layout, rectified: user && isRectifier(user, user.inputs, grad, x) ? 1 : 0 };
}

/** Whether a node passes `grad` on where x, of which it is the gradient, is positive. */
const isRectifier = ({ op }: Node, [condition, passed, zero]: readonly (Value | null)[], grad: Value, x: Value): boolean => {
  const greater = op.name === "Where" && passed === grad && numberOf(zero) === 0 ? madeBy(condition, "Greater") : undefined;
  return greater !== undefined && greater.inputs[0] === x && numberOf(greater.inputs[1]) === 0;
};

/** The pools that give bytes, and how: those through which each gradient can go that way. */
function duePools(graph: Graph, keep: (node: Node) => boolean): ReadonlyMap<Node, PoolAttrs> {
  const uses = usesOf(graph);
  const due = new Map<Node, PoolAttrs>();
  for (const node of uses.order) {
    const tiles = node.op === MaxPoolGrad ? tilesOf(node, uses) : null;
    if (!tiles) continue;
    const pool = node.inputs[1]!.node; // checked by tilesOf
    const [grad] = apply(TiledMaxPoolGrad, [node.inputs[2], apply(TiledMaxPool, pool.inputs, tiles)[1]], tiles);
    const rectified = Math.min(tiles.rectified!, due.get(pool)?.rectified ?? 1);
    if (keep(grad.node)) due.set(pool, { ...tiles, rectified });
  }
  return due;
}

/** A pool gives bytes, and its gradient asks for nothing else. */
const poolRule =
  (due: ReadonlyMap<Node, PoolAttrs>): Rule =>
  (node, inputs) => {
    const tiles = due.get(node);
    if (tiles) return apply(TiledMaxPool, inputs, tiles, node.from).slice(0, 1);
    const pool = node.op === MaxPoolGrad ? madeBy(inputs[1], TiledMaxPool.name) : undefined;
    return pool ? apply(TiledMaxPoolGrad, [inputs[2], pool.outputs[1]], pool.attrs, node.from) : null;
  };

/** The gradient that a pool passes on, and the pool. */
function spreadOf(grad: Value | null | undefined): { readonly spread: Node; readonly pool: Node } | undefined {
  const spread = madeBy(grad, TiledMaxPoolGrad.name);
  const pool = spread && madeBy(spread.inputs[1], TiledMaxPool.name);
  return pool && { spread, pool };
}

/** A rectifier in front of a pool that knows of it has nothing left to do. */
const rectifierRule: Rule = (node, inputs) => {
  const found = spreadOf(inputs[1]);
  const isDone = found && found.pool.attrs.rectified === 1 && isRectifier(node, inputs, found.spread.outputs[0], found.pool.inputs[0]!);
  return isDone ? found.spread.outputs : null;
};

/** A sum over whole pictures sums what each window gave. */
const sumRule: Rule = (node, [x, axes]) => {
  const found = spreadOf(x);
  const over = numbersOf(axes);
  if (!found || !over) return null;
  const { attrs, inputs, from } = found.spread;
  const { layout, kernel_shape } = attrs as unknown as TileAttrs;
  const rank = x!.type.shape.length;
  const summed = new Set(over.map((a) => (a < 0 ? a + rank : a)));
  const first = layout === "NCHW" ? 2 : 1;
  if (!kernel_shape.every((_, i) => summed.has(first + i))) return null;
  const build = builder(from);
  const [dy, places] = inputs as readonly Value[]; // checked by infer
  const isSomewhere = () => build.op("Less", [places, build.constant("u8", elementCount(kernel_shape))]);
  const given = found.pool.attrs.rectified === 1 ? build.op("Where", [isSomewhere(), dy, build.constant("f32", 0)]) : dy;
  return apply(node.op, [given, axes], node.attrs, node.from);
};

const RULES: Readonly<Record<string, Rule>> = { Where: rectifierRule, ReduceSum: sumRule };

/** Weights that are all that a spread gradient is for, as those of a first layer, take it as it was before. */
const weightRule =
  ({ onlyUser }: Uses, keep: (node: Node) => boolean): Rule =>
  (node, inputs) => {
    const spread = node.op === ConvWeightGrad ? madeBy(inputs[1], TiledMaxPoolGrad.name) : undefined;
    if (!spread || onlyUser(node.inputs[1]!) !== node) return null;
    const { kernel_shape: pool } = spread.attrs as unknown as TileAttrs;
    const [dw] = apply(PooledConvWeightGrad, [inputs[0], ...spread.inputs], { ...node.attrs, pool }, node.from);
    return keep(dw.node) ? [dw] : null;
  };

/** Where there are kernels for it, as `keep` says. */
export const tiledPools = (keep: (node: Node) => boolean): Pass => ({
  name: "tiled pools",
  run(graph: Graph): Graph {
    const due = duePools(graph, keep);
    if (due.size === 0) return graph;
    const pools = poolRule(due);
    const tiled = rewriteGraph(graph, (node, inputs) => pools(node, inputs) ?? RULES[node.op.name]?.(node, inputs) ?? null);
    return rewriteGraph(tiled, weightRule(usesOf(tiled), keep));
  },
});
