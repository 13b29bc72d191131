// Constant weights with few nonzeros to code that has their pattern in it.
import { patternKey, patternOf, sparsePatternKernel } from "../../kernels/sparse_pattern.ts";
import type { DenseSide, PanelBuffers } from "../../kernels/sparse_side.ts";
import type { Coo } from "../../sparse/coo.ts";
import { csrFromCoo } from "../../sparse/csr.ts";
import { type AnchorTask, type KernelCall, type Place, packedPlace, sharedKernel, tailPlaces } from "../step.ts";
import { isWanted, machineOf, note } from "./sparse_choice.ts";
import { codeMs, codeSharers, hasCode } from "./sparse_code_cost.ts";
import { type Forecast, forecast, isTabled, type Machine, pays, type Size, windowsMs } from "./sparse_forecast.ts";

/** Of the walk's predicted time what code may be predicted to take: a walk whose kernel another layer has just run is that much faster than one that ran alone, code never is. */
const SURE = 0.7;

interface CodeForecast extends Forecast {
  /** Whether it is predicted to be faster than a walk, and than the dense product, too, by more than predictions are usually off. */
  readonly isBest: boolean;
  readonly isChosen: boolean;
  /** Threads that share it out. */
  readonly sharers: number;
}

/**
 * Null where there would be too much code.
 * `isByRows`: activations lie by rows and are turned around, as a walk's are. That is for networks that stay in the second-level cache: elsewhere fetching the code takes what it gains.
 */
export function codeForecast(size: Size, nonzeros: number, isByRows: boolean, machine: Machine): CodeForecast | null {
  const { target, threads, rates } = machine;
  const layer = { ...size, length: nonzeros };
  if (!hasCode(layer, target) || (isByRows && rates.caches !== 0)) return null;
  const density = nonzeros / (size.rows * size.depth);
  const walk = forecast(size, density, isByRows, machine);
  const code = isByRows ? { ...rates.code, channel: rates.sparse.channel } : rates.code;
  const windows = size.hasWindows ? windowsMs(size, threads, rates) : 0;
  const ms = { denseMs: walk.denseMs, sparseMs: codeMs(layer, code, target, threads) + windows };
  const isBest = isTabled(size, density) && ms.sparseMs <= SURE * walk.sparseMs;
  return { ...ms, isBest, isChosen: isBest && pays(ms), sharers: codeSharers(layer, { ...rates, code }, target, threads) };
}

/** Buffers of the dense operand, and what turns it around where it lies by rows; sides with different code have different keys. */
export interface CodeOperand {
  readonly places: readonly Place[];
  readonly side?: DenseSide<PanelBuffers>;
  readonly key?: string;
}

/** Weights (rows, depth) times the operand's n columns; null where their code would be too long, or is not predicted to be faster than other kernels. */
export function codeTimes(task: AnchorTask, weights: () => Coo, nonzeros: number, operand: CodeOperand, size: Size): KernelCall | null {
  const { target, sparse } = task;
  const { places, side, key = "" } = operand;
  const { rows, depth, n } = size;
  const own = codeForecast(size, nonzeros, side !== undefined, machineOf(task));
  if (!own || (sparse?.mode !== "always" && !(own.isBest && isWanted(task, own.isChosen)))) return null;
  const { denseMs, sparseMs, sharers: threads } = own;
  note(task, { rows, depth, n, density: nonzeros / (rows * depth), denseMs, sparseMs, isSparse: true, format: "code" });
  const w = csrFromCoo(weights());
  const pattern = patternOf(w, n, target);
  const kernel = sharedKernel(
    { ...task, threads },
    `sparse code ${patternKey(pattern)} ${side ? `by rows ${key}` : ""} ${task.epilogueKey}`,
    () => sparsePatternKernel(task.name, pattern, task.epilogue, target, threads, side),
  );
  const values = packedPlace((out) => {
    for (let i = 0; i < out.length; i++) out[i] = w.values[pattern.place[i]];
  });
  return { kernel, places: [values, ...places, ...tailPlaces(task)] };
}
