// What a product with one column takes, dense and sparse: bytes over the bandwidth of the memory that holds them, or steps where there are many.
import type { SimdTarget } from "../../ir/kernel.ts";
import { partsOf } from "../../kernels/sparse_slices.ts";
import type { VectorMatrix } from "../../kernels/sparse_vector.ts";
import { windowSteps } from "../../kernels/sparse_window.ts";
import { launchNs, sharersOf } from "../sharers.ts";
import { readNs } from "./sparse_cost.ts";
import type { Forecast, Machine, Size } from "./sparse_forecast.ts";

/** What steps take that have two rows of a lane, or share it with the next one's row, of values that are packed, and of gathered elements, in steps of windows with one row: measured on Zen 5. */
interface StepCosts {
  readonly twoRows: number;
  readonly packed: number;
  readonly gather: number;
}
const STEPS: Readonly<Record<SimdTarget["name"], StepCosts>> = {
  avx512: { twoRows: 1.4, packed: 2.3, gather: 6.8 },
  avx2: { twoRows: 1.75, packed: 1, gather: 5.2 },
  wasm: { twoRows: 1.75, packed: 1, gather: 1.17 },
};
/** Nanoseconds of what the sparse kernel does besides its steps: of 256×64 about as much at 95 % zeros. */
const BESIDES = 60;

/** Which part of a step's lanes nonzeros at random places fill, by their density: measured with 16 lanes. */
const FILL: readonly (readonly [number, number])[] = [
  [0.01, 0.45],
  [0.02, 0.66],
  [0.05, 0.84],
  [0.1, 0.88],
  [0.2, 0.93],
  [0.5, 0.96],
  [0.7, 0.98],
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

/** Of so many parts what the busiest thread has. */
const shareOf = (parts: number, { threads }: Machine): number => Math.ceil(parts / threads) / parts;

/** Of one column, besides what is predicted: the threads that share the sparse kernel out. */
export interface VectorForecast extends Forecast {
  readonly threads: number;
}

/** `share`: of the sparse kernel's work what the busiest of all threads has. */
function forecast({ rows, depth }: Size, steps: number, bytes: number, machine: Machine, share: number): VectorForecast {
  const { target, rates } = machine;
  const { vector } = rates;
  const dense = readNs(4 * rows * depth, vector.dense, target) / machine.threads;
  const sparse = Math.max(steps * vector.step, readNs(bytes, vector.sparse, target));
  const ns = (sharers: number): number => (sharers > 1 ? share * sparse : sparse);
  const threads = sharersOf(machine.threads, vector.meeting, ns);
  return {
    denseMs: (launchNs(machine.threads, vector.meeting) + dense) / 1e6,
    sparseMs: (launchNs(threads, vector.meeting) + BESIDES + ns(threads)) / 1e6,
    threads,
  };
}

/** With nonzeros at random places. */
export function vectorForecast(size: Size, density: number, machine: Machine): VectorForecast {
  const { lanes, name } = machine.target;
  const nonzeros = size.rows * size.depth * density;
  const steps = nonzeros / lanes / fillOf(density);
  const cost = lanes === 16 && density < TWO_ROWS ? STEPS[name].twoRows : 1;
  const gathers = (nonzeros / lanes) * STEPS[name].gather;
  const share = shareOf(Math.ceil(size.rows / lanes), machine);
  return gathers < steps * cost
    ? forecast(size, gathers, 6 * nonzeros, machine, share)
    : forecast(size, steps * cost, steps * lanes * (4 + CODE_BYTES), machine, share);
}
/** Density below which lanes have two rows. */
const TWO_ROWS = 0.1;
/** Of a lane in a step: four to six share four bytes. */
const CODE_BYTES = 0.9;

/** With a pattern in the order of its kernel. */
export function vectorForecastOf(size: Size, { shape, place, index }: VectorMatrix, machine: Machine): VectorForecast {
  const cost = STEPS[machine.target.name];
  const bytes = index.reduce((sum, part) => sum + part.byteLength, place.byteLength);
  const steps =
    shape.walk === "gathered"
      ? shape.length * cost.gather
      : windowSteps(shape) * (shape.isPacked ? cost.packed : 1 + ((cost.twoRows - 1) * shape.shared) / shape.bundle);
  const share = shareOf(partsOf(shape).parts, machine);
  return forecast(size, steps, bytes, machine, share);
}

/** With blocks of so many elements: they come as fast as memory gives them. */
export const blocksForecast = (size: Size, elements: number, machine: Machine): VectorForecast =>
  forecast(size, 0, 4 * elements, machine, 1 / machine.threads);

/** Whether a layer is large enough for a sparse kernel. */
export const vectorFits = ({ rows, depth }: Size): boolean => rows * depth >= LEAST_ELEMENTS;
export const vectorPays = ({ denseMs, sparseMs }: Forecast): boolean => sparseMs <= MARGIN * denseMs;
