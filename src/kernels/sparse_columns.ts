// Columns of a sparse product's dense operand: how many are worked off together, and whether threads share them.
import type { SimdTarget } from "../ir/kernel.ts";
import type { DenseShape } from "./sparse_side.ts";

/** Vectors of a row's sums: with one loads keep up with the arithmetic only where what goes with a nonzero is shared by four. */
export const VECTORS = 4;

/** Columns of the result worked off together, in vectors. */
export function sparseVectors(n: number, target: SimdTarget, most = VECTORS): number {
  const all = Math.ceil(n / target.lanes);
  return Math.ceil(all / Math.ceil(all / most));
}

/** Of W·X where columns lie side by side: panels of so many times as many rows as there are results take longer to copy than threads lose that write to the same rows. */
const DEEP = 4;

/** Whether threads share tiles of columns, of which each has as many, not strips of rows, for each of which all panels are copied. */
export function sharesTiles({ rows, depth, n }: Omit<DenseShape, "block">, target: SimdTarget, threads: number): boolean {
  if (threads === 1 || n === 0 || depth < DEEP * rows) return false;
  return Math.ceil(n / (sparseVectors(n, target) * target.lanes)) % threads === 0;
}
