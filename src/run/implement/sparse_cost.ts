// What a product with sparse weights takes, dense and sparse: a few rates that are measured once on each machine (run/sparse_rates.ts).
import type { SimdTarget } from "../../ir/kernel.ts";
import { sparseVectors } from "../../kernels/sparse_product.ts";
import { splitThreads } from "../../kernels/work.ts";

/** Which kernels products with constant weights get: those that are predicted to be faster, sparse ones wherever there are some, or dense ones. */
export type SparseMode = "auto" | "always" | "never";

/** Nanoseconds on one thread, for each column of the dense operand (a pixel, a row of a batch). */
export interface SparseRates {
  readonly dense: {
    /** For each element of the weights, and for each result. */
    readonly element: number;
    readonly result: number;
  };
  readonly sparse: {
    readonly nonzero: number;
    /** For each row of each block that has nonzeros. */
    readonly visit: number;
    /** For each channel of the operand, and of the result: they are turned around. */
    readonly channel: number;
  };
}

/** Zen 5 at 4 GHz, for where nothing was measured. */
export const USUAL_RATES: Readonly<Record<SimdTarget["name"], SparseRates>> = {
  avx512: { dense: { element: 0.0078, result: 0.02 }, sparse: { nonzero: 0.0105, visit: 0.04, channel: 0.05 } },
  avx2: { dense: { element: 0.0155, result: 0.03 }, sparse: { nonzero: 0.019, visit: 0.07, channel: 0.06 } },
  wasm: { dense: { element: 0.033, result: 0.05 }, sparse: { nonzero: 0.052, visit: 0.12, channel: 0.15 } },
};

/** A layer as its cost depends on it: weights (rows, depth) times n columns. */
export interface SparseLayer {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  /** With what groups are filled up with. */
  readonly length: number;
  /** Rows of blocks that have nonzeros. */
  readonly visits: number;
  readonly block: number;
  /** Whether the columns are shared out to threads, or the rows. */
  readonly sharesColumns: boolean;
}

/** How often each rate of the dense product counts on the busiest thread. */
export const denseWork = ({ rows, depth, n }: SparseLayer, threads: number): readonly number[] => {
  const columns = n / threads;
  return [columns * rows * depth, columns * rows];
};

/** The same for the sparse one: nonzeros, visits, channels. */
export function sparseWork(layer: SparseLayer, target: SimdTarget, threads: number): readonly number[] {
  const { rows, depth, n, length, visits, block, sharesColumns } = layer;
  const width = sparseVectors(n, target) * target.lanes;
  const tiles = Math.ceil(n / width);
  const blockRows = Math.ceil(rows / block);
  const [byColumns, byRows] = sharesColumns ? splitThreads(threads, [tiles, blockRows]) : [1, threads];
  const columns = Math.ceil(tiles / byColumns) * width;
  const share = Math.ceil(blockRows / byRows) / blockRows;
  return [columns * share * length, columns * share * visits, columns * (depth + share * rows)];
}

const total = (work: readonly number[], rates: readonly number[]): number => work.reduce((sum, w, i) => sum + w * rates[i], 0);

export const denseMs = (layer: SparseLayer, { dense }: SparseRates, threads: number): number =>
  total(denseWork(layer, threads), [dense.element, dense.result]) / 1e6;

export const sparseMs = (layer: SparseLayer, { sparse }: SparseRates, target: SimdTarget, threads: number): number =>
  COLD_MS + total(sparseWork(layer, target, threads), [sparse.nonzero, sparse.visit, sparse.channel]) / 1e6;

/** A kernel in the middle of a network finds its code and its index outside of the nearest caches, and the sparse ones have more of both: measured on PP-OCRv4 recognition. */
export const COLD_MS = 0.0025;

/** Predictions are off by up to a fifth for thin layers: sparse kernels must win by more. */
export const MARGIN = 0.8;
