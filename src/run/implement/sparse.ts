// Layers with constant weights that are mostly zeros to sparse kernels, where these are predicted to be faster than our dense ones.
import type { Value } from "../../ir/graph.ts";
import type { SimdTarget } from "../../ir/kernel.ts";
import { elementCount, fromNumbers } from "../../ir/tensor.ts";
import { GROUP_HEIGHT, type Groups, groupsOf, SPARSE_BLOCK, shareBlockRows } from "../../kernels/sparse_groups.ts";
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
import { denseMs, MARGIN, type SparseLayer, sparseMs, USUAL_RATES } from "./sparse_cost.ts";

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
  const chosen = chooseSparse(task, size, countNonzeros(weights), false, (block) =>
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
type Size = Pick<SparseLayer, "rows" | "depth" | "n">;

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
  // Block rows are shared out where columns are not, or too few: small ones then.
  const isShort = rows < 4 * SMALL_BLOCK * threads && (!sharesColumns || n < threads * SMALL_BLOCK);
  const block = isShort ? SMALL_BLOCK : SPARSE_BLOCK;
  const rates = task.sparse?.rates ?? USUAL_RATES[target.name];
  const predict = (length: number, shared: number, visits: number) => {
    const layer = { ...size, length: asRated(length, shared), visits, block, sharesColumns };
    return { denseMs: denseMs(layer, rates, threads), sparseMs: sparseMs(layer, rates, target, threads) };
  };
  // Random places first: where those lose, nothing is converted.
  const guess = predict(nonzeros * USUAL_FILL, LEAST_SHARED + density * SHARED_OF_DENSITY, rows * Math.ceil(depth / block));
  const loses = (ms: { denseMs: number; sparseMs: number }): boolean => mode === "auto" && ms.sparseMs > MARGIN * ms.denseMs;
  const w = loses(guess) ? null : make(block);
  const groups = w && groupsOf(w, "forward", task.threads);
  const ms = groups ? predict(groups.coordinate.length, sharedPart(groups), groups.row.length) : guess;
  const isSparse = groups !== null && !loses(ms);
  note(task, { rows, depth, n, density, ...ms, isSparse });
  return isSparse && w && groups ? { w, groups } : null;
}

/** Nonzeros as many as take equally long where the rate of one was measured. Those in shared turns take SHARED_COST of the others' time. */
const asRated = (length: number, shared: number): number =>
  (length * (1 - (1 - SHARED_COST) * shared)) / (1 - (1 - SHARED_COST) * RATED_SHARED);

/** The part of the nonzeros that two rows meet in one turn. */
function sharedPart({ bounds, coordinate }: Groups): number {
  let turns = 0;
  for (let g = 0; g + 2 < bounds.length; g += 2) turns += bounds[g + 1] - bounds[g];
  return (GROUP_HEIGHT * turns) / coordinate.length;
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

/** Layers with fewer zeros are not looked at. */
const LEAST_TABLED = 0.7;
const SMALL_BLOCK = 64;
/** What groups are filled up with, for nonzeros at random places. */
const USUAL_FILL = 1.06;
/** At random places so much of the nonzeros shares turns, and so much more of them with density: 0.46 at four tenths, 0.29 at two, 0.17 at one twentieth. */
const [LEAST_SHARED, SHARED_OF_DENSITY] = [0.12, 0.86];
/** Fitted to 56 layers of 5 to 60 % density on AVX-512; with it predictions of speed-up are within a tenth for large layers, without it 60 % of zeros look a quarter slower than they are. */
const SHARED_COST = 0.55;
/** Of the matrices on which rates are measured (run/sparse_rates.ts), the mean. */
const RATED_SHARED = 0.23;
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
