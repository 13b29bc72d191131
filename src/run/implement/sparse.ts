// Layers with constant weights that are mostly zeros to sparse kernels, where these are predicted to be faster than our dense ones.
import type { Value } from "../../ir/graph.ts";
import type { SimdTarget } from "../../ir/kernel.ts";
import { elementCount, fromNumbers } from "../../ir/tensor.ts";
import { type Groups, groupsOf, shareBlockRows } from "../../kernels/sparse_groups.ts";
import { channelsLast } from "../../kernels/sparse_panel.ts";
import { type DenseSide, sparseProductKernel, sparseProductShape } from "../../kernels/sparse_product.ts";
import { shareWindows, slicesOf, sparseVectorKernel, sparseVectorShape } from "../../kernels/sparse_vector.ts";
import type { MatMulGeometry } from "../../ops/matmul.ts";
import { cooFromDense, transposeCoo } from "../../sparse/coo.ts";
import { type Csb, csbFromCoo } from "../../sparse/csb.ts";
import {
  type AnchorTask,
  constantPlace,
  type KernelCall,
  type Place,
  packedPlace,
  type SparseChoice,
  sharedKernel,
  tailPlaces,
  valuePlace,
} from "../step.ts";
import { constantFloats } from "./conv_task.ts";
import { codeTimesMatrix } from "./sparse_code.ts";
import { USUAL_RATES } from "./sparse_cost.ts";
import { blockOf, type Forecast, forecast, forecastOf, LEAST_TABLED, pays, type Size } from "./sparse_forecast.ts";

/** A right operand, and whether its rows are the product's columns. */
interface Right {
  readonly value: Value;
  readonly isTransposed: boolean;
}

/** Null: dense kernels are faster, or there are no others. */
export function sparseProduct(task: AnchorTask, a: Value, right: Right, g: MatMulGeometry): readonly KernelCall[] | null {
  if (a.type.dtype !== "f32" || right.value.type.dtype !== "f32" || modeOf(task) === "never") return null;
  const isPlain = elementCount(g.batch) === 1;
  if (isPlain && g.m === 1 && task.target.name === "avx512") return rowTimesSparse(task, a, right, g);
  const weights = constantFloats(right.value);
  if (weights && elementCount(g.batchB) === 1 && elementCount(g.batchA) === elementCount(g.batch))
    return rowsTimesSparse(
      task,
      valuePlace(a),
      { weights, isTransposed: right.isTransposed, bias: [] },
      {
        rows: g.n,
        depth: g.k,
        n: elementCount(g.batch) * g.m,
      },
    );
  return isPlain ? sparseTimesMatrix(task, a, right.isTransposed ? null : right.value, g) : null;
}

/** x (1,k) · W (k,n) is Wᵀ·x. */
function rowTimesSparse(
  task: AnchorTask,
  x: Value,
  { value, isTransposed }: Right,
  { k, n }: MatMulGeometry,
): readonly KernelCall[] | null {
  const weights = constantFloats(value);
  if (!weights || k > 65535 || (n < LEAST_ROWS_OF_VECTOR * task.threads && modeOf(task) === "auto")) return null;
  const nonzeros = countNonzeros(weights);
  if (nonzeros === 0) return null;
  const isSparse = modeOf(task) === "always" || vectorPays(nonzeros, k * n, task.target);
  if (nonzeros < LEAST_TABLED * k * n)
    note(task, { rows: n, depth: k, n: 1, density: nonzeros / (k * n), ...vectorMs(nonzeros, k * n, task.target), isSparse });
  if (!isSparse) return null;
  const coo = cooFromDense(fromNumbers("f32", isTransposed ? [n, k] : [k, n], weights));
  const w = csbFromCoo(isTransposed ? coo : transposeCoo(coo));
  const slices = slicesOf(w, task.target.lanes);
  const shape = sparseVectorShape(slices);
  const kernel = sharedKernel(task, `sparse vector ${JSON.stringify(shape)} ${task.epilogueKey}`, () =>
    sparseVectorKernel(task.name, shape, task.epilogue, task.target, task.threads),
  );
  const index = [slices.column, slices.bounds, slices.order, shareWindows(slices, task.threads)];
  return [{ kernel, places: [orderedValues(w, slices.place), ...index.map(constantPlace), valuePlace(x), ...tailPlaces(task)] }];
}

/** W (m,k) · x (k,n). */
function sparseTimesMatrix(task: AnchorTask, left: Value, x: Value | null, { m, k, n }: MatMulGeometry): readonly KernelCall[] | null {
  const weights = constantFloats(left);
  if (!x || !weights) return null;
  const size = { rows: m, depth: k, n };
  const nonzeros = countNonzeros(weights);
  const code = codeTimesMatrix(task, weights, nonzeros, x, size);
  if (code) return [code];
  const chosen = chooseSparse(task, size, nonzeros, false, (block) =>
    csbFromCoo(cooFromDense(fromNumbers("f32", [m, k], weights)), { block }),
  );
  return chosen && [productCall(task, orderedValues(chosen.w, chosen.groups.place), chosen.groups, n, undefined, [valuePlace(x)])];
}

