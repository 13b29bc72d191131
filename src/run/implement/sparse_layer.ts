// SparseMatMul and SparseSampled to kernels: one pattern serves the product, its transpose, and the gradient of the values.
import type { Value } from "../../ir/graph.ts";
import { elementCount } from "../../ir/tensor.ts";
import { type Direction, groupsOf } from "../../kernels/sparse_groups.ts";
import { sparseOrderKernel } from "../../kernels/sparse_order.ts";
import { channelsLast } from "../../kernels/sparse_panel.ts";
import { spreadProductShape } from "../../kernels/sparse_product_shape.ts";
import { sampledIndexOf, sparseSampledKernel } from "../../kernels/sparse_sampled.ts";
import { MAX_COLUMNS } from "../../kernels/sparse_slices.ts";
import { spreadGroups, spreadIndexOf } from "../../kernels/sparse_spread.ts";
import { turnedKernels, turnedMatrixOf, turnedSumBytes } from "../../kernels/sparse_turned.ts";
import { sparseVectorKernel, vectorIndexOf, vectorMatrixOf } from "../../kernels/sparse_vector.ts";
import { turnKernel } from "../../kernels/turn.ts";
import { constantOf } from "../../ops/source.ts";
import { type SparsePatternAttrs, sparseMatMulAttrs, sparsePatternAttrs } from "../../ops/sparse_matmul.ts";
import type { Csb } from "../../sparse/csb.ts";
import {
  type AnchorTask,
  constantPlace,
  type Implementation,
  type KernelCall,
  type Place,
  sharedKernel,
  tailPlaces,
  valuePlace,
} from "../step.ts";
import { kernelCall, productCall } from "./sparse.ts";

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

/** Values one after another from which on they are brought into order as they are read; where panels cut blocks, a row has a few there, and gathering all is faster. */
const LEAST_RUN = 128;

export const implementSparseMatMul: Implementation = (task) => {
  const [x, values, ...pattern] = task.inputs as readonly [Value, Value, ...Value[]]; // checked by infer
  const attrs = sparseMatMulAttrs(task.anchor);
  const w = patternOf(pattern, attrs);
  const { lanes } = task.target;
  // Tiles that are turned around lie inside of blocks.
  if (!w || w.block % lanes !== 0 || x.type.dtype !== "f32" || elementCount(x.type.shape) === 0) return null;
  const direction: Direction = attrs.transposed ? "transposed" : "forward";
  if (elementCount(x.type.shape) === (attrs.transposed ? w.rows : w.columns) && w.columns <= MAX_COLUMNS)
    return timesRow(task, w, direction, x, values);
  const groups = groupsOf(w, direction, task.target, task.threads);
  const n = elementCount(x.type.shape) / groups.depth;
  const spread = spreadGroups(groups);
  if (spread && spread.spread.shape.nonzeros >= LEAST_RUN * spread.spread.shape.runs) {
    const index = [valuePlace(values), ...spreadIndexOf(spread).map(constantPlace)];
    return [kernelCall(task, spreadProductShape(spread, n), index, channelsLast(false), [valuePlace(x)])];
  }
  const [order, ordered] = orderedCall(task, values, w.values.length, groups.place);
  return [order, productCall(task, ordered, groups, n, channelsLast(false), [valuePlace(x)])];
};

/** Values into a kernel's order, in a temporary. */
function orderedCall(task: AnchorTask, values: Value, nonzeros: number, place: Int32Array): readonly [KernelCall, Place] {
  const shape = { nonzeros, length: place.length };
  const ordered: Place = { k: "temporary", id: 0, bytes: 4 * shape.length };
  const kernel = sharedKernel(task, `sparse order ${JSON.stringify(shape)}`, () =>
    sparseOrderKernel(`${task.name}_order`, shape, task.target, task.threads),
  );
  return [{ kernel, places: [valuePlace(values), constantPlace(place), ordered] }, ordered];
}

/** A batch of one: both directions from values in one order. */
function timesRow(task: AnchorTask, w: Csb, direction: Direction, x: Value, values: Value): readonly KernelCall[] {
  const { target, threads, epilogue, epilogueKey } = task;
  const matrix = vectorMatrixOf(w, target, true);
  const [order, ordered] = orderedCall(task, values, w.values.length, matrix.place);
  const turned = direction === "transposed" ? turnedMatrixOf(matrix) : null;
  if (!turned) {
    const kernel = sharedKernel(task, `sparse vector ${JSON.stringify(matrix.shape)} ${epilogueKey}`, () =>
      sparseVectorKernel(task.name, matrix.shape, epilogue, target, threads),
    );
    return [order, { kernel, places: [ordered, ...vectorIndexOf(matrix, threads).map(constantPlace), valuePlace(x), ...tailPlaces(task)] }];
  }
  const { shape, index } = turned;
  const key = `sparse turned ${JSON.stringify(shape)} ${epilogueKey}`;
  const kernels = turnedKernels(task.name, shape, epilogue, target, threads).map((kernel, i) =>
    sharedKernel(task, `${key} ${i}`, () => kernel),
  );
  const spread = [ordered, ...index.map(constantPlace), valuePlace(x)];
  if (kernels.length === 1) return [order, { kernel: kernels[0], places: [...spread, ...tailPlaces(task)] }];
  const sums: Place = { k: "temporary", id: 1, bytes: turnedSumBytes(shape, target, threads) };
  return [order, { kernel: kernels[0], places: [...spread, sums] }, { kernel: kernels[1], places: [sums, ...tailPlaces(task)] }];
}

export const implementSparseSampled: Implementation = (task) => {
  const [g, x, ...pattern] = task.inputs as readonly [Value, Value, ...Value[]]; // checked by infer
  const attrs = sparsePatternAttrs(task.anchor);
  const w = patternOf(pattern, attrs);
  const n = elementCount(g.type.shape) / attrs.rows;
  if (!w || g.type.dtype !== "f32" || n === 0) return null;
  const calls: KernelCall[] = [];
  const operands = [turned(task, g, attrs.rows, 0, calls), turned(task, x, attrs.columns, 1, calls)];
  const { shape, arrays } = sampledIndexOf(w, n, task.target, task.threads);
  const kernel = sharedKernel(task, `sparse sampled ${JSON.stringify(shape)}`, () =>
    sparseSampledKernel(task.name, shape, task.target, task.threads),
  );
  return [...calls, { kernel, places: [...arrays.map(constantPlace), ...operands, valuePlace(task.output)] }];
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
