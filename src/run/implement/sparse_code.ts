// Constant weights with few nonzeros, on the left of a product, to code that has their pattern in it.
import type { Value } from "../../ir/graph.ts";
import type { SimdTarget } from "../../ir/kernel.ts";
import { fromNumbers } from "../../ir/tensor.ts";
import { patternKey, patternOf, sparsePatternKernel } from "../../kernels/sparse_pattern.ts";
import { sparseVectors } from "../../kernels/sparse_reach.ts";
import { cooFromDense } from "../../sparse/coo.ts";
import { csrFromCoo } from "../../sparse/csr.ts";
import { type AnchorTask, type KernelCall, packedPlace, sharedKernel, tailPlaces, valuePlace } from "../step.ts";
import { isWanted, machineOf } from "./sparse_choice.ts";
import { type Forecast, forecast, isTabled, type Machine, pays, type Size } from "./sparse_forecast.ts";

/**
 * Bytes of code that instructions are fetched from fast enough, even where other layers ran in between: 74 KB take 1.4 times as long as a loop then. Vectors of 8 columns go through it more often.
 * V8 takes long over long functions, and what it makes of them is slower than a loop. Program files grow by as much.
 */
const MOST_BYTES: Readonly<Record<SimdTarget["name"], number>> = { avx512: 64 * 1024, avx2: 48 * 1024, wasm: 0 };
/** Of a nonzero, and of each vector of columns that it meets. */
const BYTES = { nonzero: 9, vector: 9 };
/** What it takes of the walk's time once it is in the nearest caches, and what a byte of it takes to come there, in nanoseconds. */
const SHARE = 0.68;
const FETCHED = 1 / 40;

interface CodeForecast extends Forecast {
  /** Whether it is predicted to be faster than a walk, and than the dense product, too. */
  readonly isBest: boolean;
  readonly isChosen: boolean;
}

/** Null where there would be too much code. It comes anew for each tile of columns, where other layers ran in between. */
export function codeForecast(size: Size, nonzeros: number, machine: Machine): CodeForecast | null {
  const { target, threads } = machine;
  const vectors = sparseVectors(size.n, target);
  const tiles = Math.ceil(size.n / (vectors * target.lanes));
  const bytes = nonzeros * (BYTES.nonzero + BYTES.vector * vectors);
  const density = nonzeros / (size.rows * size.depth);
  if (nonzeros === 0 || bytes > MOST_BYTES[target.name] || size.n < 2) return null;
  const walk = forecast(size, density, false, machine);
  const ms = { denseMs: walk.denseMs, sparseMs: SHARE * walk.sparseMs + (FETCHED * bytes * tiles) / threads / 1e6 };
  const isBest = isTabled(size, density) && ms.sparseMs < walk.sparseMs;
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
