// Layers with constant weights that are mostly zeros to sparse kernels, where these are predicted to be faster than our dense ones.
import type { Value } from "../../ir/graph.ts";
import { elementCount, fromNumbers } from "../../ir/tensor.ts";
import { type Groups, groupsOf, indexOf, sharesOf } from "../../kernels/sparse_groups.ts";
import { channelsLast, type PixelSource } from "../../kernels/sparse_panel.ts";
import { sparseProductKernel } from "../../kernels/sparse_product.ts";
import { type SparseProductShape, sparseProductShape } from "../../kernels/sparse_product_shape.ts";
import type { DenseSide, InTiles, PanelBuffers } from "../../kernels/sparse_side.ts";
import { fitsTiles } from "../../kernels/sparse_tiles.ts";
import type { MatMulGeometry } from "../../ops/matmul.ts";
import { type Coo, cooFromDense, transposeCoo } from "../../sparse/coo.ts";
import type { Csb } from "../../sparse/csb.ts";
import { countNonzeros, csbFromFloats } from "../../sparse/csb_dense.ts";
import { type AnchorTask, constantPlace, type KernelCall, type Place, sharedKernel, tailPlaces, valuePlace } from "../step.ts";
import { constantFloats } from "./conv_task.ts";
import { isWanted, machineOf, modeOf, note, orderedValues } from "./sparse_choice.ts";
import { codeForecast, codeTimes } from "./sparse_code.ts";
import { blockOf, type Forecast, forecast, forecastOf, isTabled, pays, type Size } from "./sparse_forecast.ts";
import { bestStrips, stripCall, stripFormat } from "./sparse_strips.ts";
import { rowTimesSparse } from "./sparse_vector.ts";

/** A right operand, and whether its rows are the product's columns. */
interface Right {
  readonly value: Value;
  readonly isTransposed: boolean;
}

