// Gradients of maxima over windows that lie side by side: the pool keeps a byte for each maximum, and what follows its gradient moves to the smaller side.
import { apply, type Graph, type Node, type Pass, rewriteGraph, type Value } from "../ir/graph.ts";
import { OPS } from "../ops/index.ts";
import { MaxPoolGrad } from "../ops/max_pool_grad.ts";
import { MaxPool } from "../ops/pool.ts";
import type { WindowAttrs } from "../ops/pool_windows.ts";
import { splitAxes } from "../ops/spatial.ts";
import { areTiles, type TileAttrs, TiledMaxPool, TiledMaxPoolGrad } from "../ops/tiled_max_pool.ts";
import { madeBy, numberOf, numbersOf, type Rule } from "./match.ts";
import { usesOf } from "./uses.ts";

const op = (name: string, inputs: readonly (Value | null)[], attrs: object, from: string): Value =>
  apply(OPS.get(name)!, inputs, attrs as Node["attrs"], from)[0]; // operators that there are

/** Of a gradient through a pool whose elements a byte can name. */
function tilesOf(node: Node): TileAttrs | null {
  const { kernel_shape, layout, ...rest } = node.attrs as unknown as WindowAttrs;
  const [x, y] = node.inputs as readonly Value[]; // checked by infer
  const isPool = y.node.op === MaxPool && y.node.inputs[0] === x && y.node.outputs.length === 1;
  const isTiled = areTiles({ kernel_shape, layout, ...rest }, splitAxes(node.op.name, x.type.shape, layout).spatial);
  return isPool && isTiled && x.type.dtype === "f32" ? { kernel_shape, layout } : null;
}

/** The pool gives bytes too, where a gradient asks for them. */
function poolRules(due: ReadonlyMap<Node, TileAttrs>): (node: Node, inputs: readonly (Value | null)[]) => readonly Value[] | null {
  return (node, inputs) => {
    const tiles = due.get(node);
    if (tiles) return apply(TiledMaxPool, inputs, tiles as unknown as Node["attrs"], node.from).slice(0, 1);
    const pool = node.op === MaxPoolGrad ? madeBy(inputs[1], TiledMaxPool.name) : undefined;
    return pool ? apply(TiledMaxPoolGrad, [inputs[2], pool.outputs[1]], pool.attrs, node.from) : null;
  };
}

/** What is asked of an element that was a maximum can be asked of the maximum: a rectifier's gradient before the pool's becomes one after it. */
const maskBefore: Rule = (node, [condition, grad, zero]) => {
  const spread = madeBy(grad, TiledMaxPoolGrad.name);
  const greater = madeBy(condition, "Greater");
  const pool = spread && madeBy(spread.inputs[1], TiledMaxPool.name);
  if (!pool || !greater || greater.inputs[0] !== pool.inputs[0] || numberOf(greater.inputs[1]) === undefined || numberOf(zero) !== 0)
    return null;
  const isPassed = op("Greater", [pool.outputs[0], greater.inputs[1]], greater.attrs, greater.from);
  const passed = op("Where", [isPassed, spread.inputs[0], zero], node.attrs, node.from);
  return apply(spread.op, [passed, spread.inputs[1]], spread.attrs, spread.from);
};

/** A sum over whole pictures sums what each window gave. */
const sumBefore: Rule = (node, [x, axes]) => {
  const spread = madeBy(x, TiledMaxPoolGrad.name);
  const over = numbersOf(axes);
  if (!spread || !over) return null;
  const rank = spread.outputs[0].type.shape.length;
  const summed = new Set(over.map((a) => (a < 0 ? a + rank : a)));
  const first = (spread.attrs as unknown as TileAttrs).layout === "NCHW" ? 2 : 1;
  const isWhole = Array.from({ length: rank - 2 }, (_, i) => first + i).every((a) => summed.has(a));
  return isWhole ? apply(node.op, [spread.inputs[0], axes], node.attrs, node.from) : null;
};

const RULES: Readonly<Record<string, Rule>> = { Where: maskBefore, ReduceSum: sumBefore };

/** Where there are kernels for it, as `keep` says. */
export const tiledPools = (keep: (node: Node) => boolean): Pass => ({
  name: "tiled pools",
  run(graph: Graph): Graph {
    const due = new Map<Node, TileAttrs>();
    for (const node of usesOf(graph).order) {
      const tiles = node.op === MaxPoolGrad ? tilesOf(node) : null;
      if (!tiles) continue;
      const pool = node.inputs[1]!.node; // checked by tilesOf
      const attrs = tiles as unknown as Node["attrs"];
      const [grad] = apply(TiledMaxPoolGrad, [node.inputs[2], apply(TiledMaxPool, pool.inputs, attrs)[1]], attrs);
      if (keep(grad.node)) due.set(pool, tiles);
    }
    if (due.size === 0) return graph;
    const pools = poolRules(due);
    return rewriteGraph(graph, (node, inputs) => pools(node, inputs) ?? RULES[node.op.name]?.(node, inputs) ?? null);
  },
});
