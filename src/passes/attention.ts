// softmax(q · kᵀ) · v of files becomes HeadAttention, where a device has kernels for it.
import { apply, type Graph, type Node, type Pass, rewriteGraph, type Value } from "../ir/graph.ts";
import { HeadAttention } from "../ops/head_attention.ts";
import { OPS } from "../ops/index.ts";
import { madeBy, numberOf, plusNumber } from "./match.ts";
import { usesOf } from "./uses.ts";

/** (N, H, T, d) to (N, T, H, d), and back. */
const PLACES_FIRST = [0, 2, 1, 3];
/** (N, H, d, S) to (N, S, H, d). */
const COLUMNS_LAST = [0, 3, 1, 2];

const turned = (x: Value, perm: readonly number[], from: string): Value => apply(OPS.get("Transpose")!, [x], { perm }, from)[0];

/** Scores, and the number that they are multiplied by. */
function scaledBy(scores: Value): { readonly x: Value; readonly scale: number } {
  const product = plusNumber(scores, "Mul");
  if (product) return { x: product.x, scale: product.number };
  const quotient = madeBy(scores, "Div");
  const divisor = numberOf(quotient?.inputs[1]);
  return quotient && divisor ? { x: quotient.inputs[0]!, scale: 1 / divisor } : { x: scores, scale: 1 };
}

/** Operands of the node whose weights are a softmax of scores of four axes. */
function attended(node: Node, [weights, v]: readonly (Value | null)[]) {
  const softmax = node.op.name === "MatMul" ? madeBy(weights, "Softmax") : undefined;
  const axis = softmax && (softmax.attrs as { readonly axis: number }).axis;
  if (!softmax || !v || v.type.shape.length !== 4 || (axis !== 3 && axis !== -1)) return null;
  const { x, scale } = scaledBy(softmax.inputs[0]!);
  const scores = madeBy(x, "MatMul");
  const [q, k] = scores?.inputs ?? [];
  if (!q || !k || scale <= 0) return null;
  const [a, b, c] = [q, k, v].map(({ type: { shape } }) => shape);
  const isSame = a.length === 4 && b.length === 4 && [b, c].every((s) => s[0] === a[0] && s[1] === a[1]);
  return isSame && b[2] === a[3] && c[2] === b[3] && c[3] === a[3] ? { q, k, v, scale } : null;
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
        const { q, k, v, scale } = found;
        const { from } = node;
        const operands = [turned(q, PLACES_FIRST, from), turned(k, COLUMNS_LAST, from), turned(v, PLACES_FIRST, from)];
        const [y] = apply(HeadAttention, operands, { scale }, from);
        return keeps(y.node) ? [turned(y, PLACES_FIRST, from)] : null;
      });
    },
  };
}
