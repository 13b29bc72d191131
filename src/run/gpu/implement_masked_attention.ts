// MaskedAttention to kernels on matrix units or plain cores: which shapes they are for, where heads and masks lie, and parts of keys that are joined.
import type { DType } from "../../ir/dtype.ts";
import type { Node, Value } from "../../ir/graph.ts";
import type { NarrowPrecision } from "../../ir/precision.ts";
import type { SimtTarget } from "../../ir/simt.ts";
import { elementCount, stridesOf } from "../../ir/tensor.ts";
import { type AttentionShape, attentionKernel } from "../../kernels/simt/attention.ts";
import type { HeadView } from "../../kernels/simt/head_tiles.ts";
import type { MaskView } from "../../kernels/simt/masked_scores.ts";
import { joinedKernel, linesOf, type OnlineSchedule, type OnlineShape, onlineKernel } from "../../kernels/simt/online_attention.ts";
import { onlineSchedule } from "../../kernels/simt/online_schedule.ts";
import { maskedGeometry } from "../../ops/masked_attention.ts";
import { type Place, valuePlace } from "../step.ts";
import { stridedView } from "../strided_view.ts";
import type { DirectImplementation } from "./direct.ts";
import { COPIED, fitsFragments, maskView, scheduleOf } from "./implement_attention.ts";

/** Deeper heads have too many results for a thread. */
const MOST_DEPTH = 256;
/** With more queries, and deeper heads, matrix units multiply 16-bit floats sooner than plain cores do, though scores go through memory: 84 µs instead of 250 for 256 columns, 602 instead of 376 for 64. */
const FEW_ROWS = 16;
const SHALLOW = 64;

/** Whether there are kernels for a node, with its operands in 16 bits where they will have those; products around a softmax took longer than any of them on an H200. */
export function fitsMaskedAttention(node: Node, narrow: NarrowPrecision | undefined, target: SimtTarget): boolean {
  const g = maskedGeometry(node);
  const dtype = g.dtype === "f32" ? (narrow ?? "f32") : g.dtype;
  if (dtype !== "f32" && dtype !== "f16" && dtype !== "bf16") return false;
  if (elementCount(node.outputs[0].type.shape) * g.keys * g.depth === 0 || node.inputs.length >= target.maxBuffers) return false;
  return onFragments(node, dtype, target) !== null || onPlainCores(node, dtype, target) !== null;
}

/** Null: these do not fit, or plain cores are as quick. */
function onFragments(node: Node, dtype: DType, target: SimtTarget): AttentionShape | null {
  const { batch, heads, group, queries, keys, depth, width, scale, cap, hidden, before } = maskedGeometry(node);
  if ((dtype !== "f16" && dtype !== "bf16") || width !== depth || queries * group <= FEW_ROWS) return null;
  const [seen, bias] = masksOf(node);
  const isCausal = before >= 0;
  const masks = { group, before: isCausal ? before : 0, cap, seen, hidden, bias };
  const shape = { dtype, batch, heads: heads * group, queries, keys, depth, isCausal, scale, masks };
  return fitsFragments(shape, target) ? shape : null;
}

function onPlainCores(
  node: Node,
  dtype: DType,
  target: SimtTarget,
): { readonly shape: OnlineShape; readonly schedule: OnlineSchedule } | null {
  const { batch, heads, group, queries, keys, depth, width, scale, cap, hidden, before } = maskedGeometry(node);
  const isOnUnits = dtype !== "f32" && target.fragments.includes(dtype as "f16"); // one of three types
  const isSlower = isOnUnits && queries * group > FEW_ROWS && Math.max(depth, width) > SHALLOW;
  if (isSlower || Math.max(depth, width) > MOST_DEPTH) return null;
  const [seen, bias] = masksOf(node);
  const shape = { batch, heads, group, queries, keys, depth, width, scale, cap, hidden, before: before < 0 ? null : before, seen, bias };
  const schedule = onlineSchedule(shape, target);
  return schedule && { shape, schedule };
}

const masksOf = ({ inputs }: Node): readonly (MaskView | null)[] => [3, 4].map((i) => (inputs[i] ? maskView(inputs[i].type) : null));

/** A tensor (N, places, heads, columns), or what it was moved from where columns stay neighbours; `multiple`: places are such ones. */
function viewOf(value: Value, multiple = 1): { readonly view: HeadView; readonly value: Value } {
  const { dtype, shape } = value.type;
  const moved = stridedView(value);
  const [batch, place, head, column] = moved.strides;
  const isRight = [moved.from, batch, place, head].every((n) => n >= 0 && n % multiple === 0) && (column === 1 || shape[3] === 1);
  if (isRight)
    return { value: moved.value, view: { dtype, elements: elementCount(moved.value.type.shape), from: moved.from, batch, place, head } };
  const [ofBatch, ofPlace, ofHead] = stridesOf(shape);
  return { value, view: { dtype, elements: elementCount(shape), from: 0, batch: ofBatch, place: ofPlace, head: ofHead } };
}

export const maskedAttention: DirectImplementation = (node, name, target, shared) => {
  const [result] = node.outputs;
  const onMatrixUnits = onFragments(node, result.type.dtype, target);
  const [q, k, v] = node.inputs.slice(0, 3).map((x) => viewOf(x!, onMatrixUnits ? COPIED : 1)); // checked by infer
  const views = { q: q.view, k: k.view, v: v.view, out: viewOf(result).view };
  const reads = [q.value, k.value, v.value, ...node.inputs.slice(3).filter((x) => x !== null)].map(valuePlace);
  const keyOf = (shape: object): string => `MaskedAttention ${JSON.stringify([shape, views])} ${String(node.attrs.hidden)}`; // JSON has no infinities
  if (onMatrixUnits) {
    const schedule = scheduleOf(onMatrixUnits, target);
    const kernel = shared(keyOf(onMatrixUnits), name, (n) => attentionKernel(n, onMatrixUnits, views, schedule, target));
    return [{ kernel, places: [...reads, valuePlace(result)] }];
  }
  const plain = onPlainCores(node, result.type.dtype, target);
  if (!plain) return null;
  const { shape, schedule } = plain;
  const { parts } = schedule;
  const lines = linesOf(shape) * parts;
  const between: Place[] = parts === 1 ? [] : [4 * lines * shape.width, 4 * lines].map((bytes, id) => ({ k: "temporary", id, bytes }));
  const first = shared(keyOf(shape), parts === 1 ? name : `${name}_parts`, (n) => onlineKernel(n, shape, views, schedule, target));
  if (parts === 1) return [{ kernel: first, places: [...reads, valuePlace(result)] }];
  const second = shared(`joined ${keyOf(shape)}`, name, (n) => joinedKernel(n, shape, views.out, parts, target));
  return [{ kernel: first, places: [...reads, ...between] }, { kernel: second, places: [...between, valuePlace(result)] }]; // biome-ignore format: short
};
