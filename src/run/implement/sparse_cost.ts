// What a product with sparse weights takes, dense and sparse: a few rates that are measured once on each machine (run/sparse_rates.ts).
import type { SimdTarget } from "../../ir/kernel.ts";
import { sharesTiles, sparseVectors } from "../../kernels/sparse_columns.ts";
import { splitThreads } from "../../kernels/work.ts";
import { USUAL_MEETING } from "../sharers.ts";

/** Which kernels products with constant weights get: those that are predicted to be faster, sparse ones wherever there are some, or dense ones. */
export type SparseMode = "auto" | "always" | "never";

/** Nanoseconds on one thread. */
export interface DenseRates {
  /** For each element of the weights, and for each result, of a column. */
  readonly element: number;
  readonly result: number;
  /** Of a layer, whose code and weights are not in the nearest caches. */
  readonly once: number;
  /** Of reading weights, which other layers have put out of the nearest caches, what arithmetic does not hide. */
  readonly wait: number;
}

/** Nanoseconds of a sparse kernel on one thread. Columns come in tiles of some vectors. */
export interface ProductRates {
  /** For each nonzero and tile, and for each vector of them. */
  readonly nonzero: number;
  readonly vector: number;
  /** For each row of each block that has nonzeros, and vector. */
  readonly visit: number;
  /** For each channel of the operand, and of the result, and vector. */
  readonly channel: number;
  readonly once: number;
  readonly wait: number;
}

/** Of the walk that meets the whole operand row by row (kernels/sparse_broad.ts): for each nonzero, and each row, and vector of columns. */
export interface BroadRates {
  readonly nonzero: number;
  readonly row: number;
}

/** Of code made for a pattern (kernels/sparse_pattern.ts), nanoseconds on one thread. */
export interface CodeRates {
  /** For each nonzero and vector of columns. */
  readonly vector: number;
  /** For each channel of the operand, and of the result, and vector. */
  readonly channel: number;
  /** For each byte of code, where other layers ran in between, and for each tile of columns after the first. */
  readonly fetched: number;
  readonly again: number;
}

/** Of products with one column, on one thread. */
export interface VectorRates {
  /** Bytes a nanosecond of weights that are in the last cache, and of larger ones. */
  readonly dense: { readonly cached: number; readonly streamed: number };
  readonly sparse: { readonly cached: number; readonly streamed: number };
  /** Nanoseconds of a step of windows with one row of a lane, with everything in the nearest caches. */
  readonly step: number;
  /** Nanoseconds that threads take to meet after a launch: with two of them 50 on Zen 5, 300 on Sapphire Rapids. */
  readonly meeting: number;
}

export interface KernelRates {
  readonly dense: DenseRates;
  /** Activations that lie by rows: they are turned around. */
  readonly sparse: ProductRates;
  /** Columns that lie side by side. */
  readonly beside: ProductRates;
  readonly broad: BroadRates;
  readonly code: CodeRates;
  readonly vector: VectorRates;
}

/** Of networks whose weights come from beyond the second-level cache in each run. */
export interface SparseRates extends KernelRates {
  /** Of networks that stay in that cache from run to run. */
  readonly near?: KernelRates;
  /** Second-level caches that the network fills for which these were picked: 0 where it stays in one, none where it fills many. */
  readonly caches?: number;
  /** What layers took that predictions had left open, by their keys. */
  readonly tried?: Readonly<Record<string, TriedLayer>>;
}

export interface TriedLayer {
  readonly denseMs: number;
  readonly sparseMs: number;
}

/** Of the second-level cache what a network takes at most that stays there. */
const NEAR_SHARE = 2 / 3;

/** Caches' bytes that come by between two runs of a layer, at most: some processors keep lines that were used before from those that pass by once, code above all. */
export const MOST_CACHES = 6;

/** Second-level caches that a network fills, in halves, 0 where it stays in one from run to run: by bytes of its constants, and of its largest other tensor, of which two are alive. */
export function cachesOf(constants: number, largest: number, { l2 }: Pick<SimdTarget, "l2">): number {
  const bytes = constants + 2 * largest;
  return bytes <= NEAR_SHARE * l2 ? 0 : Math.ceil((2 * bytes) / l2) / 2;
}

/** Rates of networks that stay near, where these do and there are some, or of those that do not. */
export function ratesWhere(caches: number, { near, ...far }: SparseRates): SparseRates {
  if (caches === 0 && near) return { ...near, caches, tried: far.tried };
  return caches > 0 && caches < MOST_CACHES ? { ...far, caches } : far;
}

