// Reading at places that data names: Gather, GatherElements, GatherND, ReverseSequence.
import { HeddleError } from "../ir/error.ts";
import { call, constant, type Expr, select } from "../ir/expr.ts";
import { defineOp, type Node, type Op } from "../ir/graph.ts";
import { addIndex, constIndex, type Index, mulIndex, valueIndex } from "../ir/index_expr.ts";
import { toNumbers } from "../ir/tensor.ts";
import { ALL, f32, i32, i64, inputType, ints, normalizeAxis, tensorOf, the } from "./define.ts";
import { elementsGradient, gatherGradient, placesGradient, slicedGradient } from "./gather_gradient.ts";
import { constantOf } from "./source.ts";

const INDEX_TYPES = ["i32", "i64"] as const;

/** A place in [0, size): negative ones count from the end, and what is still outside is clamped. */
function placeOf(value: Expr, size: number): Index {
  const zero = constant(value.dtype, 0);
  const wrapped = select(call("lt", value, zero), call("add", value, constant(value.dtype, size)), value);
  return valueIndex(wrapped, 0, size - 1);
}

/** Constant indices start, start + step, …: then gathering is slicing. */
function progression(node: Node<object>, size: number): { start: number; step: number } | undefined {
  const tensor = constantOf(node.inputs[1]);
  if (!tensor || tensor.shape.length > 1 || tensor.data.length === 0) return undefined;
  const places = [...toNumbers(tensor)].map((v) => (v < 0 ? v + size : v));
  const step = places.length > 1 ? places[1] - places[0] : 0;
  const isRegular = places.every((v, i) => v === places[0] + i * step && v >= 0 && v < size);
  return isRegular ? { start: places[0], step } : undefined;
}

function checkNotEmpty(op: string, size: number, count: number): void {
  if (size === 0 && count > 0) throw new HeddleError("bad-model", `${op}: it reads from an empty axis`);
}

const Gather: Op = defineOp<{ axis: number }>({
  name: "Gather",
  kind: "view",
  attrs: { axis: { type: "int", default: 0 } },
  infer(inputs, attrs) {
    const { dtype, shape } = inputType("Gather", inputs, 0);
    const indices = inputType("Gather", inputs, 1, INDEX_TYPES).shape;
    const axis = normalizeAxis("Gather", attrs.axis, shape.length);
    const out = [...shape.slice(0, axis), ...indices, ...shape.slice(axis + 1)];
    checkNotEmpty("Gather", shape[axis], out.includes(0) ? 0 : 1);
    return [{ dtype, shape: out }];
  },
  lower([input, second], node) {
    const x = the(input);
    const indices = the(second);
    const axis = normalizeAxis("Gather", node.attrs.axis, x.type.shape.length);
    const rank = indices.type.shape.length;
    const size = x.type.shape[axis];
    const regular = progression(node, size);
    const place = (at: readonly Index[]): Index =>
      regular ? addIndex(rank === 0 ? constIndex(0) : mulIndex(at[0], regular.step), regular.start) : placeOf(indices.at(at), size);
    return [
      {
        type: node.outputs[0].type,
        at: (index) => x.at([...index.slice(0, axis), place(index.slice(axis, axis + rank)), ...index.slice(axis + rank)]),
      },
    ];
  },
  vjp({ build, grad }, node) {
    const x = node.inputs[0]!; // checked by infer, as the indices are
    const axis = normalizeAxis("Gather", node.attrs.axis, x.type.shape.length);
    const regular = progression(node, x.type.shape[axis]);
    if (regular && regular.step >= 0 && (regular.step > 0 || node.outputs[0].type.shape.length < x.type.shape.length))
      return [slicedGradient(build, grad(0)!, x.type.shape, axis, regular), null];
    return [gatherGradient(build, grad(0)!, x.type.shape, node.inputs[1]!, axis), null]; // the only output
  },
  flops: () => 0,
  samples: [
    { inputs: [f32(5, 7), tensorOf("i64", [0, -1, 3, 3], [2, 2])] },
    { inputs: [f32(3, 5, 2), tensorOf("i32", [4, 0, 1])], attrs: { axis: 1 } },
    { inputs: [f32(4, 3), ints(1, 3)] },
    { inputs: [f32(4, 3), tensorOf("i64", [-1], [])], attrs: { axis: 1 } },
    { inputs: [i64(9), ints(8, 0)] },
  ],
});

