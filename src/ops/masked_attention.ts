// MaskedAttention: attention with all that files do to its scores: queries (N, T, H, d), keys (N, S, K, d), values (N, S, K, w) → (N, T, H, w).

import type { DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, type Builder, defineOp, type Node, type Op, type TensorType, type Value } from "../ir/graph.ts";
import { builder } from "./build.ts";
import { bool, FLOATS, f32, inputType, sameDType } from "./define.ts";
import { MatMul } from "./matmul.ts";
import { Softmax } from "./softmax.ts";

export interface MaskedAttentionAttrs {
  /** What scores are multiplied by. */
  readonly scale: number;
  /** They are then kept between ± cap by a hyperbolic tangent; 0: they are not. */
  readonly cap: number;
  /** What scores become that the mask hides. */
  readonly hidden: number;
  /** Query i sees keys 0 to i + before; −1: all. */
  readonly before: number;
}

const ATTRS: Readonly<Record<keyof MaskedAttentionAttrs, AttrSpec>> = {
  scale: { type: "float", default: 1 },
  cap: { type: "float", default: 0 },
  hidden: { type: "float", default: Number.NEGATIVE_INFINITY },
  before: { type: "int", default: -1 },
};

export interface MaskedGeometry extends MaskedAttentionAttrs {
  readonly batch: number;
  /** Of keys and values; `group` heads of queries share one. */
  readonly heads: number;
  readonly group: number;
  readonly queries: number;
  readonly keys: number;
  readonly depth: number;
  readonly width: number;
  readonly dtype: TensorType["dtype"];
}

function geometryOf(inputs: readonly (Value | null)[], attrs: MaskedAttentionAttrs): MaskedGeometry {
  const types = [0, 1, 2].map((i) => inputType("MaskedAttention", inputs, i, FLOATS));
  const [[batch, queries, all, depth], [, keys, heads], [, , , width]] = types.map((t) => t.shape);
  const want = [[batch, queries, all, depth], [batch, keys, heads, depth], [batch, keys, heads, width]]; // biome-ignore format: one idea
  const group = all / heads;
  const scores = [batch, all, queries, keys];
  const isMask = (i: number, dtypes: readonly DType[]): boolean => {
    if (!inputs[i]) return true;
    const { shape } = inputType("MaskedAttention", inputs, i, dtypes);
    return shape.length === 4 && shape.every((d, axis) => d === 1 || d === scores[axis]);
  };
  const isRight = types.every(({ shape }, i) => shape.join() === want[i].join()) && Number.isInteger(group);
  if (!isRight || !isMask(3, ["bool"]) || !isMask(4, FLOATS))
    throw new HeddleError("bad-model", `MaskedAttention: ${inputs.map((v) => `(${v?.type.shape ?? ""})`).join(", ")}, wanted (N, T, H, d), (N, S, K, d), (N, S, K, w), and masks that broadcast to (N, H, T, S)`); // biome-ignore format: short
  return { ...attrs, batch, heads, group, queries, keys, depth, width, dtype: sameDType("MaskedAttention", types) };
}

/** Of a node of MaskedAttention. */
export const maskedGeometry = (node: Node): MaskedGeometry => geometryOf(node.inputs, node.attrs as unknown as MaskedAttentionAttrs); // the operator's

/** Inputs 3 and 4, which may be absent: booleans, true where a score stays; what is added then. Both broadcast to (N, H, T, S). */
export const MaskedAttention: Op = defineOp<MaskedAttentionAttrs>({
  name: "MaskedAttention",
  kind: "opaque",
  own: true,
  attrs: ATTRS,
  infer(inputs, attrs) {
    const { batch, heads, group, queries, width, dtype } = geometryOf(inputs, attrs);
    return [{ dtype, shape: [batch, queries, heads * group, width] }];
  },
  expand(inputs, attrs, node) {
    const build = builder(node.from);
    const g = geometryOf(inputs, attrs);
    const [q, k, v] = inputs.slice(0, 3).map((x) => build.transpose(x!, [0, 2, 1, 3])); // checked by infer
    const repeated = (x: Value): Value => {
      const [batch, heads, places, columns] = x.type.shape;
      const one = build.reshape(x, [batch, heads, 1, places, columns]);
      const all = build.op("Expand", [one, build.ints(batch, heads, g.group, places, columns)]);
      return g.group === 1 ? x : build.reshape(all, [batch, heads * g.group, places, columns]);
    };
    const number = (x: number): Value => build.constant(g.dtype, x);
    let scores = build.op("Mul", [build.op(MatMul, [q, build.transpose(repeated(k), [0, 1, 3, 2])]), number(g.scale)]);
    if (g.cap > 0) scores = build.op("Mul", [build.op("Tanh", [build.op("Div", [scores, number(g.cap)])]), number(g.cap)]);
    if (inputs[3]) scores = build.op("Where", [inputs[3], scores, number(g.hidden)]);
    if (inputs[4]) scores = build.op("Add", [scores, build.cast(inputs[4], g.dtype)]);
    if (g.before >= 0) scores = build.op("Where", [seenBefore(build, g), scores, number(Number.NEGATIVE_INFINITY)]);
    const weights = build.op(Softmax, [scores], { axis: 3 });
    return [build.transpose(build.op(MatMul, [weights, repeated(v)]), [0, 2, 1, 3])];
  },
  flops: ({ inputs, attrs }) => {
    const { batch, heads, group, queries, keys, depth, width, before } = geometryOf(inputs, attrs);
    return (2 * batch * heads * group * queries * keys * (depth + width)) / (before >= 0 ? 2 : 1);
  },
  samples: [
    { inputs: [f32(2, 5, 4, 4), f32(2, 7, 2, 4), f32(2, 7, 2, 3), bool(2, 1, 5, 7), f32(1, 4, 1, 7)], attrs: { scale: 0.5, hidden: -1e9 } },
    { inputs: [f32(1, 3, 2, 4), f32(1, 7, 2, 4), f32(1, 7, 2, 4)], attrs: { before: 4, cap: 2 } },
    { inputs: [f32(1, 1, 6, 8), f32(1, 70, 2, 8), f32(1, 70, 2, 8)] },
  ],
});

/** True where query i sees key j. */
function seenBefore(build: Builder, { queries, keys, before }: MaskedGeometry): Value {
  const places = (count: number, from: number, shape: readonly number[]): Value => build.constant("i32", Array.from({ length: count }, (_, i) => from + i), [...shape]); // biome-ignore format: short
  return build.op("GreaterOrEqual", [places(queries, before, [queries, 1]), places(keys, 0, [keys])]);
}

export const maskedAttentionOps: readonly Op[] = [MaskedAttention];
