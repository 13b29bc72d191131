// Constant weights with few nonzeros, on the left of a product, to code that has their pattern in it.
import type { Value } from "../../ir/graph.ts";
import { fromNumbers } from "../../ir/tensor.ts";
import { patternKey, patternOf, sparsePatternKernel } from "../../kernels/sparse_pattern.ts";
import { cooFromDense } from "../../sparse/coo.ts";
import { csrFromCoo } from "../../sparse/csr.ts";
import { type AnchorTask, type KernelCall, packedPlace, sharedKernel, tailPlaces, valuePlace } from "../step.ts";
import { isWanted, machineOf } from "./sparse_choice.ts";
import { codeMs, hasCode } from "./sparse_code_cost.ts";
import { type Forecast, forecast, isTabled, type Machine, pays, type Size } from "./sparse_forecast.ts";

/** Of the walk's predicted time what code may be predicted to take: a walk whose kernel another layer has just run is that much faster than one that ran alone, code never is. */
const SURE = 0.7;

interface CodeForecast extends Forecast {
  /** Whether it is predicted to be faster than a walk, and than the dense product, too, by more than predictions are usually off. */
  readonly isBest: boolean;
  readonly isChosen: boolean;
}

/** Null where there would be too much code. */
export function codeForecast(size: Size, nonzeros: number, machine: Machine): CodeForecast | null {
  const { target, threads, rates } = machine;
  const layer = { ...size, length: nonzeros };
  if (!hasCode(layer, target)) return null;
  const density = nonzeros / (size.rows * size.depth);
  const walk = forecast(size, density, false, machine);
  const ms = { denseMs: walk.denseMs, sparseMs: codeMs(layer, rates.code, target, threads) };
  const isBest = isTabled(size, density) && ms.sparseMs <= SURE * walk.sparseMs;
  return { ...ms, isBest, isChosen: isBest && pays(ms) };
}

/** W (rows, depth) · x (depth, n); null where its code would be too long, or is not predicted to be faster than the dense product. */
export function codeTimesMatrix(task: AnchorTask, weights: Float32Array, nonzeros: number, x: Value, size: Size): KernelCall | null {
  const { target, threads, sparse, output } = task;
  const { rows, depth, n } = size;
  const density = nonzeros / (rows * depth);
  const own = codeForecast(size, nonzeros, machineOf(task));
  if (!own || (sparse?.mode !== "always" && !(own.isBest && isWanted(task, own.isChosen)))) return null;
  const { denseMs, sparseMs } = own;
  sparse?.choices.push({ node: output.node, rows, depth, n, density, denseMs, sparseMs, isSparse: true, isCode: true });
  const w = csrFromCoo(cooFromDense(fromNumbers("f32", [rows, depth], weights)));
  const pattern = patternOf(w, n, target);
  const kernel = sharedKernel(task, `sparse code ${patternKey(pattern)} ${task.epilogueKey}`, () =>
    sparsePatternKernel(task.name, pattern, task.epilogue, target, threads),
  );
  const values = packedPlace((out) => {
    for (let i = 0; i < out.length; i++) out[i] = w.values[pattern.place[i]];
  });
  return { kernel, places: [values, valuePlace(x), ...tailPlaces(task)] };
}
