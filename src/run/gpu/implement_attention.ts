// HeadAttention and its gradient to kernels on matrix units: which shapes they are for, where heads lie, tiles.
import type { Node, Value } from "../../ir/graph.ts";
import type { NarrowPrecision } from "../../ir/precision.ts";
import type { SimtTarget } from "../../ir/simt.ts";
import { type AttentionSchedule, type AttentionShape, attentionBytes, attentionKernel } from "../../kernels/simt/attention.ts";
import { gradientBytes, keyGradientKernel, queryGradientKernel } from "../../kernels/simt/attention_gradient.ts";
import type { HeadView } from "../../kernels/simt/head_tiles.ts";
import { type AttentionGeometry, attentionGeometry } from "../../ops/head_attention.ts";
import { type Place, valuePlace } from "../step.ts";
import type { DirectImplementation } from "./direct.ts";

const MOST_DEPTH = 128;
/** Sums of deeper heads leave a subgroup registers for half as many rows. */
const DEEP = 64;

/** Whether there are kernels for a node whose operands have, or will have, 16 bits. */
export function fitsAttention(node: Node, narrow: NarrowPrecision | undefined, target: SimtTarget): boolean {
  const g = attentionGeometry(node);
  const dtype = g.dtype === "f32" ? narrow : g.dtype;
  if ((dtype !== "f16" && dtype !== "bf16") || g.scale <= 0) return false;
  const shape = shapeOf(g, dtype);
  return fitsFragments(shape, target) && gradientBytes(shape, scheduleOf(shape, target)) <= target.sharedBytes;
}

/** Whether matrix units do attention of this shape in one kernel. */
export function fitsFragments(shape: AttentionShape, target: SimtTarget): boolean {
  const { batch, heads, queries, keys, depth, dtype } = shape;
  const isFragment = target.opensFragments && target.fragments.includes(dtype) && depth % 16 === 0 && depth <= MOST_DEPTH;
  if (!isFragment || batch * heads * queries * keys === 0) return false;
  return attentionBytes(shape, scheduleOf(shape, target)) <= target.sharedBytes;
}

const shapeOf = ({ batch, heads, queries, keys, depth, causal, scale }: AttentionGeometry, dtype: "f16" | "bf16"): AttentionShape => ({
  dtype,
  batch,
  heads,
  queries,
  keys,
  depth,
  isCausal: causal === 1,
  scale,
});

export function scheduleOf({ batch, heads, queries, depth }: AttentionShape, { units = 0 }: SimtTarget): AttentionSchedule {
  const large = { rows: 32, subgroups: 4, tile: 64 };
  const groups = Math.ceil(queries / (large.rows * large.subgroups)) * batch * heads;
  return depth > DEEP || groups < units ? { ...large, rows: 16 } : large;
}

/** Part `part` of `parts` of a tensor (N, places, parts · H, d). */
function viewOf({ dtype, batch, heads, depth }: AttentionShape, places: number, part = 0, parts = 1): HeadView {
  const place = parts * heads * depth;
  return { dtype, elements: batch * places * place, from: part * heads * depth, batch: places * place, head: depth, place };
}

/** What a node's kernels have in common. */
function taskOf(node: Node, target: SimtTarget) {
  const g = attentionGeometry(node);
  const shape = shapeOf(g, g.dtype as "f16" | "bf16"); // as fitsAttention has seen
  const { queries, keys } = shape;
  const of = (i: number): HeadView => (g.isPacked ? viewOf(shape, queries, i, 3) : viewOf(shape, i === 0 ? queries : keys));
  const ofResults = viewOf(shape, queries);
  return { shape, schedule: scheduleOf(shape, target), views: { q: of(0), k: of(1), v: of(2) }, ofResults, key: JSON.stringify(g) };
}

/** Of queries, keys and values, in one value or three. */
const placesOf = (values: readonly (Value | null)[]): readonly Place[] =>
  [0, 1, 2].map((i) => valuePlace(values[values.length === 1 ? 0 : i]!)); // checked by infer

export const headAttention: DirectImplementation = (node, name, target, shared) => {
  if (!fitsAttention(node, undefined, target)) return null;
  const { shape, schedule, views, ofResults, key } = taskOf(node, target);
  const kernel = shared(`HeadAttention ${key}`, name, (n) => attentionKernel(n, shape, { ...views, out: ofResults }, schedule, target));
  return [{ kernel, places: [...placesOf(node.inputs), ...node.outputs.map(valuePlace)] }];
};

export const headAttentionGrad: DirectImplementation = (node, name, target, shared) => {
  if (!fitsAttention(node, undefined, target)) return null;
  const { shape, schedule, views, ofResults, key } = taskOf(node, target);
  const [logs, dy, y, ...operands] = node.inputs.map((v) => v!); // checked by infer
  const all = { ...views, y: ofResults, dy: ofResults, dq: views.q, dk: views.k, dv: views.v };
  const first = shared(`HeadAttentionGrad queries ${key}`, `${name}_queries`, (n) => queryGradientKernel(n, shape, all, schedule, target));
  const second = shared(`HeadAttentionGrad keys ${key}`, name, (n) => keyGradientKernel(n, shape, all, schedule, target));
  const products: Place = { k: "temporary", id: 0, bytes: 4 * shape.batch * shape.heads * shape.queries };
  const [places, results] = [placesOf(operands), placesOf(node.outputs)];
  const [ofLogs, ofDy] = [logs, dy].map(valuePlace);
  return [
    { kernel: first, places: [...places, valuePlace(y), ofDy, ofLogs, results[0], products] },
    { kernel: second, places: [...places, ofDy, ofLogs, products, results[1], results[2]] },
  ];
};
