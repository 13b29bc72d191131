// A product with a constant matrix that is mostly zeros to sparse kernels, where they are measured to be faster than our dense ones.
import type { TypedArray } from "../../ir/dtype.ts";
import type { Value } from "../../ir/graph.ts";
import type { SimdTarget } from "../../ir/kernel.ts";
import { elementCount, fromNumbers } from "../../ir/tensor.ts";
import { groupsOf, shareBlockRows, sparseBlock } from "../../kernels/sparse_groups.ts";
import { GROUP_HEIGHT, sparseProductKernel, sparseProductShape } from "../../kernels/sparse_product.ts";
import { shareWindows, slicesOf, sparseVectorKernel, sparseVectorShape } from "../../kernels/sparse_vector.ts";
import type { MatMulGeometry } from "../../ops/matmul.ts";
import { cooFromDense, transposeCoo } from "../../sparse/coo.ts";
import { type Csb, csbFromCoo } from "../../sparse/csb.ts";
import { type AnchorTask, constantPlace, type KernelCall, packedPlace, sharedKernel, tailPlaces, valuePlace } from "../step.ts";
import { constantFloats } from "./conv_task.ts";

/** A right operand, and whether its rows are the product's columns. */
interface Right {
  readonly value: Value;
  readonly isTransposed: boolean;
}

/** Null: dense kernels are faster, or there are no others. */
export function sparseProduct(task: AnchorTask, a: Value, right: Right, g: MatMulGeometry): readonly KernelCall[] | null {
  if (task.target.name !== "avx512" || a.type.dtype !== "f32" || right.value.type.dtype !== "f32") return null; // what was measured
  const isPlain = elementCount(g.batch) === 1;
  if (!isPlain) return null;
  return g.m === 1 ? rowTimesSparse(task, a, right, g) : sparseTimesMatrix(task, a, right.isTransposed ? null : right.value, g);
}

/** x (1,k) · W (k,n) is Wᵀ·x. */
function rowTimesSparse(
  task: AnchorTask,
  x: Value,
  { value, isTransposed }: Right,
  { k, n }: MatMulGeometry,
): readonly KernelCall[] | null {
  const weights = constantFloats(value);
  if (!weights || k > 65535 || n < LEAST_ROWS_OF_VECTOR * task.threads) return null;
  if (!vectorPays(countNonzeros(weights), k * n, task.target)) return null;
  const coo = cooFromDense(fromNumbers("f32", isTransposed ? [n, k] : [k, n], weights));
  const w = csbFromCoo(isTransposed ? coo : transposeCoo(coo));
  const slices = slicesOf(w, task.target.lanes);
  const shape = sparseVectorShape(slices);
  const kernel = sharedKernel(task, `sparse vector ${JSON.stringify(shape)} ${task.epilogueKey}`, () =>
    sparseVectorKernel(task.name, shape, task.epilogue, task.target, task.threads),
  );
  const index = [slices.column, slices.bounds, slices.order, shareWindows(slices, task.threads)];
  return [call(task, kernel, w, slices.place, index, x)];
}

/** W (m,k) · x (k,n). */
function sparseTimesMatrix(task: AnchorTask, left: Value, x: Value | null, { m, k, n }: MatMulGeometry): readonly KernelCall[] | null {
  const weights = constantFloats(left);
  if (!x || !weights) return null;
  const density = countNonzeros(weights) / weights.length;
  if (density > MOST_DENSE || n < LEAST_COLUMNS || m < LEAST_ROWS * task.threads) return null;
  // Block rows are shared out: with few of them, small ones.
  const block = m < 4 * LEAST_ROWS * task.threads ? LEAST_ROWS : sparseBlock(density);
  const w = csbFromCoo(cooFromDense(fromNumbers("f32", [m, k], weights)), { block });
  const groups = groupsOf(w, "forward", GROUP_HEIGHT);
  const shape = sparseProductShape(groups, n);
  const kernel = sharedKernel(task, `sparse product ${JSON.stringify(shape)} ${task.epilogueKey}`, () =>
    sparseProductKernel(task.name, shape, task.epilogue, task.target, task.threads),
  );
  const index = [groups.coordinate, groups.row, groups.bounds, groups.starts, shareBlockRows(groups, task.threads)];
  return [call(task, kernel, w, groups.place, index, x)];
}

/** Values in the kernel's order, the index, the dense operand, and what the epilogue needs. */
function call(
  task: AnchorTask,
  kernel: KernelCall["kernel"],
  w: Csb,
  place: Int32Array,
  index: readonly TypedArray[],
  x: Value,
): KernelCall {
  const values = packedPlace((out) => {
    for (let i = 0; i < place.length; i++) if (place[i] >= 0) out[i] = w.values[place[i]];
  });
  return { kernel, places: [values, ...index.map(constantPlace), valuePlace(x), ...tailPlaces(task)] };
}

/** One AVX-512 core (Zen 5), 8 columns and more: sparse kernels win from two zeros out of three on. */
const MOST_DENSE = 0.33;
const LEAST_COLUMNS = 8;
/** Rows for each thread: fewer do not pay for the copy of the dense operand's panel, or leave threads without work. */
const LEAST_ROWS = 64;
const LEAST_ROWS_OF_VECTOR = 120;

/** Nonzeros a nanosecond that one core multiplies by a vector, and elements that the dense product does, from the second-level cache and beyond it. */
const NONZEROS = 3;
const CACHED_ELEMENTS = 27;
const STREAMED_ELEMENTS = 11;
/** Below that many elements, what a kernel does around its loops counts. */
const LEAST_ELEMENTS = 65536;

function vectorPays(nonzeros: number, elements: number, { l2 }: SimdTarget): boolean {
  if (elements < LEAST_ELEMENTS || nonzeros === 0) return false;
  const dense = elements / (elements * 4 <= 4 * l2 ? CACHED_ELEMENTS : STREAMED_ELEMENTS);
  return nonzeros / NONZEROS < dense;
}

function countNonzeros(values: Float32Array): number {
  let count = 0;
  for (let i = 0; i < values.length; i++) if (values[i] !== 0) count++;
  return count;
}
