// Operators whose output shape depends on data: NonZero, Compress, Unique. They work where that data is constant, and say so elsewhere.
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Op } from "../ir/graph.ts";
import { elementCount, type TensorData, toNumbers, zeros } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { constantInput, f32, inputType, normalizeAxis, tensorOf } from "./define.ts";

/** The constant behind an input whose values decide the output's shape. */
export function decisive(op: string, inputs: Parameters<Op["infer"]>[0], i: number): TensorData {
  inputType(op, inputs, i);
  try {
    return constantInput(op, inputs, i, "")!; // inputType has checked that it is there
  } catch (cause) {
    if (!(cause instanceof HeddleError)) throw cause;
    const message = `${op}: the output's shape depends on data known only at run time; heddle compiles for fixed shapes`;
    throw new HeddleError("dynamic", message, { cause });
  }
}

/** Places of the nonzero elements, as rows of a (rank, count) tensor. */
function nonZeroPlaces(x: TensorData): TensorData {
  const places = [...toNumbers(x).entries()].filter(([, v]) => v !== 0).map(([i]) => i);
  const out = zeros("i64", [x.shape.length, places.length]);
  let inner = 1;
  for (let axis = x.shape.length - 1; axis >= 0; axis--) {
    for (const [k, at] of places.entries()) out.data[axis * places.length + k] = BigInt(Math.floor(at / inner) % x.shape[axis]);
    inner *= x.shape[axis];
  }
  return out;
}

const NonZero: Op = defineOp<object>({
  name: "NonZero",
  kind: "opaque",
  attrs: {},
  infer: (inputs) => [{ dtype: "i64", shape: nonZeroPlaces(decisive("NonZero", inputs, 0)).shape }],
  evaluate: ([x]) => [nonZeroPlaces(x!)], // checked by infer
  samples: [{ inputs: [tensorOf("f32", [1, 0, 1, 1], [2, 2])] }, { inputs: [tensorOf("bool", [0, 0, 0])] }],
});

/** Slices `keep` of an axis; x seen as (outer, n, inner). */
function takeSlices(x: TensorData, axis: number, keep: readonly number[]): TensorData {
  const inner = elementCount(x.shape.slice(axis + 1));
  const n = x.shape[axis];
  const out = zeros(x.dtype, x.shape.with(axis, keep.length));
  const outer = elementCount(x.shape.slice(0, axis));
  for (let o = 0; o < outer; o++)
    for (const [k, from] of keep.entries())
      for (let i = 0; i < inner; i++) out.data[(o * keep.length + k) * inner + i] = x.data[(o * n + from) * inner + i];
  return out;
}

/** Without an axis the tensor is one line. */
const flattened = (x: TensorData): TensorData => ({ ...x, shape: [x.data.length] });

const kept = (condition: TensorData, size: number): number[] =>
  [...toNumbers(condition).entries()].filter(([i, v]) => v !== 0 && i < size).map(([i]) => i);

const Compress: Op = defineOp<{ axis?: number }>({
  name: "Compress",
  kind: "opaque",
  attrs: { axis: { type: "int", optional: true } },
  infer(inputs, { axis }) {
    const { dtype, shape } = inputType("Compress", inputs, 0);
    const condition = decisive("Compress", inputs, 1);
    if (axis === undefined) return [{ dtype, shape: [kept(condition, elementCount(shape)).length] }];
    const at = normalizeAxis("Compress", axis, shape.length);
    return [{ dtype, shape: shape.with(at, kept(condition, shape[at]).length) }];
  },
  expand([input], { axis }, node) {
    const build = builder(node.from);
    const { shape } = input!.type; // checked by infer
    const x = axis === undefined ? build.reshape(input!, [elementCount(shape)]) : input!;
    const at = normalizeAxis("Compress", axis ?? 0, x.type.shape.length);
    const places = build.constant("i64", kept(decisive("Compress", node.inputs, 1), x.type.shape[at]));
    return [build.op("Gather", [x, places], { axis: at })];
  },
  samples: [
    { inputs: [f32(3, 2), tensorOf("bool", [0, 1, 1])], attrs: { axis: 0 } },
    { inputs: [f32(3, 2), tensorOf("bool", [0, 1, 0, 0, 1])] },
    { inputs: [f32(2, 3), tensorOf("bool", [0, 1])], attrs: { axis: -1 } },
  ],
});

interface UniqueAttrs {
  readonly axis?: number;
  readonly sorted: number;
}

/** Values of slice k along the axis, for comparing. */
function sliceValues(values: Float64Array, shape: readonly number[], axis: number, k: number): number[] {
  const inner = elementCount(shape.slice(axis + 1));
  const n = shape[axis];
  const out: number[] = [];
  for (let o = 0; o < elementCount(shape.slice(0, axis)); o++) for (let i = 0; i < inner; i++) out.push(values[(o * n + k) * inner + i]);
  return out;
}

function compareSlices(a: readonly number[], b: readonly number[]): number {
  for (const [i, v] of a.entries()) if (v !== b[i]) return v - b[i];
  return 0;
}

/** Distinct slices, first place of each, which one each slice is, and how often each occurs. */
function unique(input: TensorData, { axis, sorted }: UniqueAttrs): TensorData[] {
  const x = axis === undefined ? flattened(input) : input;
  const at = normalizeAxis("Unique", axis ?? 0, x.shape.length);
  const values = toNumbers(x);
  const slices = Array.from({ length: x.shape[at] }, (_, k) => sliceValues(values, x.shape, at, k));
  const classOf = new Map<string, { first: number; count: number }>();
  for (const [k, slice] of slices.entries()) {
    const known = classOf.get(slice.join());
    if (known) known.count++;
    else classOf.set(slice.join(), { first: k, count: 1 });
  }
  const classes = [...classOf.values()];
  if (sorted) classes.sort((a, b) => compareSlices(slices[a.first], slices[b.first]));
  const rank = new Map(classes.map((c, i) => [slices[c.first].join(), i]));
  const firsts = classes.map((c) => c.first);
  const inverse = slices.map((s) => rank.get(s.join())!); // every slice has a class
  const counts = classes.map((c) => c.count);
  return [takeSlices(x, at, firsts), ...[firsts, inverse, counts].map((list) => tensorOf("i64", list))];
}

const Unique: Op = defineOp<UniqueAttrs>({
  name: "Unique",
  kind: "opaque",
  attrs: { axis: { type: "int", optional: true }, sorted: { type: "int", default: 1 } },
  infer: (inputs, attrs) => unique(decisive("Unique", inputs, 0), attrs).map(({ dtype, shape }) => ({ dtype, shape })),
  evaluate: ([x], node) => unique(x!, node.attrs), // checked by infer
  samples: [
    { inputs: [tensorOf("f32", [2, 1, 1, 3, 4, 3])] },
    { inputs: [tensorOf("f32", [2, 1, 1, 3, 4, 3])], attrs: { sorted: 0 } },
    { inputs: [tensorOf("f32", [1, 0, 0, 1, 0, 0, 2, 3, 4], [3, 3])], attrs: { axis: 0 } },
  ],
});

export const dynamicOps: readonly Op[] = [NonZero, Compress, Unique];
