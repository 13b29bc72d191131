// What a product with sparse weights takes, dense and sparse: a few rates that are measured once on each machine (run/sparse_rates.ts).
import type { SimdTarget } from "../../ir/kernel.ts";
import { sparseVectors } from "../../kernels/sparse_reach.ts";
import { splitThreads } from "../../kernels/work.ts";

/** Which kernels products with constant weights get: those that are predicted to be faster, sparse ones wherever there are some, or dense ones. */
export type SparseMode = "auto" | "always" | "never";

/** Nanoseconds of a sparse kernel on one thread, for each column of the dense operand (a pixel, a row of a batch). */
export interface ProductRates {
  readonly nonzero: number;
  /** For each row of each block that has nonzeros. */
  readonly visit: number;
  /** For each channel of the operand, and of the result. */
  readonly channel: number;
}

/** Of products with one column, on one thread. */
export interface VectorRates {
  /** Bytes a nanosecond of weights that are in the last cache, and of larger ones. */
  readonly dense: { readonly cached: number; readonly streamed: number };
  readonly sparse: { readonly cached: number; readonly streamed: number };
  /** Nanoseconds of a step of windows with one row of a lane, with everything in the nearest caches. */
  readonly step: number;
}

export interface SparseRates {
  readonly dense: {
    /** Nanoseconds for each element of the weights, and for each result, of a column. */
    readonly element: number;
    readonly result: number;
  };
  /** Activations that lie by rows: they are turned around. */
  readonly sparse: ProductRates;
  /** Columns that lie side by side. */
  readonly beside: ProductRates;
  readonly vector: VectorRates;
}

/** Zen 5 at 4 GHz, for where nothing was measured. */
export const USUAL_RATES: Readonly<Record<SimdTarget["name"], SparseRates>> = {
  avx512: {
    dense: { element: 0.0084, result: 0.01 },
    sparse: { nonzero: 0.0107, visit: 0.13, channel: 0.01 },
    beside: { nonzero: 0.0115, visit: 0.045, channel: 0.01 },
    vector: { dense: { cached: 100, streamed: 42 }, sparse: { cached: 75, streamed: 38 }, step: 0.44 },
  },
  avx2: {
    dense: { element: 0.0155, result: 0.03 },
    sparse: { nonzero: 0.019, visit: 0.07, channel: 0.06 },
    beside: { nonzero: 0.019, visit: 0.07, channel: 0.02 },
    vector: { dense: { cached: 112, streamed: 42 }, sparse: { cached: 102, streamed: 40 }, step: 0.48 },
  },
  wasm: {
    dense: { element: 0.033, result: 0.05 },
    sparse: { nonzero: 0.052, visit: 0.12, channel: 0.15 },
    beside: { nonzero: 0.052, visit: 0.12, channel: 0.05 },
    vector: { dense: { cached: 94, streamed: 42 }, sparse: { cached: 90, streamed: 40 }, step: 1.03 },
  },
};

/** A layer as its cost depends on it: weights (rows, depth) times n columns. */
export interface SparseLayer {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  /** Nonzeros, and those in columns that pairs of rows share. */
  readonly length: number;
  readonly shared: number;
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

/** Of what a nonzero takes what one takes whose column is loaded for two. Measured on Zen 5, 8 to 64 columns. */
const SHARED = 0.75;

/** The same for the sparse one: nonzeros, visits, channels. A nonzero costs as much by itself as for each vector of columns that it meets. */
export function sparseWork(layer: SparseLayer, target: SimdTarget, threads: number): readonly number[] {
  const { rows, depth, n, length, shared, visits, block, sharesColumns } = layer;
  const vectors = sparseVectors(n, target);
  const tiles = Math.ceil(n / (vectors * target.lanes));
  const blockRows = Math.ceil(rows / block);
  const [byColumns, byRows] = sharesColumns ? splitThreads(threads, [tiles, blockRows]) : [1, threads];
  const columns = Math.ceil(tiles / byColumns) * target.lanes * 0.8 * (1 + vectors);
  const share = Math.ceil(blockRows / byRows) / blockRows;
  return [columns * share * (length - (1 - SHARED) * shared), columns * share * visits, columns * (depth + share * rows)];
}

/** A matrix that is cached has so many second-level caches' bytes at most. */
const CACHES = 8;

/** Nanoseconds of reading so many bytes of weights, on one thread. */
export const readNs = (bytes: number, { cached, streamed }: VectorRates["dense"], { l2 }: SimdTarget): number =>
  bytes / (bytes <= CACHES * l2 ? cached : streamed);

const total = (work: readonly number[], rates: readonly number[]): number => work.reduce((sum, w, i) => sum + w * rates[i], 0);

export const denseMs = (layer: SparseLayer, { dense }: SparseRates, threads: number): number =>
  total(denseWork(layer, threads), [dense.element, dense.result]) / 1e6;

export function sparseMs(layer: SparseLayer, { sparse, beside }: SparseRates, target: SimdTarget, threads: number): number {
  const { nonzero, visit, channel } = layer.sharesColumns ? sparse : beside;
  const { once, tile } = layer.sharesColumns ? COLD_MS.turned : COLD_MS.plain;
  const tiles = layer.n / (sparseVectors(layer.n, target) * target.lanes) / threads;
  return once + tile * tiles + total(sparseWork(layer, target, threads), [nonzero, visit, channel]) / 1e6;
}

/**
 * A kernel in the middle of a network finds its code, its index and activations outside of the nearest caches, and the sparse ones have more of that
 * than dense ones where activations are turned around: milliseconds for a layer, and for each tile of its columns. Measured on PP-OCRv4 recognition at 60 and 80 % of zeros. With columns side by side dense kernels lose as much: 256×64 on 64 columns takes 3 µs instead of 2.8, dense 14 instead of 8.5, where 4 MB were read before.
 */
export const COLD_MS = { turned: { once: 0.008, tile: 0.00045 }, plain: { once: 0.0002, tile: 0 } } as const;

/** Predictions are off by a tenth: sparse kernels must win by as much. */
export const MARGIN = 0.9;
