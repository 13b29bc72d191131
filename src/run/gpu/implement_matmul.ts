// MatMul to SIMT products: operands are read by strides, so that a Transpose before one costs nothing.
import type { Value } from "../../ir/graph.ts";
import { unlinearIndex } from "../../ir/index_expr.ts";
import { elementCount, stridesOf } from "../../ir/tensor.ts";
import { type Axis, joined, type Operand, stridedOperand } from "../../kernels/simt/operand.ts";
import { type MatMulGeometry, productGeometry } from "../../ops/matmul.ts";
import { transposed } from "../implement/transposed.ts";
import { valuePlace } from "../step.ts";
import { type GpuImplementation, productCalls, type Source } from "./product_calls.ts";

/** An operand's axes: those of the batches, with stride 0 where it has one for all, and its own two. */
interface View {
  readonly value: Value;
  readonly batch: readonly Axis[];
  readonly row: Axis;
  readonly depth: Axis;
}

/** Fewer multiply-adds are done before a tile is loaded: the expression's kernel is as quick, and compiles sooner. */
const LEAST_PRODUCTS = 1 << 12;

export const implementMatMul: GpuImplementation = (task) => {
  const [a, b] = task.inputs as readonly [Value, Value]; // MatMul's inputs are never absent
  const g = productGeometry("MatMul", a.type.shape, b.type.shape);
  const isFloat = [a, b].every(({ type: { dtype } }) => dtype === "f32" || dtype === "f16" || dtype === "bf16");
  if (!isFloat || elementCount(g.batch) * g.m * g.n * g.k < LEAST_PRODUCTS) return null;
  const [left, right] = [viewOf(a, g, "left"), viewOf(b, g, "right")];
  const rows = joined([...left.batch, left.row]);
  // One product of many rows where the right operand is the same for all batches.
  const isOne = elementCount(g.batchB) === 1 && elementCount(g.batch) > 1 && rows.length === 1;
  const own: View = isOne ? { ...left, batch: [], row: rows[0] } : left;
  const batch = isOne ? [] : g.batch;
  const outer = task.output.type.shape.slice(0, g.shape.length - (b.type.shape.length === 1 ? 0 : 1));
  const sources = [sourceOf(own), sourceOf({ ...right, batch: isOne ? [] : right.batch })] as const;
  const [isRow, isColumn] = [a.type.shape.length === 1, b.type.shape.length === 1];
  return productCalls(task, {
    left: sources[0],
    right: sources[1],
    batch: elementCount(batch),
    place: (number, row, column) => {
      const ends = isColumn ? [] : [column];
      if (isOne) return [...unlinearIndex(row, outer), ...ends];
      return [...unlinearIndex(number, g.batch), ...(isRow ? [] : [row]), ...ends];
    },
    key: JSON.stringify([batch, axesOf(own), axesOf(right), a.type.dtype, b.type.dtype, isOne]),
  });
};

const axesOf = ({ batch, row, depth }: View): readonly unknown[] => [batch, row, depth];

function viewOf(value: Value, g: MatMulGeometry, side: "left" | "right"): View {
  const source = transposed(value);
  const { shape } = value.type;
  const strides = source ? source.perm.map((axis) => stridesOf(source.before.type.shape)[axis]) : stridesOf(shape);
  const axes = shape.map((extent, i): Axis => ({ extent, stride: strides[i] }));
  const last = axes[axes.length - 1];
  const [outer, inner] = axes.length === 1 ? [undefined, last] : [axes[axes.length - 2], last];
  const single: Axis = { extent: 1, stride: 0 };
  const [row, depth] = side === "left" ? [outer ?? single, inner] : outer ? [inner, outer] : [single, inner];
  const skip = g.batch.length - (axes.length - 2);
  const batch = g.batch.map((extent, i): Axis => {
    const axis = axes.length > 2 ? axes[i - skip] : undefined;
    return { extent, stride: axis && axis.extent > 1 ? axis.stride : 0 };
  });
  return {
    value: source?.before ?? value,
    batch: axes.length > 2 ? batch : batch.map(({ extent }) => ({ extent, stride: 0 })),
    row,
    depth,
  };
}

function sourceOf({ value, batch, row, depth }: View): Source {
  const { dtype, shape } = value.type;
  const operand: Operand = stridedOperand(dtype, elementCount(shape), batch, row, depth);
  return { operand, place: valuePlace(value) };
}
