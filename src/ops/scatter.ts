// Writing at places that data names: ScatterElements (once Scatter) and ScatterND.
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, defineOp, type Node, type Op, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, type Shape, stridesOf, type TensorData, toNumbers } from "../ir/tensor.ts";
import { emittable, f32, inputType, normalizeAxis, sameDType, tensorOf } from "./define.ts";
import { zerosOf } from "./gradient.ts";

const REDUCTIONS = ["none", "add", "mul", "max", "min"] as const;
type Reduction = (typeof REDUCTIONS)[number];

const reductionAttr: AttrSpec = { type: "string", default: "none" };

function bigMax(a: bigint, b: bigint): bigint {
  if (a > b) return a;
  return b;
}
function bigMin(a: bigint, b: bigint): bigint {
  if (a < b) return a;
  return b;
}

const COMBINE: Readonly<Record<Exclude<Reduction, "none">, readonly [(a: number, b: number) => number, (a: bigint, b: bigint) => bigint]>> =
  {
    add: [(a, b) => a + b, (a, b) => a + b],
    mul: [(a, b) => a * b, (a, b) => a * b],
    max: [Math.max, bigMax],
    min: [Math.min, bigMin],
  };

/** x with update u written at place[u], one after the other. */
function scattered(x: TensorData, updates: TensorData, places: ArrayLike<number>, reduction: Reduction): TensorData {
  if (reduction === "none") {
    const data = x.data.slice();
    for (let u = 0; u < places.length; u++) data[places[u]] = updates.data[u];
    return { ...x, data };
  }
  const [numeric, big] = COMBINE[reduction];
  const [a, b] = [x.data.slice(), updates.data];
  if ((a instanceof BigInt64Array || a instanceof BigUint64Array) && (b instanceof BigInt64Array || b instanceof BigUint64Array)) {
    for (let u = 0; u < places.length; u++) a[places[u]] = big(a[places[u]], b[u]);
    return { ...x, data: a };
  }
  const values = toNumbers(x);
  const from = toNumbers(updates);
  for (let u = 0; u < places.length; u++) values[places[u]] = numeric(values[places[u]], from[u]);
  return fromNumbers(x.dtype, x.shape, values);
}

/** Index in [0, size), counted from the end when negative. */
function place(op: string, index: number, size: number): number {
  const at = index < 0 ? index + size : index;
  if (at < 0 || at >= size) throw new HeddleError("bad-input", `${op}: index ${index} is outside of an axis of ${size}`);
  return at;
}

function checkScatter(
  op: string,
  inputs: readonly (Value | null)[],
  reduction: Reduction,
): { shape: Shape; indices: Shape; updates: Shape } {
  const x = inputType(op, inputs, 0);
  const indices = inputType(op, inputs, 1, ["i32", "i64"]).shape;
  const updates = inputType(op, inputs, 2);
  if (updates.dtype !== x.dtype) sameDType(op, [x, updates]);
  if (!REDUCTIONS.includes(reduction))
    throw new HeddleError("bad-model", `${op}: reduction is ${reduction}, wanted ${REDUCTIONS.join(", ")}`);
  return { shape: x.shape, indices, updates: updates.shape };
}

/** Of places that are written twice, all updates get the gradient, as if each had stayed. */
const noScatterGradient = (op: string, reduction: Reduction) =>
  new HeddleError("unsupported", `${op}: reduction ${reduction} has no gradient; none and add have`);

const ScatterElements: Op = defineOp<{ axis: number; reduction: Reduction }>({
  name: "ScatterElements",
  kind: "opaque",
  attrs: { axis: { type: "int", default: 0 }, reduction: reductionAttr },
  infer(inputs, { axis, reduction }) {
    const { shape, indices, updates } = checkScatter("ScatterElements", inputs, reduction);
    const at = normalizeAxis("ScatterElements", axis, shape.length);
    const isInside = indices.length === shape.length && indices.every((d, i) => i === at || d <= shape[i]);
    if (!isInside || updates.join() !== indices.join())
      throw new HeddleError("bad-model", `ScatterElements: indices (${indices}) and updates (${updates}) do not fit (${shape})`);
    return [{ dtype: inputs[0]!.type.dtype, shape }];
  },
  evaluate([data, indices, updates], node) {
    const [x, at, u] = [data!, indices!, updates!]; // checked by infer
    const axis = normalizeAxis("ScatterElements", node.attrs.axis, x.shape.length);
    const strides = stridesOf(x.shape);
    const from = stridesOf(at.shape);
    const places = toNumbers(at).map((index, linear) => {
      let offset = place("ScatterElements", index, x.shape[axis]) * strides[axis];
      for (let k = 0; k < from.length; k++) if (k !== axis) offset += (Math.floor(linear / from[k]) % at.shape[k]) * strides[k];
      return offset;
    });
    return [scattered(x, u, places, node.attrs.reduction)];
  },
  vjp({ build, grad }, { inputs: [, indices, updates], attrs: { axis, reduction } }) {
    const dy = grad(0)!; // the only output
    if (reduction !== "none" && reduction !== "add") throw noScatterGradient("ScatterElements", reduction);
    const zeros = () => zerosOf(build, dy.type.dtype, updates!.type.shape); // checked by infer
    const dx = reduction === "add" ? dy : build.op("ScatterElements", [dy, indices, zeros()], { axis });
    return [dx, null, build.op("GatherElements", [dy, indices], { axis })];
  },
  flops: (node) => elementCount(node.inputs[2]!.type.shape),
  samples: [
    { inputs: [f32(3, 3), tensorOf("i64", [1, 0, 2, 0, 2, 1], [2, 3]), f32(2, 3)] },
    { inputs: [f32(1, 5), tensorOf("i64", [1, -1], [1, 2]), f32(1, 2)], attrs: { axis: 1 } },
    { inputs: [f32(1, 5), tensorOf("i64", [1, 1], [1, 2]), f32(1, 2)], attrs: { axis: 1, reduction: "add" } },
  ],
});

