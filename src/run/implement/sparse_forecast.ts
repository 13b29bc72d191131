// What a layer with sparse weights is predicted to take: for a pattern as it is, and for nonzeros at random places, before there is one.
import type { SimdTarget } from "../../ir/kernel.ts";
import { type Groups, rowsOfPanel, SPARSE_BLOCK } from "../../kernels/sparse_groups.ts";
import { LEAST_SHARING } from "../../kernels/sparse_sharing.ts";
import { denseMs, MARGIN, type SparseLayer, type SparseRates, sparseMs } from "./sparse_cost.ts";

export interface Size extends Pick<SparseLayer, "rows" | "depth" | "n"> {
  /** Of the dense product's time what the dense kernel takes, where it is another one. Default: all. */
  readonly denseShare?: number;
  /** Whether columns are windows, whose elements are read one by one. */
  readonly hasWindows?: boolean;
}

/** What runs it. */
export interface Machine {
  readonly target: SimdTarget;
  readonly threads: number;
  readonly rates: SparseRates;
}

export interface Forecast {
  readonly denseMs: number;
  readonly sparseMs: number;
}

/** Layers with a larger part of nonzeros are not looked at. */
export const LEAST_TABLED = 0.7;
const SMALL_BLOCK = 64;
const LEAST_BLOCK = 32;
/** What an element of a window takes to be read, in dense multiplications: layers of few outputs do little else. Measured on AVX-512. */
const WINDOW_ELEMENT = 14;

/** Block rows are shared out where columns are not, or too few: small ones then. */
export function blockOf({ rows, n }: Size, sharesColumns: boolean, threads: number): number {
  const isShort = rows < 4 * SMALL_BLOCK * threads && (!sharesColumns || n < threads * SMALL_BLOCK);
  if (!isShort) return SPARSE_BLOCK;
  return rows > SMALL_BLOCK * (threads - 1) ? SMALL_BLOCK : LEAST_BLOCK;
}

function predicted(layer: SparseLayer & Size, { target, threads, rates }: Machine): Forecast {
  const { denseShare = 1, hasWindows } = layer;
  return {
    denseMs: denseShare * denseMs(layer, rates, target, threads),
    sparseMs: sparseMs(layer, rates, target, threads) + (hasWindows ? windowsMs(layer, threads, rates) : 0),
  };
}

/** What reading windows takes. */
export const windowsMs = ({ depth, n }: Size, threads: number, { dense }: SparseRates): number =>
  (WINDOW_ELEMENT * dense.element * depth * n) / threads / 1e6;

/** With nonzeros at random places. */
export function forecast(size: Size, density: number, sharesColumns: boolean, machine: Machine): Forecast {
  const { rows, depth } = size;
  const block = blockOf(size, sharesColumns, machine.threads);
  const visits = rows * Math.ceil(depth / rowsOfPanel(depth, density));
  const length = density * rows * depth;
  // About as many as a row has of all columns: pairs are chosen for it, but also for equal counts.
  const shared = density >= LEAST_SHARING && !machine.target.loadsFirst ? density * length : 0;
  return predicted({ ...size, length, shared, visits, block, sharesColumns, broad: false }, machine);
}

/** With a pattern in the order of its kernel. */
export function forecastOf(size: Size, groups: Groups, sharesColumns: boolean, machine: Machine): Forecast {
  return predicted({ ...size, ...layerOf(groups), sharesColumns }, machine);
}

/** What of a layer its walk says. */
export const layerOf = ({
  nonzeros,
  shared,
  visits,
  block,
  broad,
}: Groups): Pick<SparseLayer, "length" | "shared" | "visits" | "block" | "broad"> => ({
  length: nonzeros,
  shared,
  visits: visits.length / 2,
  block,
  broad,
});

/** Whether sparse kernels are predicted to be faster, by more than predictions are usually off. */
export const pays = (ms: Forecast): boolean => ms.sparseMs <= MARGIN * ms.denseMs;

/** Whether a layer of many columns is worth a thought. */
export const isTabled = ({ n }: Size, density: number): boolean => density > 0 && density <= LEAST_TABLED && n > 1;

/** What a product with activations by rows takes, by the kernels that it would get. */
export function productMs(size: Size, density: number, machine: Machine): number {
  const ms = forecast(size, density, true, machine);
  return isTabled(size, density) && pays(ms) ? ms.sparseMs : ms.denseMs;
}
