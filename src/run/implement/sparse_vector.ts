// A row times constant weights that are mostly zeros: a layer at batch 1. Both kernels wait for memory, or the sparse one for its steps.
import type { Value } from "../../ir/graph.ts";
import { SPARSE_BLOCK } from "../../kernels/sparse_groups.ts";
import { sparseVectorKernel, type VectorMatrix, vectorIndexOf, vectorMatrixOf } from "../../kernels/sparse_vector.ts";
import type { MatMulGeometry } from "../../ops/matmul.ts";
import { countNonzeros, csbFromFloats } from "../../sparse/csb_dense.ts";
import { type AnchorTask, constantPlace, type KernelCall, sharedKernel, tailPlaces, valuePlace } from "../step.ts";
import { constantFloats } from "./conv_task.ts";
import { isWanted, machineOf, modeOf, note, orderedValues } from "./sparse_choice.ts";
import type { Forecast } from "./sparse_forecast.ts";
import { rowTimesBlocks } from "./sparse_strips.ts";
import { vectorFits, vectorForecast, vectorForecastOf, vectorPays } from "./sparse_vector_cost.ts";

/** Weights with fewer zeros are not noted as sparse. */
const MOST_DENSITY = 0.8;

/** x (1,k) · W (k,n), which is Wᵀ·x; null where the dense product is predicted to be faster. */
export function rowTimesSparse(
  task: AnchorTask,
  x: Value,
  { value, isTransposed }: { readonly value: Value; readonly isTransposed: boolean },
  { k, n }: MatMulGeometry,
): readonly KernelCall[] | null {
  const { target } = task;
  const weights = constantFloats(value);
  const isAuto = modeOf(task) === "auto";
  if (!weights || k > 65535) return null;
  const nonzeros = countNonzeros(weights);
  const density = nonzeros / (k * n);
  if (nonzeros === 0 || (isAuto && density > MOST_DENSITY)) return null;
  const size = { rows: n, depth: k, n: 1 };
  const machine = machineOf(task);
  const guess = vectorForecast(size, density, machine);
  const blocks = rowTimesBlocks(task, x, { weights, rows: n, depth: k, isByRows: isTransposed });
  const isWorth = (ms: Forecast): boolean => !isAuto || (vectorFits(size) && isWanted(task, vectorPays(ms)));
  if (blocks && blocks.ms.sparseMs < guess.sparseMs && isWorth(blocks.ms)) {
    const { denseMs, sparseMs, threads } = blocks.ms;
    note(task, { ...size, density, denseMs, sparseMs, isSparse: true, format: blocks.format });
    return [blocks.call(threads)];
  }
  // Random places first: where those lose, nothing is converted.
  const csb = isWorth(guess) ? csbFromFloats(weights, { rows: n, columns: k, isTurned: !isTransposed, block: SPARSE_BLOCK }) : null;
  const w = csb && vectorMatrixOf(csb, target);
  const ms = w ? vectorForecastOf(size, w, machine) : guess;
  const isSparse = w !== null && isWorth(ms);
  const { denseMs, sparseMs, threads } = ms;
  note(task, { ...size, density, denseMs, sparseMs, isSparse });
  return isSparse ? [vectorCall({ ...task, threads }, w, orderedValues(csb!, w.place), x)] : null; // w was made of it
}

function vectorCall(task: AnchorTask, w: VectorMatrix, values: ReturnType<typeof orderedValues>, x: Value): KernelCall {
  const { target, threads } = task;
  const kernel = sharedKernel(task, `sparse vector ${JSON.stringify(w.shape)} ${task.epilogueKey}`, () =>
    sparseVectorKernel(task.name, w.shape, task.epilogue, target, threads),
  );
  return { kernel, places: [values, ...vectorIndexOf(w, threads).map(constantPlace), valuePlace(x), ...tailPlaces(task)] };
}