/** The name until opset 10. */
const Scatter: Op = defineOp<{ axis: number }>({
  name: "Scatter",
  kind: "opaque",
  attrs: { axis: { type: "int", default: 0 } },
  infer: (inputs, { axis }) => ScatterElements.infer(inputs, { axis, reduction: "none" }),
  evaluate: (inputs, node) =>
    ScatterElements.evaluate!(inputs, { ...node, op: ScatterElements, attrs: { ...node.attrs, reduction: "none" } }),
  vjp: (context, node) => ScatterElements.vjp!(context, { ...node, attrs: { ...node.attrs, reduction: "none" } } as unknown as Node), // of its attributes
  importOnnx: ({ emit, inputs, attrs }) => emit(emittable(ScatterElements), inputs, attrs),
  samples: [{ inputs: [f32(3, 3), tensorOf("i64", [1, 0, 2], [1, 3]), f32(1, 3)] }],
});

const ScatterND: Op = defineOp<{ reduction: Reduction }>({
  name: "ScatterND",
  kind: "opaque",
  attrs: { reduction: reductionAttr },
  infer(inputs, { reduction }) {
    const { shape, indices, updates } = checkScatter("ScatterND", inputs, reduction);
    const depth = indices.at(-1) ?? 0;
    const wanted = [...indices.slice(0, -1), ...shape.slice(depth)];
    if (depth < 1 || depth > shape.length || updates.join() !== wanted.join())
      throw new HeddleError("bad-model", `ScatterND: indices (${indices}) and updates (${updates}) do not fit (${shape})`);
    return [{ dtype: inputs[0]!.type.dtype, shape }];
  },
  evaluate([data, indices, updates], node) {
    const [x, at, u] = [data!, indices!, updates!]; // checked by infer
    const depth = at.shape[at.shape.length - 1];
    const strides = stridesOf(x.shape);
    const block = elementCount(x.shape.slice(depth));
    const values = toNumbers(at);
    const places = new Float64Array(u.data.length);
    for (let p = 0; p < places.length; p++) {
      const row = Math.floor(p / block) * depth;
      let offset = p % block;
      for (let k = 0; k < depth; k++) offset += place("ScatterND", values[row + k], x.shape[k]) * strides[k];
      places[p] = offset;
    }
    return [scattered(x, u, places, node.attrs.reduction)];
  },
  vjp({ build, grad }, { inputs: [, indices, updates], attrs: { reduction } }) {
    const dy = grad(0)!; // the only output
    if (reduction !== "none" && reduction !== "add") throw noScatterGradient("ScatterND", reduction);
    const zeros = () => zerosOf(build, dy.type.dtype, updates!.type.shape); // checked by infer
    const dx = reduction === "add" ? dy : build.op("ScatterND", [dy, indices, zeros()]);
    return [dx, null, build.op("GatherND", [dy, indices])];
  },
  flops: (node) => elementCount(node.inputs[2]!.type.shape),
  samples: [
    { inputs: [f32(8), tensorOf("i64", [4, 3, 1, 7], [4, 1]), f32(4)] },
    { inputs: [f32(4, 3, 2), tensorOf("i64", [0, 2], [2, 1]), f32(2, 3, 2)], attrs: { reduction: "add" } },
    { inputs: [f32(3, 5), tensorOf("i64", [0, 1, 2, 4], [2, 2]), f32(2)], attrs: { reduction: "max" } },
  ],
});

export const scatterOps: readonly Op[] = [ScatterElements, Scatter, ScatterND];