const GatherElements: Op = defineOp<{ axis: number }>({
  name: "GatherElements",
  kind: "view",
  attrs: { axis: { type: "int", default: 0 } },
  infer(inputs, attrs) {
    const { dtype, shape } = inputType("GatherElements", inputs, 0);
    const indices = inputType("GatherElements", inputs, 1, INDEX_TYPES).shape;
    const axis = normalizeAxis("GatherElements", attrs.axis, shape.length);
    if (indices.length !== shape.length || indices.some((d, i) => i !== axis && d > shape[i]))
      throw new HeddleError("bad-model", `GatherElements: indices (${indices}) do not fit into (${shape})`);
    checkNotEmpty("GatherElements", shape[axis], indices.includes(0) ? 0 : 1);
    return [{ dtype, shape: indices }];
  },
  lower([input, second], node) {
    const x = the(input);
    const indices = the(second);
    const axis = normalizeAxis("GatherElements", node.attrs.axis, x.type.shape.length);
    return [
      {
        type: node.outputs[0].type,
        at: (index) => x.at(index.with(axis, placeOf(indices.at(index), x.type.shape[axis]))),
      },
    ];
  },
  vjp({ build, grad }, { inputs: [x, indices], attrs }) {
    const { shape } = x!.type; // checked by infer, as the indices are
    return [elementsGradient(build, grad(0)!, shape, indices!, normalizeAxis("GatherElements", attrs.axis, shape.length)), null];
  },
  flops: () => 0,
  samples: [
    { inputs: [f32(3, 3), tensorOf("i64", [1, 2, 0, 2, 0, 0], [2, 3])] },
    { inputs: [f32(2, 5), tensorOf("i64", [-1, 0, 2, 4], [2, 2])], attrs: { axis: 1 } },
  ],
});

const GatherND: Op = defineOp<{ batch_dims: number }>({
  name: "GatherND",
  kind: "view",
  attrs: { batch_dims: { type: "int", default: 0 } },
  infer(inputs, { batch_dims: b }) {
    const { dtype, shape } = inputType("GatherND", inputs, 0);
    const indices = inputType("GatherND", inputs, 1, INDEX_TYPES).shape;
    const depth = indices.at(-1) ?? 0;
    const isBatched = indices.length > b && shape.slice(0, b).every((d, i) => d === indices[i]);
    if (depth < 1 || b + depth > shape.length || !isBatched)
      throw new HeddleError("bad-model", `GatherND: indices (${indices}) with batch_dims ${b} do not fit (${shape})`);
    return [{ dtype, shape: [...indices.slice(0, -1), ...shape.slice(b + depth)] }];
  },
  lower([input, second], node) {
    const x = the(input);
    const indices = the(second);
    const b = node.attrs.batch_dims;
    const outer = indices.type.shape.length - 1;
    const depth = indices.type.shape[outer];
    const at = (index: readonly Index[]): Expr => {
      const tuple = Array.from({ length: depth }, (_, k) =>
        placeOf(indices.at([...index.slice(0, outer), constIndex(k)]), x.type.shape[b + k]),
      );
      return x.at([...index.slice(0, b), ...tuple, ...index.slice(outer)]);
    };
    return [{ type: node.outputs[0].type, at }];
  },
  vjp: ({ build, grad }, { inputs: [x, indices], attrs }) => [
    placesGradient(build, grad(0)!, x!.type.shape, indices!, attrs.batch_dims), // checked by infer
    null,
  ],
  flops: () => 0,
  samples: [
    { inputs: [f32(2, 2), tensorOf("i64", [0, 0, 1, 1], [2, 2])] },
    { inputs: [f32(2, 3, 4), tensorOf("i64", [1, -1], [2, 1])], attrs: { batch_dims: 1 } },
    { inputs: [i32(3, 5), tensorOf("i64", [2, 0], [2, 1])] },
  ],
});

/** The first seq_lens[batch] steps in reverse order, the rest as they are. */
const ReverseSequence: Op = defineOp<{ batch_axis: number; time_axis: number }>({
  name: "ReverseSequence",
  kind: "view",
  attrs: { batch_axis: { type: "int", default: 1 }, time_axis: { type: "int", default: 0 } },
  infer(inputs, { batch_axis: batch, time_axis: time }) {
    const x = inputType("ReverseSequence", inputs, 0, ALL);
    const lengths = inputType("ReverseSequence", inputs, 1, INDEX_TYPES).shape;
    if (x.shape.length < 2 || batch + time !== 1 || batch * time !== 0)
      throw new HeddleError("bad-model", `ReverseSequence: batch_axis ${batch} and time_axis ${time} must be 0 and 1 of two axes or more`);
    if (lengths.length !== 1 || lengths[0] !== x.shape[batch])
      throw new HeddleError("bad-model", `ReverseSequence: (${lengths}) lengths for a batch of ${x.shape[batch]}`);
    return [x];
  },
  lower([input, second], node) {
    const x = the(input);
    const lengths = the(second);
    const { batch_axis: batch, time_axis: time } = node.attrs;
    const at = (index: readonly Index[]): Expr => {
      const length = lengths.at([index[batch]]);
      const step: Expr = { k: "index", dtype: length.dtype, at: index[time] };
      const mirrored = call("sub", call("sub", length, constant(length.dtype, 1)), step);
      const from = select(call("lt", step, length), mirrored, step);
      return x.at(index.with(time, valueIndex(from, 0, x.type.shape[time] - 1)));
    };
    return [{ type: node.outputs[0].type, at }];
  },
  vjp: ({ build, grad }, { inputs: [, lengths], attrs }) => [build.op("ReverseSequence", [grad(0), lengths], attrs), null],
  flops: () => 0,
  samples: [{ inputs: [f32(4, 3), ints(4, 1, 2)] }, { inputs: [f32(2, 5, 3), ints(0, 5)], attrs: { batch_axis: 0, time_axis: 1 } }],
});

export const gatherOps: readonly Op[] = [Gather, GatherElements, GatherND, ReverseSequence];