/** Null: dense kernels are faster, or there are no others. */
export function sparseProduct(task: AnchorTask, a: Value, right: Right, g: MatMulGeometry): readonly KernelCall[] | null {
  if (a.type.dtype !== "f32" || right.value.type.dtype !== "f32" || modeOf(task) === "never") return null;
  const isPlain = elementCount(g.batch) === 1;
  if (isPlain && g.m === 1) return rowTimesSparse(task, a, right, g);
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

/** W (m,k) · x (k,n). */
function sparseTimesMatrix(task: AnchorTask, left: Value, x: Value | null, { m, k, n }: MatMulGeometry): readonly KernelCall[] | null {
  const weights = constantFloats(left);
  if (!x || !weights) return null;
  const size = { rows: m, depth: k, n };
  const nonzeros = countNonzeros(weights);
  const code = codeTimes(task, () => cooOf(weights, m, k), nonzeros, { places: [valuePlace(x)] }, size);
  if (code) return [code];
  const chosen = chooseSparse(task, size, nonzeros, false, (block) => csbFromFloats(weights, { rows: m, columns: k, block }));
  return chosen && [productCall(task, orderedValues(chosen.w, chosen.groups.place), chosen.groups, n, undefined, [valuePlace(x)])];
}

const cooOf = (weights: Float32Array, rows: number, columns: number): Coo => cooFromDense(fromNumbers("f32", [rows, columns], weights));

/** What a layer with channels last multiplies by: weights (rows, depth), or (depth, rows) where they are not transposed, and the place of a bias. */
export interface SparseWeights {
  readonly weights: Float32Array;
  readonly isTransposed: boolean;
  readonly bias: readonly Place[];
}

/** Where the activations of a layer are, if not in rows. */
export interface SparseInput {
  readonly places: readonly Place[];
  readonly source: PixelSource;
}

/** x (n,depth) · Wᵀ (depth,rows) + bias, by panels of x. */
export function rowsTimesSparse(task: AnchorTask, x: Place | SparseInput, w: SparseWeights, size: Size): readonly KernelCall[] | null {
  const { rows, depth, n } = size;
  if (modeOf(task) === "never") return null;
  const nonzeros = countNonzeros(w.weights);
  const blocks = rowsTimesBlocks(task, x, w, size, nonzeros);
  if (blocks) return [blocks];
  const { places, source } = "places" in x ? x : { places: [x], source: undefined };
  const hasBias = w.bias.length > 0;
  const side = channelsLast(hasBias, source);
  const operand = { places: [...places, ...w.bias], side, key: `${w.bias.length} ${source?.key ?? ""}` };
  const coo = (): Coo => (w.isTransposed ? cooOf(w.weights, rows, depth) : transposeCoo(cooOf(w.weights, depth, rows)));
  const code = codeTimes(task, coo, nonzeros, operand, size);
  if (code) return [code];
  const chosen = chooseSparse(task, size, nonzeros, true, (block) =>
    csbFromFloats(w.weights, { rows, columns: depth, isTurned: !w.isTransposed, block }),
  );
  if (!chosen) return null;
  const values = orderedValues(chosen.w, chosen.groups.place);
  const again = (inTiles: InTiles): KernelCall =>
    productCall(task, values, chosen.groups, n, channelsLast(hasBias, source, inTiles), operand.places, source?.key);
  const own = "places" in x || x.k !== "value" ? null : x.value;
  return [{ ...again({}), tiled: { n, rows, depth, operand: own, result: fitsTiles(task.epilogue, rows) ? task.output : null, again } }];
}

/** Null where zeros do not lie in blocks, so that kernels for single nonzeros or the dense one are predicted to be faster. */
function rowsTimesBlocks(task: AnchorTask, x: Place | SparseInput, w: SparseWeights, size: Size, nonzeros: number): KernelCall | null {
  const { rows, depth, n } = size;
  const density = nonzeros / (rows * depth);
  const isForced = modeOf(task) === "always";
  if (nonzeros === 0 || (!isForced && !isTabled(size, density))) return null;
  const machine = machineOf(task);
  const weights = { weights: w.weights, rows, depth, isByRows: w.isTransposed };
  const best = bestStrips(weights, size, w.bias.length > 0, machine);
  const others = forecast(size, density, true, machine);
  const ms = { denseMs: others.denseMs, sparseMs: best.sparseMs };
  const code = codeForecast(size, nonzeros, true, machine);
  const least = code?.isBest ? code.sparseMs : others.sparseMs;
  if (!(isForced || isWanted(task, pays(ms))) || ms.sparseMs > least) return null;
  note(task, { rows, depth, n, density, ...ms, isSparse: true, format: stripFormat(best.strips) });
  const { places, source } = "places" in x ? x : { places: [x], source: undefined };
  return stripCall(task, weights, best, [...places, ...w.bias], source);
}

interface Chosen {
  readonly w: Csb;
  readonly groups: Groups;
}

/** The matrix in the order of its kernel; null where the dense product is predicted to be faster. */
function chooseSparse(task: AnchorTask, size: Size, nonzeros: number, sharesColumns: boolean, make: (block: number) => Csb): Chosen | null {
  const { rows, depth, n } = size;
  const { threads } = task;
  const density = nonzeros / (rows * depth);
  const mode = modeOf(task);
  if (nonzeros === 0 || (mode === "auto" && !isTabled(size, density))) return null;
  const machine = machineOf(task);
  // Random places first: where those lose, nothing is converted.
  const guess = forecast(size, density, sharesColumns, machine);
  const isWorth = (ms: Forecast): boolean => mode === "always" || isWanted(task, pays(ms));
  const w = isWorth(guess) ? make(blockOf(size, sharesColumns, threads)) : null;
  const groups = w && groupsOf(w, "forward", task.target, threads, sharesColumns ? 0 : n);
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
  side: DenseSide<PanelBuffers> | undefined,
  x: readonly Place[],
  source = "",
): KernelCall {
  const index = [...indexOf(groups), ...(side ? [] : sharesOf(groups, n, task.target, task.threads))];
  return kernelCall(task, sparseProductShape(groups, n), [values, ...index.map(constantPlace)], side, x, source);
}

/** The same of any shape, over its values and index. */
export function kernelCall(
  task: AnchorTask,
  shape: SparseProductShape,
  index: readonly Place[],
  side: DenseSide<PanelBuffers> | undefined,
  x: readonly Place[],
  source = "",
): KernelCall {
  const kernel = sharedKernel(
    task,
    `sparse product ${JSON.stringify([shape, side && [x.length, side.takesTiles, side.givesTiles]])} ${source} ${task.epilogueKey}`,
    () => sparseProductKernel(task.name, shape, task.epilogue, task.target, task.threads, side),
  );
  return { kernel, places: [...index, ...x, ...tailPlaces(task)] };
}
