// softmax(q · kᵀ) · v of files, with what is done to its scores, becomes one operator, where a device has kernels for it.
import { apply, type Graph, type Node, type Pass, rewriteGraph, type Value } from "../ir/graph.ts";
import { HeadAttention } from "../ops/head_attention.ts";
import { MaskedAttention } from "../ops/masked_attention.ts";
import { type Attended, attended } from "./attention_scores.ts";
import { usesOf } from "./uses.ts";
import { reshaped, transposed } from "./view_algebra.ts";

/** (N, H, T, d) to (N, T, H, d), and back. */
const PLACES_FIRST = [0, 2, 1, 3];
/** (N, H, d, S) to (N, S, H, d). */
const COLUMNS_LAST = [0, 3, 1, 2];

/** As one of three axes, of which the first is batch and head; a head is then all there is of an example. */
function byPlaces(x: Value, perm: readonly number[], from: string): Value {
  const { shape } = x.type;
  return transposed(shape.length === 3 ? reshaped(x, [shape[0], 1, ...shape.slice(1)], from) : x, perm, from);
}

/** Axes of size 1 in front, or behind the first of three. */
function maskOf(x: Value | null, rank: number, from: string): Value | null {
  if (!x) return null;
  const shape = [...new Array<number>(rank - x.type.shape.length).fill(1), ...x.type.shape];
  return reshaped(x, rank === 3 ? [shape[0], 1, shape[1], shape[2]] : shape, from);
}

/** Kernels that cut keys into parts are for fewer queries than matrix units have rows. */
const FEW_QUERIES = 16;

/** Operators that say the same, the one whose kernels are quicker first. */
function candidates({ q, k, v, scale, cap, seen, hidden, bias, before }: Attended, from: string): readonly Value[] {
  const rank = q.type.shape.length;
  const operands = [byPlaces(q, PLACES_FIRST, from), byPlaces(k, COLUMNS_LAST, from), byPlaces(v, PLACES_FIRST, from)];
  const [[, queries, heads, depth], [, keys, ofKeys], [, , , width]] = operands.map((x) => x.type.shape);
  const masks = [maskOf(seen, rank, from), maskOf(bias, rank, from)];
  const masked = apply(MaskedAttention, [...operands, ...masks], { scale, cap, hidden, before }, from)[0];
  const isPlain = !seen && !bias && cap === 0 && heads === ofKeys && depth === width && (before < 0 || before === keys - queries);
  const plain = isPlain ? apply(HeadAttention, operands, { scale, causal: before < 0 ? 0 : 1 }, from).slice(0, 1) : [];
  return queries > FEW_QUERIES ? [...plain, masked] : [masked, ...plain];
}

/** `keeps`: whether there are kernels for a node. Wants Softmax nodes; weights that others read stay. */
export function attention(keeps: (node: Node) => boolean): Pass {
  return {
    name: "attention",
    run(graph: Graph): Graph {
      const uses = usesOf(graph);
      return rewriteGraph(graph, (node, inputs) => {
        const found = attended(node, inputs);
        if (!found || uses.onlyUser(node.inputs[0]!) !== node) return null;
        for (const y of candidates(found, node.from))
          if (keeps(y.node)) return [reshaped(transposed(y, PLACES_FIRST, node.from), node.outputs[0].type.shape, node.from)];
        return null;
      });
    },
  };
}
