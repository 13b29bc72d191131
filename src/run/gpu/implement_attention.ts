// HeadAttention and its gradient to kernels on matrix units: which shapes they are for, where heads and masks lie, tiles.
import type { Node, Value } from "../../ir/graph.ts";
import type { NarrowPrecision } from "../../ir/precision.ts";
import type { SimtTarget } from "../../ir/simt.ts";
import { elementCount, stridesOf } from "../../ir/tensor.ts";
import { type AttentionSchedule, type AttentionShape, attentionBytes, attentionKernel } from "../../kernels/simt/attention.ts";
import { gradientBytes, keyGradientKernel, queryGradientKernel } from "../../kernels/simt/attention_gradient.ts";
import type { HeadView } from "../../kernels/simt/head_tiles.ts";
import { fitsKeptBits, keptBitsKernel } from "../../kernels/simt/kept_bits.ts";
import type { MaskView } from "../../kernels/simt/masked_scores.ts";
import { attentionParts, HIDDEN_SCORE } from "../../ops/head_attention.ts";
import { type Place, valuePlace } from "../step.ts";
import type { DirectImplementation } from "./direct.ts";

const MOST_DEPTH = 128;
/** Elements of 16 bits that a copy takes; what is left of a fragment is zeros. */
export const COPIED = 8;
/** Sums of deeper heads leave a subgroup registers for half as many rows. */
const DEEP = 64;

/** Whether there are kernels for a node whose operands have, or will have, 16 bits. */
export function fitsAttention(node: Node, narrow: NarrowPrecision | undefined, target: SimtTarget): boolean {
  const { g } = attentionParts(node);
  const dtype = g.dtype === "f32" ? narrow : g.dtype;
  if ((dtype !== "f16" && dtype !== "bf16") || g.scale <= 0) return false;
  const shape = shapeOf(node, dtype);
  if (shape.dropping && !fitsKeptBits(shape, shape.dropping)) return false;
  return fitsFragments(shape, target) && gradientBytes(shape, scheduleOf(shape, target)) <= target.sharedBytes;
}

/** Whether matrix units do attention of this shape in one kernel. */
export function fitsFragments(shape: AttentionShape, target: SimtTarget): boolean {
  const { batch, heads, queries, keys, depth, dtype } = shape;
  const isFragment = target.opensFragments && target.fragments.includes(dtype) && depth % COPIED === 0 && depth <= MOST_DEPTH;
  if (!isFragment || batch * heads * queries * keys === 0) return false;
  return attentionBytes(shape, scheduleOf(shape, target)) <= target.sharedBytes;
}

function shapeOf(node: Node, dtype: "f16" | "bf16"): AttentionShape {
  const { g, seen, bias } = attentionParts(node);
  const { batch, heads, queries, keys, depth, causal, scale, dropout } = g;
  const [ofSeen, ofBias] = [seen, bias].map((mask) => mask && maskView(mask.type));
  const masks = { group: 1, before: keys - queries, cap: 0, seen: ofSeen, hidden: HIDDEN_SCORE, bias: ofBias, keepsLogs: true } as const;
  const shape = { dtype, batch, heads, queries, keys, depth, isCausal: causal === 1, scale };
  return { ...shape, ...((seen || bias) && { masks }), ...(dropout > 0 && { dropping: { probability: dropout } }) };
}

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

/** One element for all where an axis has size 1. */
export function maskView({ dtype, shape }: Value["type"]): MaskView {
  const [batch, head, query, key] = stridesOf(shape).map((stride, i) => (shape[i] === 1 ? 0 : stride));
  return { dtype, elements: elementCount(shape), batch, head, query, key };
}

/** What a node's kernels have in common. */
function taskOf(node: Node, target: SimtTarget) {
  const { g, own, seen, bias, key: random, bits } = attentionParts(node);
  const shape = shapeOf(node, g.dtype as "f16" | "bf16"); // as fitsAttention has seen
  const { queries, keys } = shape;
  const of = (i: number): HeadView => (g.isPacked ? viewOf(shape, queries, i, 3) : viewOf(shape, i === 0 ? queries : keys));
  const operands = [0, 1, 2].map((i) => valuePlace(own[g.isPacked ? 0 : i]!)); // checked by infer
  const besides = [seen, bias, bits].flatMap((v) => (v ? [valuePlace(v)] : []));
  const views = { q: of(0), k: of(1), v: of(2) };
  const key = JSON.stringify([shape, g.isPacked]);
  return { shape, schedule: scheduleOf(shape, target), views, ofResults: viewOf(shape, queries), operands, besides, random, bits, key };
}

export const headAttention: DirectImplementation = (node, name, target, shared) => {
  if (!fitsAttention(node, undefined, target)) return null;
  const { shape, schedule, views, ofResults, operands, besides, random, bits, key } = taskOf(node, target);
  const kernel = shared(`HeadAttention ${key}`, name, (n) => attentionKernel(n, shape, { ...views, out: ofResults }, schedule, target));
  const own = { kernel, places: [...operands, ...besides, ...node.outputs.slice(0, 2).map(valuePlace)] };
  if (!shape.dropping || !random || !bits) return [own];
  const drawn = shared(`KeptBits ${key}`, `${name}_bits`, (n) => keptBitsKernel(n, shape, shape.dropping!, target)); // there is dropping
  return [{ kernel: drawn, places: [valuePlace(random), valuePlace(bits)] }, own];
};

export const headAttentionGrad: DirectImplementation = (node, name, target, shared) => {
  const hasBits = node.attrs.dropout === 0 || attentionParts(node).bits !== null;
  if (!hasBits || !fitsAttention(node, undefined, target)) return null;
  const { shape, schedule, views, ofResults, operands, besides, key } = taskOf(node, target);
  const [logs, dy, y] = node.inputs.slice(0, 3).map((v) => valuePlace(v!)); // checked by infer
  const all = { ...views, y: ofResults, dy: ofResults, dq: views.q, dk: views.k, dv: views.v };
  const first = shared(`HeadAttentionGrad queries ${key}`, `${name}_queries`, (n) => queryGradientKernel(n, shape, all, schedule, target));
  const second = shared(`HeadAttentionGrad keys ${key}`, name, (n) => keyGradientKernel(n, shape, all, schedule, target));
  const products: Place = { k: "temporary", id: 0, bytes: 4 * shape.batch * shape.heads * shape.queries };
  const results = [0, 1, 2].map((i) => valuePlace(node.outputs[node.outputs.length === 1 ? 0 : i]));
  return [
    { kernel: first, places: [...operands, y, dy, logs, ...besides, results[0], products] },
    { kernel: second, places: [...operands, dy, logs, products, ...besides, results[1], results[2]] },
  ];
};
