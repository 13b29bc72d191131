// What a network gets for W·X by its predictions: our dense product, the sparse kernel, or code made for the pattern.

import { codeForecast } from "../../src/run/implement/sparse_code.ts";
import type { SparseRates } from "../../src/run/implement/sparse_cost.ts";
import { type Forecast, forecastOf, isTabled, pays } from "../../src/run/implement/sparse_forecast.ts";
import { vectorForecastOf, vectorPays } from "../../src/run/implement/sparse_vector_cost.ts";
import type { Weights } from "./weights.ts";

export interface Choice {
  /** A contestant's name. */
  readonly chosen: "dense" | "csb" | "pattern";
  readonly predicted: Forecast;
}

export function dispatch(weights: Weights, n: number, rates: SparseRates): Choice {
  const { device, matrix } = weights;
  const { target, threads } = device;
  const { rows, columns: depth } = matrix;
  const size = { rows, depth, n };
  const machine = { target, threads, rates };
  if (n === 1) {
    const predicted = vectorForecastOf(size, weights.vector().form, machine);
    return { chosen: vectorPays(size, predicted, threads) ? "csb" : "dense", predicted };
  }
  const nonzeros = matrix.csb().values.length;
  const density = nonzeros / (rows * depth);
  const code = codeForecast(size, nonzeros, machine);
  if (code?.isChosen) return { chosen: "pattern", predicted: code };
  const predicted = forecastOf(size, weights.forward(n).form, false, machine);
  return { chosen: isTabled(size, density) && pays(predicted) ? "csb" : "dense", predicted };
}
