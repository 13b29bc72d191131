// ArgMax and ArgMin: where along an axis the extreme is.
import { defineOp, type Op } from "../ir/graph.ts";
import { elementCount, type TensorData, toNumbers, zeros } from "../ir/tensor.ts";
import { f32, i32, inputType, NUMBERS, normalizeAxis, placesAlong, tensorOf } from "./define.ts";
import { reducedShape } from "./reduce.ts";

interface ArgAttrs {
  readonly axis: number;
  readonly keepdims: number;
  readonly select_last_index: number;
}

/** x seen as (outer, n, inner) → index in n for each (outer, inner). A NaN counts as the extreme. */
function argExtreme(x: TensorData, axis: number, sign: 1 | -1, isLast: boolean, out: TensorData): TensorData {
  const values = toNumbers(x);
  const n = x.shape[axis];
  const inner = elementCount(x.shape.slice(axis + 1));
  const result = out.data as BigInt64Array; // its type is i64
  for (let o = 0; o < result.length; o++) {
    const base = Math.floor(o / inner) * n * inner + (o % inner);
    let best = 0;
    for (let k = 1; k < n; k++) {
      const [a, b] = [values[base + k * inner] * sign, values[base + best * inner] * sign];
      const isNewNaN = Number.isNaN(a) && !Number.isNaN(b);
      if (isNewNaN || a > b || (isLast && a === b)) best = k;
    }
    result[o] = BigInt(best);
  }
  return out;
}

const argReduction = (name: string, sign: 1 | -1): Op =>
  defineOp<ArgAttrs>({
    name,
    kind: "opaque",
    attrs: {
      axis: { type: "int", default: 0 },
      keepdims: { type: "int", default: 1 },
      select_last_index: { type: "int", default: 0 },
    },
    infer(inputs, { axis, keepdims }) {
      const { shape } = inputType(name, inputs, 0, NUMBERS);
      return [{ dtype: "i64", shape: reducedShape(shape, [normalizeAxis(name, axis, shape.length)], keepdims !== 0) }];
    },
    evaluate([input], node) {
      const x = input!; // checked by infer
      const { axis, select_last_index } = node.attrs;
      const out = zeros("i64", node.outputs[0].type.shape);
      return [argExtreme(x, normalizeAxis(name, axis, x.shape.length), sign, select_last_index !== 0, out)];
    },
    range: ({ inputs: [x], attrs: { axis } }) => placesAlong(x!.type.shape, normalizeAxis(name, axis, x!.type.shape.length)),
    flops: (node) => elementCount(node.inputs[0]!.type.shape),
    samples: [
      { inputs: [f32(3, 17)], attrs: { axis: 1 } },
      { inputs: [f32(2, 5, 3)], attrs: { axis: -2, keepdims: 0 } },
      { inputs: [tensorOf("f32", [1, 3, 3, 2], [2, 2])], attrs: { axis: 1, select_last_index: 1 } },
      { inputs: [i32(4, 1)], attrs: { axis: 1 } },
      { inputs: [f32(7)] },
    ],
  });

export const argReduceOps: readonly Op[] = [argReduction("ArgMax", 1), argReduction("ArgMin", -1)];
