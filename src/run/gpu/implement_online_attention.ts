// MaskedAttention to kernels on plain cores: which shapes they are for, where heads and masks lie, and parts of keys that are joined.
import type { Node, Value } from "../../ir/graph.ts";
import type { NarrowPrecision } from "../../ir/precision.ts";
import type { SimtTarget } from "../../ir/simt.ts";
import { elementCount, type Shape, stridesOf } from "../../ir/tensor.ts";
import type { HeadView } from "../../kernels/simt/head_tiles.ts";
import { joinedKernel, linesOf, type MaskView, type OnlineShape, onlineKernel } from "../../kernels/simt/online_attention.ts";
import { onlineSchedule } from "../../kernels/simt/online_schedule.ts";
import { maskedGeometry } from "../../ops/masked_attention.ts";
import { transposed } from "../implement/transposed.ts";
import { type Place, valuePlace } from "../step.ts";
import type { DirectImplementation } from "./direct.ts";

/** Deeper heads have too many results for a thread. */
const MOST_DEPTH = 256;
/** With more queries matrix units multiply 16-bit floats sooner than plain cores do. */
const FEW_ROWS = 16;

/** Whether there are kernels for a node, and products around a softmax are no faster. */
export function fitsMaskedAttention(node: Node, narrow: NarrowPrecision | undefined, target: SimtTarget): boolean {
  const { batch, heads, group, queries, keys, depth, width, dtype } = maskedGeometry(node);
  const isFloat = dtype === "f32" || dtype === "f16" || dtype === "bf16";
  if (!isFloat || batch * heads * queries * keys * depth * width === 0 || Math.max(depth, width) > MOST_DEPTH) return false;
  if (node.inputs.filter((v) => v !== null).length >= target.maxBuffers) return false;
  const type = dtype === "f32" ? (narrow ?? dtype) : dtype;
  if (type !== "f32" && target.fragments.includes(type) && queries * group > FEW_ROWS) return false;
  return onlineSchedule(shapeOf(node), target) !== null;
}

function shapeOf(node: Node): OnlineShape {
  const { batch, heads, group, queries, keys, depth, width, scale, cap, hidden, before } = maskedGeometry(node);
  const mask = (i: number): MaskView | null => (node.inputs[i] ? maskOf(node.inputs[i].type) : null);
  const all = { batch, heads, group, queries, keys, depth, width, scale, cap, hidden };
  return { ...all, before: before < 0 ? null : before, seen: mask(3), bias: mask(4) };
}

/** One element for all where an axis has size 1. */
function maskOf({ dtype, shape }: Value["type"]): MaskView {
  const [batch, head, query, key] = stridesOf(shape).map((stride, i) => (shape[i] === 1 ? 0 : stride));
  return { dtype, elements: elementCount(shape), batch, head, query, key };
}

/** A tensor (N, places, heads, columns), or what it is a permutation of where columns stay neighbours. */
function viewOf(value: Value): { readonly view: HeadView; readonly value: Value } {
  const source = transposed(value);
  const axes = source?.perm ?? [0, 1, 2, 3];
  const { before } = axes[3] === 3 && source ? source : { before: value };
  const view = (strides: Shape, perm: readonly number[]): HeadView => {
    const [batch, place, head] = perm.map((axis) => strides[axis]);
    return { dtype: value.type.dtype, elements: elementCount(value.type.shape), from: 0, batch, place, head };
  };
  return { value: before, view: view(stridesOf(before.type.shape), before === value ? [0, 1, 2, 3] : axes) };
}

export const maskedAttention: DirectImplementation = (node, name, target, shared) => {
  if (!fitsMaskedAttention(node, undefined, target)) return null;
  const shape = shapeOf(node);
  const schedule = onlineSchedule(shape, target)!; // as it fits
  const { parts } = schedule;
  const [q, k, v] = node.inputs.slice(0, 3).map((x) => viewOf(x!)); // checked by infer
  const [result] = node.outputs;
  const { view: out } = viewOf(result);
  const views = { q: q.view, k: k.view, v: v.view, out };
  const key = `${JSON.stringify([shape, views])} ${shape.hidden}`; // JSON has no infinities
  const reads = [q.value, k.value, v.value, ...node.inputs.slice(3).filter((x) => x !== null)].map(valuePlace);
  const lines = linesOf(shape) * parts;
  const between: Place[] = parts === 1 ? [] : [4 * lines * shape.width, 4 * lines].map((bytes, id) => ({ k: "temporary", id, bytes }));
  const first = shared(`MaskedAttention ${key}`, parts === 1 ? name : `${name}_parts`, (n) =>
    onlineKernel(n, shape, views, schedule, target),
  );
  if (parts === 1) return [{ kernel: first, places: [...reads, valuePlace(result)] }];
  const second = shared(`MaskedAttention joined ${key}`, name, (n) => joinedKernel(n, shape, out, parts, target));
  return [{ kernel: first, places: [...reads, ...between] }, { kernel: second, places: [...between, valuePlace(result)] }]; // biome-ignore format: short
};
