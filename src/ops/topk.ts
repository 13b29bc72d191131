// TopK: the k largest or smallest elements along an axis, and where they are.
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Op, type Value } from "../ir/graph.ts";
import { elementCount, type TensorData, toNumbers, zeros } from "../ir/tensor.ts";
import { f32, i64, inputType, ints, movedToInputs, NUMBERS, normalizeAxis, placesAlong, requiredNumbers, tensorOf } from "./define.ts";
import { zerosOf } from "./gradient.ts";

interface TopKAttrs {
  readonly axis: number;
  readonly largest: number;
  readonly sorted: number;
}

function checkedK(inputs: readonly (Value | null)[], size: number): number {
  const [k] = requiredNumbers("TopK", inputs, 1, "k");
  if (!(k >= 0 && k <= size)) throw new HeddleError("bad-model", `TopK: k is ${k}, the axis has ${size}`);
  return k;
}

/** Order of the elements: by value, equal ones by place; a NaN counts as the largest. */
function comparator(line: ArrayLike<number | bigint>, sign: 1 | -1): (a: number, b: number) => number {
  return (a, b) => {
    const [x, y] = [line[a], line[b]];
    if (x === y) return a - b;
    const [isX, isY] = [Number.isNaN(x), Number.isNaN(y)];
    if (isX || isY) return isX && isY ? a - b : isX ? -sign : sign;
    return x > y ? -sign : sign;
  };
}

/** x seen as (outer, n, inner) → the first k of each line. */
function topK(x: TensorData, axis: number, k: number, sign: 1 | -1): TensorData[] {
  const n = x.shape[axis];
  const inner = elementCount(x.shape.slice(axis + 1));
  const outer = elementCount(x.shape.slice(0, axis));
  const shape = x.shape.with(axis, k);
  const [values, places] = [zeros(x.dtype, shape), zeros("i64", shape)];
  const is64 = x.dtype === "i64" || x.dtype === "u64";
  const keys: ArrayLike<number | bigint> = is64 ? x.data : toNumbers(x);
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < inner; i++) {
      const line = Array.from({ length: n }, (_, j) => keys[(o * n + j) * inner + i]);
      const order = line.map((_, j) => j).sort(comparator(line, sign));
      for (let j = 0; j < k; j++) {
        const to = (o * k + j) * inner + i;
        values.data[to] = x.data[(o * n + order[j]) * inner + i];
        places.data[to] = BigInt(order[j]);
      }
    }
  return [values, places];
}

const TopK: Op = defineOp<TopKAttrs>({
  name: "TopK",
  kind: "opaque",
  attrs: { axis: { type: "int", default: -1 }, largest: { type: "int", default: 1 }, sorted: { type: "int", default: 1 } },
  infer(inputs, { axis }) {
    const { dtype, shape } = inputType("TopK", inputs, 0, NUMBERS);
    const at = normalizeAxis("TopK", axis, shape.length);
    const out = shape.with(at, checkedK(inputs, shape[at]));
    return [
      { dtype, shape: out },
      { dtype: "i64", shape: out },
    ];
  },
  evaluate([x], node) {
    const axis = normalizeAxis("TopK", node.attrs.axis, x!.shape.length); // checked by infer
    return topK(x!, axis, node.outputs[0].type.shape[axis], node.attrs.largest ? 1 : -1);
  },
  vjp({ build, grad }, { inputs: [x], outputs: [, places], attrs: { axis } }) {
    const { dtype, shape } = x!.type; // checked by infer
    return [build.op("ScatterElements", [zerosOf(build, dtype, shape), places, grad(0)], { axis }), null];
  },
  importOnnx: (context) => movedToInputs(() => TopK, [{ name: "k", input: 1, dtype: "i64" }])(context),
  range({ inputs: [x], attrs: { axis } }, output) {
    const { shape } = x!.type; // checked by infer
    return output === 1 ? placesAlong(shape, normalizeAxis("TopK", axis, shape.length)) : undefined;
  },
  flops(node) {
    const { shape } = node.inputs[0]!.type;
    return elementCount(shape) * Math.ceil(Math.log2(1 + shape[normalizeAxis("TopK", node.attrs.axis, shape.length)]));
  },
  samples: [
    { inputs: [f32(3, 7), ints(3)] },
    { inputs: [f32(2, 5, 3), ints(2)], attrs: { axis: 1, largest: 0 } },
    { inputs: [tensorOf("f32", [1, 3, 3, 2]), ints(4)] },
    { inputs: [i64(5), ints(0)] },
  ],
});

export const topkOps: readonly Op[] = [TopK];
