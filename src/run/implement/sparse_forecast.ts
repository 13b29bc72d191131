// What a layer with sparse weights is predicted to take: for a pattern as it is, and for nonzeros at random places, before there is one.
import type { SimdTarget } from "../../ir/kernel.ts";
import { GROUP_HEIGHT, type Groups, SPARSE_BLOCK } from "../../kernels/sparse_groups.ts";
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
/** What groups are filled up with, for nonzeros at random places. */
const USUAL_FILL = 1.06;
/** At random places so much of the nonzeros shares turns, and so much more of them with density: 0.46 at four tenths, 0.29 at two, 0.17 at one twentieth. */
const [LEAST_SHARED, SHARED_OF_DENSITY] = [0.12, 0.86];
/**
 * What a nonzero in a shared turn takes, in parts of another's. Fitted to 56 layers of 5 to 60 % density on AVX-512; with it predictions of speed-up
 * are within a tenth for large layers, without it layers with 60 % of zeros look a quarter slower than they are.
 */
const SHARED_COST = 0.55;
/** Of the matrices on which rates are measured (run/sparse_rates.ts), the mean. */
const RATED_SHARED = 0.23;

/** What an element of a window takes to be read, in dense multiplications: layers of few outputs do little else. Measured on AVX-512. */
const WINDOW_ELEMENT = 14;

/** Block rows are shared out where columns are not, or too few: small ones then. */
export function blockOf({ rows, n }: Size, sharesColumns: boolean, threads: number): number {
  const isShort = rows < 4 * SMALL_BLOCK * threads && (!sharesColumns || n < threads * SMALL_BLOCK);
  return isShort ? SMALL_BLOCK : SPARSE_BLOCK;
}

/** Nonzeros as many as take equally long where the rate of one was measured. */
const asRated = (length: number, shared: number): number =>
  (length * (1 - (1 - SHARED_COST) * shared)) / (1 - (1 - SHARED_COST) * RATED_SHARED);

function predicted(layer: SparseLayer & Size, shared: number, { target, threads, rates }: Machine): Forecast {
  const rated = { ...layer, length: asRated(layer.length, shared) };
  return {
    denseMs: (layer.denseShare ?? 1) * denseMs(rated, rates, threads),
    sparseMs: sparseMs(rated, rates, target, threads) + (layer.hasWindows ? windowsMs(layer, threads, rates) : 0),
  };
}

const windowsMs = ({ depth, n }: Size, threads: number, { dense }: SparseRates): number =>
  (WINDOW_ELEMENT * dense.element * depth * n) / threads / 1e6;

/** With nonzeros at random places. */
export function forecast(size: Size, density: number, sharesColumns: boolean, machine: Machine): Forecast {
  const { rows, depth } = size;
  const block = blockOf(size, sharesColumns, machine.threads);
  const [length, visits] = [density * rows * depth * USUAL_FILL, rows * Math.ceil(depth / block)];
  return predicted({ ...size, length, visits, block, sharesColumns }, LEAST_SHARED + density * SHARED_OF_DENSITY, machine);
}

/** With a pattern in the order of its kernel. */
export function forecastOf(size: Size, groups: Groups, sharesColumns: boolean, machine: Machine): Forecast {
  const { bounds, coordinate, row, block } = groups;
  let turns = 0;
  for (let g = 0; g + 2 < bounds.length; g += 2) turns += bounds[g + 1] - bounds[g];
  const layer = { ...size, length: coordinate.length, visits: row.length, block, sharesColumns };
  return predicted(layer, (GROUP_HEIGHT * turns) / coordinate.length, machine);
}

/** Whether sparse kernels are predicted to be faster, by more than predictions are usually off. */
export const pays = (ms: Forecast): boolean => ms.sparseMs <= MARGIN * ms.denseMs;

/** What a product with activations by rows takes, by the kernels that it would get. */
export function productMs(size: Size, density: number, machine: Machine): number {
  const ms = forecast(size, density, true, machine);
  return density > 0 && density <= LEAST_TABLED && size.n > 1 && pays(ms) ? ms.sparseMs : ms.denseMs;
}
