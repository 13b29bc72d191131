// What a product with one column takes, dense and sparse: bytes over the bandwidth of the memory that holds them, or steps where there are many.
import type { SimdTarget } from "../../ir/kernel.ts";
import type { VectorMatrix } from "../../kernels/sparse_vector.ts";
import { windowSteps } from "../../kernels/sparse_window.ts";
import type { Forecast, Size } from "./sparse_forecast.ts";

/** Nanoseconds of one step from the second-level cache, measured on Zen 5 at 4.4 GHz. */
interface StepRates {
  readonly window: number;
  readonly packed: number;
  readonly gather: number;
}
const STEPS: Readonly<Record<SimdTarget["name"], StepRates>> = {
  avx512: { window: 0.66, packed: 0.9, gather: 3 },
  avx2: { window: 0.48, packed: 0.48, gather: 2.5 },
  wasm: { window: 1.03, packed: 1.03, gather: 1.2 },
};
/** Nanoseconds of a launch. */
const LAUNCH = 100;

/** Bytes a nanosecond that one core reads of matrices that caches hold, dense and sparse, and of larger ones. */
const CACHED = { dense: { avx512: 119, avx2: 112, wasm: 94 }, sparse: { avx512: 108, avx2: 102, wasm: 90 } } as const;
const STREAMED = { dense: 42, sparse: 40 } as const;
/** A matrix that is cached has so many second-level caches' bytes at most. */
const CACHES = 8;

/** Which part of a step's lanes nonzeros at random places fill, by their density: measured with 16 lanes. */
const FILL: readonly (readonly [number, number])[] = [
  [0.01, 0.28],
  [0.02, 0.38],
  [0.05, 0.55],
  [0.1, 0.7],
  [0.2, 0.8],
  [0.5, 0.88],
  [0.7, 0.93],
  [1, 1],
];

/** Below that many elements, what kernels do around their loops counts. */
const LEAST_ELEMENTS = 16384;
/** Predictions are off by some percent. */
const MARGIN = 0.95;

function fillOf(density: number): number {
  const at = FILL.findIndex(([d]) => d >= density);
  if (at <= 0) return FILL[Math.max(at, 0)][1];
  const [[d0, f0], [d1, f1]] = [FILL[at - 1], FILL[at]];
  return f0 + ((f1 - f0) * (density - d0)) / (d1 - d0);
}

const readNs = (kind: "dense" | "sparse", bytes: number, { name, l2 }: SimdTarget): number =>
  bytes / (bytes <= CACHES * l2 ? CACHED[kind][name] : STREAMED[kind]);

const forecast = ({ rows, depth }: Size, steps: number, step: number, bytes: number, target: SimdTarget, threads: number): Forecast => ({
  denseMs: (LAUNCH + readNs("dense", 4 * rows * depth, target) / threads) / 1e6,
  sparseMs: (LAUNCH + Math.max(steps * step, readNs("sparse", bytes, target)) / threads) / 1e6,
});

/** With nonzeros at random places. */
export function vectorForecast(size: Size, density: number, target: SimdTarget, threads: number): Forecast {
  const { lanes, name } = target;
  const nonzeros = size.rows * size.depth * density;
  const steps = nonzeros / lanes / fillOf(density);
  const { window, gather } = STEPS[name];
  const gathers = nonzeros / lanes;
  return gathers * gather < steps * window
    ? forecast(size, gathers, gather, 6 * nonzeros, target, threads)
    : forecast(size, steps, window, steps * lanes * (4 + CODE_BYTES), target, threads);
}
/** Of a lane in a step: five or six share four bytes. */
const CODE_BYTES = 0.8;

/** With a pattern in the order of its kernel. */
export function vectorForecastOf(size: Size, { shape, place, index }: VectorMatrix, target: SimdTarget, threads: number): Forecast {
  const { window, packed, gather } = STEPS[target.name];
  const bytes = index.reduce((sum, part) => sum + part.byteLength, place.byteLength);
  return shape.walk === "gathered"
    ? forecast(size, shape.length, gather, bytes, target, threads)
    : forecast(size, windowSteps(shape, target.lanes), shape.isPacked ? packed : window, bytes, target, threads);
}

export const vectorPays = ({ rows, depth }: Size, { denseMs, sparseMs }: Forecast): boolean =>
  rows * depth >= LEAST_ELEMENTS && sparseMs <= MARGIN * denseMs;
