// Sparse matrix times one vector, by the kernel that takes fewer cycles for the pattern: windows of the vector in registers, or gathers.
import type { Kernel, SimdTarget } from "../ir/kernel.ts";
import type { Csb } from "../sparse/csb.ts";
import type { Epilogue } from "./epilogue.ts";
import { type GatheredShape, gatheredBounds, gatheredKernel, gatheredOf } from "./sparse_gather.ts";
import { windowsKernel } from "./sparse_lookup.ts";
import { PERIOD, partsOf, periodFor, rowsOf, type SlicedMatrix, shareSlices, slicesByLength } from "./sparse_slices.ts";
import { planWindows, stepsOf, type WindowsShape, windowsOf } from "./sparse_window.ts";

/** What a vector of gathered elements takes, in steps of windows: 13 cycles against 3 on Zen 5, 11 against 2, 5 against 4.5. */
const GATHER_COST: Readonly<Record<SimdTarget["name"], number>> = { avx512: 4, avx2: 5, wasm: 1.2 };
/** Where look-ups of words are slow: 7 ns against 2 to 3 on Sapphire Rapids. */
const SLOW_GATHER_COST = 2.2;

export type VectorShape = WindowsShape | GatheredShape;
export type VectorMatrix = SlicedMatrix<VectorShape>;

/** For W·x, and, `withTurned`, for Wᵀ·g from the same values. Throws HeddleError ("unsupported") where 16 bits do not tell the columns. */
export function vectorMatrixOf(w: Csb, target: SimdTarget, withTurned = false): VectorMatrix {
  const { lanes, name, slowWordLookups } = target;
  const gatherCost = slowWordLookups ? SLOW_GATHER_COST : GATHER_COST[name];
  const rows = rowsOf(w);
  const sorted = slicesByLength(w.rows, rows, lanes, withTurned ? PERIOD : periodFor(w.rows, lanes));
  const plan = planWindows(w, rows, target, withTurned ? null : sorted);
  // Windows find little where nonzeros of a row are far apart.
  const gathered = gatheredBounds(rows, sorted.slices)[sorted.slices.length];
  return stepsOf(plan) > gatherCost * gathered ? gatheredOf(w, rows, sorted, lanes, withTurned) : windowsOf(w, rows, plan, target);
}

/** All of a matrix but its values, as the kernel wants it. */
export const vectorIndexOf = ({ index, bounds, shape }: VectorMatrix, threads: number) => [
  ...index,
  shareSlices(bounds, partsOf(shape), threads),
];

/** Buffers: values, those of vectorIndexOf, vector, the epilogue's inputs, output. */
export const sparseVectorKernel = (name: string, shape: VectorShape, epilogue: Epilogue, target: SimdTarget, threads: number): Kernel =>
  shape.walk === "windows" ? windowsKernel(name, shape, epilogue, target, threads) : gatheredKernel(name, shape, epilogue, target, threads);
