// Constant weights with few nonzeros, on the left of a product, to code that has their pattern in it.
import type { Value } from "../../ir/graph.ts";
import type { SimdTarget } from "../../ir/kernel.ts";
import { fromNumbers } from "../../ir/tensor.ts";
import { patternKey, patternOf, sparsePatternKernel } from "../../kernels/sparse_pattern.ts";
import { sparseVectors } from "../../kernels/sparse_product.ts";
import { cooFromDense } from "../../sparse/coo.ts";
import { csrFromCoo } from "../../sparse/csr.ts";
import { type AnchorTask, type KernelCall, packedPlace, sharedKernel, tailPlaces, valuePlace } from "../step.ts";
import { machineOf } from "./sparse_choice.ts";
import { type Forecast, forecast, isTabled, type Machine, pays, type Size } from "./sparse_forecast.ts";

/**
 * Bytes of code that instructions are fetched from fast enough, even where other layers ran in between: 74 KB take 1.4 times as long as a loop then. Vectors of 8 columns go through it more often.
 * V8 takes long over long functions, and what it makes of them is slower than a loop. Program files grow by as much.
 */
const MOST_BYTES: Readonly<Record<SimdTarget["name"], number>> = { avx512: 64 * 1024, avx2: 48 * 1024, wasm: 0 };
/** Of a nonzero, and of each vector of columns that it meets. */
const BYTES = { nonzero: 9, vector: 9 };
/** What it takes of the walk's time at most, where it is small enough. */
const SHARE = 0.85;

/** Null where there would be too much code. */
export function codeForecast(size: Size, nonzeros: number, machine: Machine): Forecast | null {
  const { target } = machine;
  const bytes = nonzeros * (BYTES.nonzero + BYTES.vector * sparseVectors(size.n, target));
  if (nonzeros === 0 || bytes > MOST_BYTES[target.name] || size.n < 2) return null;
  const { denseMs, sparseMs } = forecast(size, nonzeros / (size.rows * size.depth), false, machine);
  return { denseMs, sparseMs: SHARE * sparseMs };
}

/** W (rows, depth) · x (depth, n); null where its code would be too long, or is not predicted to be faster than the dense product. */
export function codeTimesMatrix(task: AnchorTask, weights: Float32Array, nonzeros: number, x: Value, size: Size): KernelCall | null {
  const { target, threads, sparse, output } = task;
  const { rows, depth, n } = size;
  const density = nonzeros / (rows * depth);
  const own = codeForecast(size, nonzeros, machineOf(task));
  if (!own || (sparse?.mode !== "always" && !(isTabled(size, density) && pays(own)))) return null;
  sparse?.choices.push({ node: output.node, rows, depth, n, density, ...own, isSparse: true, isCode: true });
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
