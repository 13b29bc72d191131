// Gradients of reading at places that data names: adding at these places.
import type { Builder, Value } from "../ir/graph.ts";
import { elementCount, type Shape } from "../ir/tensor.ts";
import { zerosOf } from "./gradient.ts";

const upTo = (n: number): number[] => [...Array(n).keys()];

/** Adds the rows of `grad` (…indices, …rest) to zeros of `shape`, at the first axes that `indices` (…, depth) names. */
const scattered = (build: Builder, grad: Value, shape: Shape, indices: Value): Value =>
  build.op("ScatterND", [zerosOf(build, grad.type.dtype, shape), indices, grad], { reduction: "add" });

/** Of x[…, indices, …]: the gathered axes go first, as rows, and the one they become goes back. */
export function gatherGradient(build: Builder, grad: Value, shape: Shape, indices: Value, axis: number): Value {
  const rank = indices.type.shape.length;
  const before = upTo(axis);
  const gathered = upTo(rank).map((i) => axis + i);
  const after = upTo(shape.length - axis - 1).map((i) => axis + rank + i);
  const rows = axis === 0 ? grad : build.transpose(grad, [...gathered, ...before, ...after]);
  const first = build.op("ScatterRows", [indices, rows], { size: shape[axis] });
  return axis === 0
    ? first
    : build.transpose(first, [...upTo(axis).map((i) => i + 1), 0, ...upTo(shape.length - axis - 1).map((i) => axis + 1 + i)]);
}

/** Of x[…, start + i·step, …] with i over a sliced axis, or over none: zeros around. */
export function slicedGradient(
  build: Builder,
  grad: Value,
  shape: Shape,
  axis: number,
  { start, step }: { start: number; step: number },
): Value {
  const isOne = grad.type.shape.length < shape.length;
  const full = isOne ? build.reshape(grad, shape.with(axis, 1)) : grad;
  const count = full.type.shape[axis];
  const split = step > 1 ? build.reshape(full, full.type.shape.toSpliced(axis + 1, 0, 1)) : full;
  const margins = (rank: number, at: number, before: number, after: number) =>
    build.ints(...upTo(rank).map((i) => (i === at ? before : 0)), ...upTo(rank).map((i) => (i === at ? after : 0)));
  const apart =
    step > 1
      ? build.reshape(build.op("Pad", [split, margins(shape.length + 1, axis + 1, 0, step - 1)]), full.type.shape.with(axis, count * step))
      : full;
  const rest = shape[axis] - start - apart.type.shape[axis];
  return start === 0 && rest === 0 ? apart : build.op("Pad", [apart, margins(shape.length, axis, start, rest)]);
}

/** Of GatherElements: where each line has one place it is compared with all, which needs no writing in any order. */
export function elementsGradient(build: Builder, grad: Value, shape: Shape, indices: Value, axis: number): Value {
  const { dtype } = grad.type;
  if (indices.type.shape.join() !== shape.with(axis, 1).join())
    return build.op("ScatterElements", [zerosOf(build, dtype, shape), indices, grad], { axis, reduction: "add" });
  const line = build.reshape(indices, shape.toSpliced(axis, 1));
  const chosen = build.op("OneHot", [line, build.ints(shape[axis]), build.constant(dtype, [0, 1])], { axis });
  return build.op("Mul", [chosen, grad]);
}

/** Of GatherND: batches are places too. */
export function placesGradient(build: Builder, grad: Value, shape: Shape, indices: Value, batchDims: number): Value {
  if (batchDims === 0) return scattered(build, grad, shape, indices);
  const lead = indices.type.shape.slice(0, -1);
  const columns = upTo(batchDims).map((axis) => {
    const inner = elementCount(lead.slice(axis + 1));
    const list = upTo(elementCount(lead)).map((i) => Math.floor(i / inner) % lead[axis]);
    return build.constant(indices.type.dtype, list, [...lead, 1]);
  });
  return scattered(build, grad, shape, build.op("Concat", [...columns, indices], { axis: lead.length }));
}
