// MaskedAttention to a kernel that keeps scores in a cache: which nodes it is for, and where heads and masks lie.
import type { DType } from "../../ir/dtype.ts";
import type { Node, Op, Value } from "../../ir/graph.ts";
import type { SimdTarget } from "../../ir/kernel.ts";
import type { MemoryType } from "../../ir/kernel_ops.ts";
import type { NarrowPrecision } from "../../ir/precision.ts";
import { elementCount, stridesOf } from "../../ir/tensor.ts";
import { attentionKernel, scheduleAttention } from "../../kernels/attention.ts";
import { collides, copiedPlaces, copyHeadsKernel } from "../../kernels/attention_heads.ts";
import { attentionRowsKernel } from "../../kernels/attention_rows.ts";
import type { AttentionShape, HeadPlaces, MaskPlaces } from "../../kernels/attention_shape.ts";
import { MaskedAttention, type MaskedGeometry, maskedGeometry } from "../../ops/masked_attention.ts";
import { type AnchorTask, type Implementation, type KernelCall, type Place, sharedKernel, valuePlace } from "../step.ts";
import { stridedView } from "../strided_view.ts";

const MASK_TYPES: Readonly<Partial<Record<DType, MemoryType>>> = { bool: "u8", f32: "f32", f16: "f16", bf16: "bf16" };

/** Whether there is a kernel for a node, which is then quicker than products around a softmax. */
export function keepsAttention(node: Node, narrow: NarrowPrecision | undefined, target: SimdTarget): boolean {
  if (node.op !== MaskedAttention || narrow) return false;
  const g = maskedGeometry(node);
  const masks = node.inputs.slice(3).filter((x) => x !== null);
  if (g.dtype !== "f32" || elementCount(node.outputs[0].type.shape) * g.keys * g.depth === 0 || isTall(g, target)) return false;
  return masks.every((x) => MASK_TYPES[x.type.dtype] !== undefined);
}

/** Turning queries and results around takes longer than the few scores that then stay in a cache: with AVX2 and WebAssembly up to 1.4 times as long. */
const isTall = ({ queries, keys, depth, width }: MaskedGeometry, { lanes }: SimdTarget): boolean =>
  lanes < 16 && queries > 16 * keys && 6 * keys < depth + width;

/** One element for all where an axis has size 1. */
function maskOf(value: Value | null | undefined): MaskPlaces | null {
  if (!value) return null;
  const { dtype, shape } = value.type;
  const [batch, head, query, key] = stridesOf(shape).map((stride, i) => (shape[i] === 1 ? 0 : stride));
  return { type: MASK_TYPES[dtype]!, elements: elementCount(shape), batch, head, query, key }; // keepsAttention has seen it
}

/** A tensor (N, places, heads, columns), or what it was moved from where columns stay neighbours. */
function headsOf(value: Value): { readonly places: HeadPlaces; readonly value: Value } {
  const { shape } = value.type;
  const moved = stridedView(value);
  const [batch, place, head, column] = moved.strides;
  const isRight = [moved.from, batch, place, head].every((n) => n >= 0) && (column === 1 || shape[3] === 1);
  if (isRight)
    return { value: moved.value, places: { elements: elementCount(moved.value.type.shape), from: moved.from, batch, place, head } };
  const [ofBatch, ofPlace, ofHead] = stridesOf(shape);
  return { value, places: { elements: elementCount(shape), from: 0, batch: ofBatch, place: ofPlace, head: ofHead } };
}

/** Queries of one head of keys that get a line each: more of them fill enough lanes of a tile. */
const mostRows = ({ lanes }: SimdTarget): number => Math.floor(0.7 * lanes);

interface Heads {
  readonly places: HeadPlaces;
  readonly place: Place;
}

/** Heads, or a copy of them where they would push each other out of caches; adds the call that makes it. */
function spread(task: AnchorTask, value: Value, id: number, calls: KernelCall[]): Heads {
  const { target, threads, name } = task;
  const own = headsOf(value);
  const [batch, places, heads, columns] = value.type.shape;
  const sizes = { batch, places, heads, columns };
  if (!collides(own.places, sizes)) return { places: own.places, place: valuePlace(own.value) };
  const copied = copiedPlaces(sizes);
  const place: Place = { k: "temporary", id, bytes: 4 * copied.elements };
  const kernel = sharedKernel(task, `heads ${JSON.stringify([own.places, sizes])}`, () =>
    copyHeadsKernel(`${name}_heads`, own.places, sizes, target, threads),
  );
  calls.push({ kernel, places: [valuePlace(own.value), place] });
  return { places: copied, place };
}

const implementAttention: Implementation = (task) => {
  const { anchor: node, target, threads, name, output } = task;
  const { dtype: _, ...geometry } = maskedGeometry(node);
  const isFew = geometry.queries * geometry.group <= mostRows(target);
  const calls: KernelCall[] = [];
  const [q, k, v] = task.inputs.slice(0, 3).map((x, i): Heads => {
    if (i > 0 && !isFew) return spread(task, x!, i, calls); // checked by infer
    const { places, value } = headsOf(x!);
    return { places, place: valuePlace(value) };
  });
  const [seen, bias] = [3, 4].map((i) => maskOf(task.inputs[i]));
  const shape: AttentionShape = { ...geometry, seen, bias, q: q.places, k: k.places, v: v.places, out: headsOf(output).places };
  const schedule = isFew ? null : scheduleAttention(shape, target);
  const key = `attention ${JSON.stringify([shape, schedule])} ${shape.hidden}`; // JSON has no infinities
  const kernel = sharedKernel(task, key, () =>
    schedule ? attentionKernel(name, shape, schedule, target, threads) : attentionRowsKernel(`${name}_rows`, shape, target, threads),
  );
  const masks = task.inputs.slice(3).filter((x) => x !== null);
  calls.push({ kernel, places: [q.place, k.place, v.place, ...[...masks, output].map(valuePlace)] });
  return calls;
};

/** Operators with a kernel that stands alone. */
export const ATTENTION_ALONE: readonly (readonly [Op, Implementation])[] = [[MaskedAttention, implementAttention]];
