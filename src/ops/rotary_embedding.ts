// RotaryEmbedding of ONNX's opset 23: pairs of a head's columns are turned by angles that depend on their place (Su et al. 2021).
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Op, type Value } from "../ir/graph.ts";
import { builder } from "./build.ts";
import { FLOATS, f32, inputType, sameDType, tensorOf } from "./define.ts";

interface RotaryAttrs {
  /** Pairs are neighbours; otherwise columns of the first half with those of the second. */
  readonly interleaved: number;
  /** Where x has three axes. */
  readonly num_heads: number;
  /** Columns that are turned; 0: all. */
  readonly rotary_embedding_dim: number;
}

/** Sizes of x as (N, H, T, d), and of what is turned. */
function geometryOf(inputs: readonly (Value | null)[], { num_heads, rotary_embedding_dim }: RotaryAttrs) {
  const types = [0, 1, 2].map((i) => inputType("RotaryEmbedding", inputs, i, FLOATS));
  const [{ shape, dtype }, cos, sin] = types;
  const isFlat = shape.length === 3;
  const [batch, heads, places, depth] = isFlat ? [shape[0], num_heads, shape[1], shape[2] / num_heads] : shape;
  const turned = rotary_embedding_dim || depth;
  const half = turned / 2;
  const isByPlace = !inputs[3];
  const isRight = (isFlat || shape.length === 4) && Number.isInteger(depth) && Number.isInteger(half) && turned <= depth && cos.shape.join() === sin.shape.join(); // biome-ignore format: short
  const isTable = isByPlace ? cos.shape.join() === [batch, places, half].join() : cos.shape.length === 2 && cos.shape[1] === half && inputType("RotaryEmbedding", inputs, 3, ["i64"]).shape.join() === [batch, places].join(); // biome-ignore format: short
  if (!isRight || !isTable)
    throw new HeddleError("bad-model", `RotaryEmbedding: ${inputs.map((x) => `(${x?.type.shape ?? ""})`).join(", ")}, ${num_heads} heads and ${turned} columns do not fit`); // biome-ignore format: short
  sameDType("RotaryEmbedding", types);
  return { isFlat, batch, heads, places, depth, turned, half, dtype, shape };
}

const RotaryEmbedding: Op = defineOp<RotaryAttrs>({
  name: "RotaryEmbedding",
  kind: "opaque",
  attrs: {
    interleaved: { type: "int", default: 0 },
    num_heads: { type: "int", default: 0 },
    rotary_embedding_dim: { type: "int", default: 0 },
  },
  infer(inputs, attrs) {
    const { dtype, shape } = geometryOf(inputs, attrs);
    return [{ dtype, shape }];
  },
  expand(inputs, attrs, node) {
    const build = builder(node.from);
    const g = geometryOf(inputs, attrs);
    const [x] = inputs as readonly Value[]; // checked by infer
    const places = g.isFlat ? build.reshape(x, [g.batch, g.places, g.heads, g.depth]) : x;
    const axis = g.isFlat ? 1 : 2;
    const columns = (from: Value, first: number, to: number, step = 1): Value =>
      build.op("Slice", [from, build.ints(first), build.ints(to), build.ints(3), build.ints(step)]);
    // One angle for all heads.
    const angles = [1, 2].map((i) => {
      const table = inputs[3] ? build.op("Gather", [inputs[i]!, inputs[3]], { axis: 0 }) : inputs[i]!; // checked by infer
      return build.reshape(table, axis === 1 ? [g.batch, g.places, 1, g.half] : [g.batch, 1, g.places, g.half]);
    });
    const [cos, sin] = angles;
    const [a, b] = attrs.interleaved
      ? [columns(places, 0, g.turned, 2), columns(places, 1, g.turned, 2)]
      : [columns(places, 0, g.half), columns(places, g.half, g.turned)];
    const product = (s: Value, t: Value): Value => build.op("Mul", [s, t]);
    const real = build.op("Sub", [product(cos, a), product(sin, b)]);
    const imaginary = build.op("Add", [product(sin, a), product(cos, b)]);
    const outer = real.type.shape.slice(0, 3);
    const pairs = [real, imaginary].map((v) => build.reshape(v, [...outer, g.half, 1]));
    const turned = attrs.interleaved
      ? build.reshape(build.op("Concat", pairs, { axis: 4 }), [...outer, g.turned])
      : build.op("Concat", [real, imaginary], { axis: 3 });
    const all = g.turned < g.depth ? build.op("Concat", [turned, columns(places, g.turned, g.depth)], { axis: 3 }) : turned;
    return [build.reshape(all, g.shape)];
  },
  samples: [
    { inputs: [f32(2, 3, 4, 8), f32(2, 4, 4), f32(2, 4, 4)] },
    { inputs: [f32(2, 3, 12), f32(9, 2), f32(9, 2), tensorOf("i64", [0, 5, 8, 1, 1, 2], [2, 3])], attrs: { num_heads: 2, rotary_embedding_dim: 4 } },
    { inputs: [f32(1, 2, 3, 6), f32(5, 2), f32(5, 2), tensorOf("i64", [4, 0, 2], [1, 3])], attrs: { interleaved: 1, rotary_embedding_dim: 4 } },
  ], // biome-ignore format: a table
});

export const rotaryEmbeddingOps: readonly Op[] = [RotaryEmbedding];