/** What a layer with channels last multiplies by: weights (rows, depth), or (depth, rows) where they are not transposed, and the place of a bias. */
export interface SparseWeights {
  readonly weights: Float32Array;
  readonly isTransposed: boolean;
  readonly bias: readonly Place[];
}

/** x (n,depth) · Wᵀ (depth,rows) + bias, by panels of x. */
export function rowsTimesSparse(task: AnchorTask, x: Place, w: SparseWeights, size: Size): readonly KernelCall[] | null {
  const { rows, depth, n } = size;
  if (modeOf(task) === "never") return null;
  const chosen = chooseSparse(task, size, countNonzeros(w.weights), true, (block) => {
    const coo = cooFromDense(fromNumbers("f32", w.isTransposed ? [rows, depth] : [depth, rows], w.weights));
    return csbFromCoo(w.isTransposed ? coo : transposeCoo(coo), { block });
  });
  if (!chosen) return null;
  const values = orderedValues(chosen.w, chosen.groups.place);
  return [productCall(task, values, chosen.groups, n, channelsLast(w.bias.length > 0), [x, ...w.bias])];
}

interface Chosen {
  readonly w: Csb;
  readonly groups: Groups;
}

/** The matrix in the order of its kernel; null where the dense product is predicted to be faster. */
function chooseSparse(task: AnchorTask, size: Size, nonzeros: number, sharesColumns: boolean, make: (block: number) => Csb): Chosen | null {
  const { rows, depth, n } = size;
  const { threads, target } = task;
  const density = nonzeros / (rows * depth);
  const mode = modeOf(task);
  if (nonzeros === 0 || (mode === "auto" && (density > LEAST_TABLED || n < 2))) return null;
  const machine = { target, threads, rates: task.sparse?.rates ?? USUAL_RATES[target.name] };
  // Random places first: where those lose, nothing is converted.
  const guess = forecast(size, density, sharesColumns, machine);
  const isWorth = (ms: Forecast): boolean => mode === "always" || pays(ms);
  const w = isWorth(guess) ? make(blockOf(size, sharesColumns, threads)) : null;
  const groups = w && groupsOf(w, "forward", threads);
  const ms = groups ? forecastOf(size, groups, sharesColumns, machine) : guess;
  const isSparse = groups !== null && isWorth(ms);
  note(task, { rows, depth, n, density, ...ms, isSparse });
  return isSparse && w && groups ? { w, groups } : null;
}

/** The kernel over values that lie in the order of groups. No side: operand and result have channels first. */
export function productCall(
  task: AnchorTask,
  values: Place,
  groups: Groups,
  n: number,
  side: DenseSide | undefined,
  x: readonly Place[],
): KernelCall {
  const shape = sparseProductShape(groups, n);
  const kernel = sharedKernel(task, `sparse product ${JSON.stringify([shape, side && x.length])} ${task.epilogueKey}`, () =>
    sparseProductKernel(task.name, shape, task.epilogue, task.target, task.threads, side),
  );
  const index = [groups.coordinate, groups.row, groups.bounds, groups.starts, ...(side ? [] : [shareBlockRows(groups, task.threads)])];
  return { kernel, places: [values, ...index.map(constantPlace), ...x, ...tailPlaces(task)] };
}

const modeOf = (task: AnchorTask) => task.sparse?.mode ?? "auto";
const note = (task: AnchorTask, choice: Omit<SparseChoice, "node">): void => {
  task.sparse?.choices.push({ node: task.output.node, ...choice });
};

/** Values in the kernel's order. */
const orderedValues = (w: Csb, place: Int32Array): Place =>
  packedPlace((out) => {
    for (let i = 0; i < place.length; i++) if (place[i] >= 0) out[i] = w.values[place[i]];
  });

/** Rows for each thread: fewer leave threads without work. */
const LEAST_ROWS_OF_VECTOR = 120;

/** Nonzeros a nanosecond that one core multiplies by a vector, and elements that the dense product does, from the second-level cache and beyond it. */
const NONZEROS = 3;
const CACHED_ELEMENTS = 27;
const STREAMED_ELEMENTS = 11;
/** Below that many elements, what a kernel does around its loops counts. */
const LEAST_ELEMENTS = 65536;

function vectorPays(nonzeros: number, elements: number, target: SimdTarget): boolean {
  if (elements < LEAST_ELEMENTS) return false;
  const { denseMs, sparseMs } = vectorMs(nonzeros, elements, target);
  return sparseMs < denseMs;
}

function vectorMs(nonzeros: number, elements: number, { l2 }: SimdTarget): { readonly denseMs: number; readonly sparseMs: number } {
  const rate = elements * 4 <= 4 * l2 ? CACHED_ELEMENTS : STREAMED_ELEMENTS;
  return { denseMs: elements / rate / 1e6, sparseMs: nonzeros / NONZEROS / 1e6 };
}

function countNonzeros(values: Float32Array): number {
  let count = 0;
  for (let i = 0; i < values.length; i++) if (values[i] !== 0) count++;
  return count;
}
