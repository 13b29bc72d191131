// What a network gets for W·X: our dense product, the sparse kernel, or code made for the pattern; by predictions, and by trials where these leave it open.

import { codeForecast } from "../../src/run/implement/sparse_code.ts";
import { hasCode } from "../../src/run/implement/sparse_code_cost.ts";
import type { SparseRates } from "../../src/run/implement/sparse_cost.ts";
import { type Forecast, forecastOf, isTabled, pays } from "../../src/run/implement/sparse_forecast.ts";
import { vectorFits, vectorForecastOf, vectorPays } from "../../src/run/implement/sparse_vector_cost.ts";
import { doesWin, isOpen } from "../../src/run/sparse_doubts.ts";
import { copiesOf, roundsOptions } from "../../src/run/sparse_samples.ts";
import { tryCalls } from "../../src/run/sparse_trials.ts";
import { Trial } from "../../src/run/trial.ts";
import type { Contestant } from "./contestants.ts";
import type { Weights } from "./weights.ts";

export interface Choice {
  /** A contestant's name. */
  readonly chosen: "dense" | "csb" | "alone" | "pattern";
  readonly predicted: Forecast;
  /** Where predictions left it open. */
  readonly tried: Forecast | null;
}

/** By rates of a network's size. */
export async function dispatch(weights: Weights, n: number, rates: SparseRates, contestants: readonly Contestant[]): Promise<Choice> {
  const { sparse, predicted, isPossible, doesPay } = predict(weights, n, rates);
  if (!isPossible || !isOpen(predicted, rates)) return { chosen: doesPay ? sparse : "dense", predicted, tried: null };
  const named = (name: string): Contestant => contestants.find((c) => c.name === name)!; // predictions are of what there is
  const [dense, rival] = [named("dense"), named(sparse)];
  const trial = new Trial(weights.device);
  try {
    const activations = [...new Set([...dense.activations, ...rival.activations])];
    const bytes = Math.max(dense.bytes, rival.bytes);
    const count = copiesOf(bytes);
    const options = roundsOptions(weights.device, count * bytes, activations, rates.caches);
    const tried = await tryCalls(trial, dense.launches.slice(0, count), rival.launches.slice(0, count), options);
    return { chosen: doesWin(tried) ? sparse : "dense", predicted, tried };
  } finally {
    trial.free();
  }
}

/** Whether networks may have code for this pattern at all. */
export const mayHaveCode = ({ device, matrix }: Weights, n: number): boolean =>
  hasCode({ rows: matrix.rows, depth: matrix.columns, n, length: matrix.csb().values.length }, device.target);

/** The best sparse kernel, and whether it is predicted to pay. */
function predict(weights: Weights, n: number, rates: SparseRates) {
  const { device, matrix } = weights;
  const { target, threads } = device;
  const { rows, columns: depth } = matrix;
  const size = { rows, depth, n };
  const machine = { target, threads, rates };
  if (n === 1) {
    const predicted = vectorForecastOf(size, weights.vector(threads).form, machine);
    const isPossible = vectorFits(size);
    const sparse = predicted.threads < threads ? ("alone" as const) : ("csb" as const);
    return { sparse, predicted, isPossible, doesPay: isPossible && vectorPays(predicted) };
  }
  const nonzeros = matrix.csb().values.length;
  const isPossible = isTabled(size, nonzeros / (rows * depth));
  const code = codeForecast(size, nonzeros, false, machine);
  if (code?.isBest) return { sparse: "pattern" as const, predicted: code, isPossible, doesPay: code.isChosen };
  const predicted = forecastOf(size, weights.forward(n).form, false, machine);
  return { sparse: "csb" as const, predicted, isPossible, doesPay: isPossible && pays(predicted) };
}