/** Zen 5 at 4 GHz, for where nothing was measured. */
export const USUAL_RATES: Readonly<Record<SimdTarget["name"], SparseRates>> = {
  avx512: {
    dense: { element: 0.0084, result: 0.01, once: 500, wait: 0.7 },
    sparse: { nonzero: 0.137, vector: 0.137, visit: 2.16, channel: 0.16, once: 4000, wait: 1 },
    beside: { nonzero: 0.147, vector: 0.147, visit: 0.749, channel: 0.16, once: 700, wait: 1 },
    broad: { nonzero: 0.353, row: 0.353 },
    code: { vector: 0.3, channel: 0.25, fetched: 0.03, again: 0.085 },
    vector: { dense: { cached: 100, streamed: 42 }, sparse: { cached: 75, streamed: 38 }, step: 0.44, meeting: USUAL_MEETING },
  },
  avx2: {
    dense: { element: 0.0155, result: 0.03, once: 500, wait: 0.7 },
    sparse: { nonzero: 0.122, vector: 0.122, visit: 0.582, channel: 0.48, once: 4000, wait: 1 },
    beside: { nonzero: 0.122, vector: 0.122, visit: 0.582, channel: 0.16, once: 700, wait: 1 },
    broad: { nonzero: 0.292, row: 0.292 },
    code: { vector: 0.15, channel: 0.2, fetched: 0.03, again: 0.085 },
    vector: { dense: { cached: 112, streamed: 42 }, sparse: { cached: 102, streamed: 40 }, step: 0.48, meeting: USUAL_MEETING },
  },
  wasm: {
    dense: { element: 0.033, result: 0.05, once: 500, wait: 0.7 },
    sparse: { nonzero: 0.166, vector: 0.166, visit: 0.499, channel: 0.6, once: 4000, wait: 1 },
    beside: { nonzero: 0.166, vector: 0.166, visit: 0.499, channel: 0.2, once: 700, wait: 1 },
    broad: { nonzero: 0.399, row: 0.399 },
    code: { vector: 0.3, channel: 0.6, fetched: 0.03, again: 0.085 },
    vector: { dense: { cached: 94, streamed: 42 }, sparse: { cached: 90, streamed: 40 }, step: 1.03, meeting: USUAL_MEETING },
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
  /** Whether one row at a time meets the whole operand. */
  readonly broad: boolean;
}

/** How often each of DENSE_RATES counts on the busiest thread. */
export function denseWork(layer: SparseLayer, { dense }: VectorRates, target: SimdTarget, threads: number): readonly number[] {
  const { rows, depth, n } = layer;
  const columns = n / threads;
  return [columns * rows * depth, columns * rows, 1, readNs(4 * rows * depth, dense, target) / threads];
}
export const DENSE_RATES = ["element", "result", "once", "wait"] as const satisfies readonly (keyof DenseRates)[];

/** Of what a nonzero takes what one takes whose column is loaded for two: measured on Zen 5. */
const SHARED = 0.5;
/** Bytes of a nonzero's value and coordinate, and of a visit. */
const NONZERO_BYTES = 5;
const VISIT_BYTES = 8;

/** Which part of the rows the busiest thread has, where it has `byRows`-th parts of their blocks. */
function shareOf({ rows, block }: SparseLayer, byRows: number): number {
  const blockRows = Math.ceil(rows / block);
  return Math.ceil(blockRows / byRows) / blockRows;
}

/** How often each of PRODUCT_RATES counts there. */
export function sparseWork(layer: SparseLayer, { sparse }: VectorRates, target: SimdTarget, threads: number): readonly number[] {
  const { rows, depth, n, length, shared, visits, block, sharesColumns } = layer;
  const vectors = sparseVectors(n, target);
  const all = Math.ceil(n / (vectors * target.lanes));
  const byTiles = sharesColumns || sharesTiles(layer, target, threads);
  const [byColumns, byRows] = byTiles ? splitThreads(threads, [all, Math.ceil(rows / block)]) : [1, threads];
  const [tiles, share] = [Math.ceil(all / byColumns), shareOf(layer, byRows)];
  const met = tiles * share * (length - (1 - SHARED) * shared);
  const read = readNs(NONZERO_BYTES * length + VISIT_BYTES * visits, sparse, target) / threads;
  return [met, met * vectors, tiles * share * visits * vectors, tiles * vectors * (depth + share * rows), 1, read];
}
export const PRODUCT_RATES = ["nonzero", "vector", "visit", "channel", "once", "wait"] as const satisfies readonly (keyof ProductRates)[];

/** How often each of BROAD_RATES counts there. */
export function broadWork(layer: SparseLayer, target: SimdTarget, threads: number): readonly number[] {
  const vectors = Math.ceil(layer.n / target.lanes) * shareOf(layer, threads);
  return [layer.length * vectors, layer.rows * vectors];
}
export const BROAD_RATES = ["nonzero", "row"] as const satisfies readonly (keyof BroadRates)[];

/** A matrix that is cached has so many second-level caches' bytes at most. */
const CACHES = 8;

/** Nanoseconds of reading so many bytes of weights, on one thread. */
export const readNs = (bytes: number, { cached, streamed }: VectorRates["dense"], { l2 }: SimdTarget): number =>
  bytes / (bytes <= CACHES * l2 ? cached : streamed);

export const totalMs = <Name extends string>(
  work: readonly number[],
  names: readonly Name[],
  rates: Readonly<Record<Name, number>>,
): number => work.reduce((sum, w, i) => sum + w * rates[names[i]], 0) / 1e6;

export const denseMs = (layer: SparseLayer, { dense, vector }: SparseRates, target: SimdTarget, threads: number): number =>
  totalMs(denseWork(layer, vector, target, threads), DENSE_RATES, dense);

export function sparseMs(layer: SparseLayer, { sparse, beside, broad, vector }: SparseRates, target: SimdTarget, threads: number): number {
  if (layer.broad) return beside.once / 1e6 + totalMs(broadWork(layer, target, threads), BROAD_RATES, broad);
  return totalMs(sparseWork(layer, vector, target, threads), PRODUCT_RATES, layer.sharesColumns ? sparse : beside);
}

/** Predictions are off by a tenth: sparse kernels must win by as much. */
export const MARGIN = 0.9;
