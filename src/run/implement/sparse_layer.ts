// SparseMatMul and SparseSampled to kernels: one pattern serves the product, its transpose, and the gradient of the values.
import type { Value } from "../../ir/graph.ts";
import { elementCount } from "../../ir/tensor.ts";
import { type Direction, groupsOf } from "../../kernels/sparse_groups.ts";
import { sparseOrderKernel } from "../../kernels/sparse_order.ts";
import { channelsLast } from "../../kernels/sparse_panel.ts";
import { shareCsbRows, sparseSampledKernel, sparseSampledShape } from "../../kernels/sparse_sampled.ts";
import { turnKernel } from "../../kernels/turn.ts";
import { constantOf } from "../../ops/source.ts";
import { type SparsePatternAttrs, sparseMatMulAttrs, sparsePatternAttrs } from "../../ops/sparse_matmul.ts";
import type { Csb } from "../../sparse/csb.ts";
import { type AnchorTask, constantPlace, type Implementation, type KernelCall, type Place, sharedKernel, valuePlace } from "../step.ts";
import { productCall } from "./sparse.ts";

/** The pattern as a matrix of zeros; null where it is computed at run time, or empty. */
function patternOf([pointers, row, column]: readonly (Value | null)[], { rows, columns, block }: SparsePatternAttrs): Csb | null {
  const [starts, inRow, inColumn] = [pointers, row, column].map((v) => constantOf(v)?.data);
  if (!(starts instanceof Int32Array && inRow instanceof Uint8Array && inColumn instanceof Uint8Array) || inRow.length === 0) return null;
  return {
    kind: "csb",
    rows,
    columns,
    block,
    blockRows: Math.ceil(rows / block),
    blockColumns: Math.ceil(columns / block),
    order: "row",
    pointers: Uint32Array.from(starts),
    row: inRow,
    column: inColumn,
    dtype: "f32",
    values: new Float32Array(inRow.length),
  };
}

export const implementSparseMatMul: Implementation = (task) => {
  const [x, values, ...pattern] = task.inputs as readonly [Value, Value, ...Value[]]; // checked by infer
  const attrs = sparseMatMulAttrs(task.anchor);
  const w = patternOf(pattern, attrs);
  const { lanes } = task.target;
  // Tiles that are turned around lie inside of blocks.
  if (!w || w.block % lanes !== 0 || x.type.dtype !== "f32" || elementCount(x.type.shape) === 0) return null;
  const direction: Direction = attrs.transposed ? "transposed" : "forward";
  const groups = groupsOf(w, direction, task.threads);
  const shape = { nonzeros: w.values.length, length: groups.place.length };
  const ordered: Place = { k: "temporary", id: 0, bytes: 4 * shape.length };
  const order = sharedKernel(task, `sparse order ${JSON.stringify(shape)}`, () =>
    sparseOrderKernel(`${task.name}_order`, shape, task.target, task.threads),
  );
  return [
    { kernel: order, places: [valuePlace(values), constantPlace(groups.place), ordered] },
    productCall(task, ordered, groups, elementCount(x.type.shape) / groups.depth, channelsLast(false), [valuePlace(x)]),
  ];
};

export const implementSparseSampled: Implementation = (task) => {
  const [g, x, ...pattern] = task.inputs as readonly [Value, Value, ...Value[]]; // checked by infer
  const attrs = sparsePatternAttrs(task.anchor);
  const w = patternOf(pattern, attrs);
  const n = elementCount(g.type.shape) / attrs.rows;
  if (!w || g.type.dtype !== "f32" || n === 0) return null;
  const calls: KernelCall[] = [];
  const operands = [turned(task, g, attrs.rows, 0, calls), turned(task, x, attrs.columns, 1, calls)];
  const shape = sparseSampledShape(w, n);
  const kernel = sharedKernel(task, `sparse sampled ${JSON.stringify(shape)}`, () =>
    sparseSampledKernel(task.name, shape, task.target, task.threads),
  );
  const index = [w.pointers, w.row, w.column, shareCsbRows(w, task.threads)].map(constantPlace);
  return [...calls, { kernel, places: [...index, ...operands, valuePlace(task.output)] }];
};

/** (n, columns) as (columns, n), in a temporary. */
function turned(task: AnchorTask, value: Value, columns: number, id: number, calls: KernelCall[]): Place {
  const rows = elementCount(value.type.shape) / columns;
  const place: Place = { k: "temporary", id, bytes: 4 * rows * columns };
  const kernel = sharedKernel(task, `turn ${rows} ${columns}`, () =>
    turnKernel(`${task.name}_turn`, rows, columns, task.target, task.threads),
  );
  calls.push({ kernel, places: [valuePlace(value), place] });
  return place;
}
