// Fits the weights that a mask keeps, row by row, so that the outputs are as near as they can be to those that are wanted: least squares.
import { cholesky, solveCholesky } from "./cholesky.ts";
import type { Mask } from "./mask.ts";
import { damped } from "./sparse_gpt.ts";

/** gram (columns, columns) = Σ x·xᵀ of the inputs that the pruned layer sees; cross = Σ z·xᵀ, where z is what the dense one saw. */
export interface Moments {
  readonly gram: Float64Array;
  readonly cross: Float64Array;
}

/** Little: it decides only where calibration inputs say nothing. The fit starts from the pruned weights, and what the inputs do not determine stays as it is. */
const DAMPING = 1e-4;

/**
 * The weights on the mask that make Σ ‖dense·z − new·x‖² least. dense and pruned (rows, columns).
 */
export function fitOnMask(
  dense: Float64Array,
  pruned: Float64Array,
  mask: Mask,
  columns: number,
  { gram, cross }: Moments,
  damping = DAMPING,
): Float64Array {
  const rows = dense.length / columns;
  const ridge = damped(gram, columns, damping);
  const out = pruned.slice();
  for (let row = 0; row < rows; row++) {
    const at = row * columns;
    const kept: number[] = [];
    for (let j = 0; j < columns; j++) if (mask[at + j]) kept.push(j);
    // Right side of the normal equations for the change of the weights: (dense·cross − pruned·gram) on the mask.
    const wanted = new Float64Array(columns);
    for (let k = 0; k < columns; k++) {
      const [w, p] = [dense[at + k], pruned[at + k]];
      if (w !== 0) for (let j = 0; j < columns; j++) wanted[j] += w * cross[k * columns + j];
      if (p !== 0) for (let j = 0; j < columns; j++) wanted[j] -= p * gram[k * columns + j];
    }
    const n = kept.length;
    const part = new Float64Array(n * n);
    for (let i = 0; i < n; i++) for (let j = 0; j <= i; j++) part[i * n + j] = ridge[kept[i] * columns + kept[j]];
    const change = solveCholesky(
      cholesky(part, n),
      n,
      Float64Array.from(kept, (j) => wanted[j]),
    );
    for (let i = 0; i < n; i++) out[at + kept[i]] += change[i];
  }
  return out;
}

/** Σ over rows of a·m·bᵀ. */
function bilinear(a: Float64Array, m: Float64Array, b: Float64Array, columns: number): number {
  let sum = 0;
  for (let at = 0; at < a.length; at += columns)
    for (let k = 0; k < columns; k++) {
      if (a[at + k] === 0) continue;
      let product = 0;
      for (let j = 0; j < columns; j++) product += m[k * columns + j] * b[at + j];
      sum += a[at + k] * product;
    }
  return sum;
}

/** Nothing of nothing is no error. */
const relative = (error: number, whole: number): number =>
  whole > 0 ? Math.max(0, error) / whole : error > 0 ? Number.POSITIVE_INFINITY : 0;

/** Σ ‖dense·x − other·x‖² over Σ ‖dense·x‖², from the products of the inputs x of both. */
export function reconstructionError(dense: Float64Array, other: Float64Array, columns: number, gram: Float64Array): number {
  const difference = dense.map((w, i) => w - other[i]);
  return relative(bilinear(difference, gram, difference, columns), bilinear(dense, gram, dense, columns));
}

/** Σ ‖dense·z − other·x‖² over Σ ‖dense·z‖², where both networks feed the layer differently. denseGram = Σ z·zᵀ. */
export function outputError(
  dense: Float64Array,
  other: Float64Array,
  columns: number,
  denseGram: Float64Array,
  { gram, cross }: Moments,
): number {
  const whole = bilinear(dense, denseGram, dense, columns);
  return relative(whole - 2 * bilinear(dense, cross, other, columns) + bilinear(other, gram, other, columns), whole);
}
