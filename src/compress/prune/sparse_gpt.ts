// SparseGPT (Frantar and Alistarh 2023): goes through a matrix column by column, drops weights, and lets those to the right make up for the error.
import { inverseFactor } from "./cholesky.ts";
import type { NOfM } from "./grains.ts";
import { keepLargest, type Mask } from "./mask.ts";

/** What the rows of one group need: matrix (rows, columns), gram (columns, columns) = Σ x·xᵀ over calibration inputs. */
export interface SparseGptOptions {
  /** The part that goes, in each block of columns; or a pattern; or what stays is given. */
  readonly drop: { readonly sparsity: number } | NOfM | { readonly mask: Mask };
  /** Added to the diagonal, in parts of its mean: keeps the factorisation stable. */
  readonly damping?: number;
  /** Columns whose weights compete, and whose errors reach the columns behind them at once. Default: an eighth of them, 128 at most. */
  readonly block?: number;
}

export interface Pruned {
  readonly matrix: Float64Array;
  readonly mask: Mask;
}

const DAMPING = 0.01;
/** In place of the damping, for inputs that were always 0. */
const SILENT = 1e-6;
/** The authors' 128 columns for matrices of thousands; narrow ones in eight steps: in one, what is chosen knows nothing of what was dropped. */
const MAX_BLOCK = 128;
const blockOf = (columns: number): number => Math.min(MAX_BLOCK, Math.ceil(columns / 8));

/** The gram matrix with a diagonal that can be factored: inputs that were always 0 count next to nothing, so that their weights are the first to go. */
export function damped(gram: Float64Array, n: number, damping = DAMPING): Float64Array {
  const out = gram.slice();
  let mean = 0;
  for (let i = 0; i < n; i++) mean += gram[i * n + i] / n;
  for (let i = 0; i < n; i++) out[i * n + i] += (gram[i * n + i] > 0 ? damping : SILENT) * mean || 1;
  return out;
}

export function sparseGpt(weights: Float64Array, gram: Float64Array, columns: number, options: SparseGptOptions): Pruned {
  const { drop, damping = DAMPING, block = blockOf(columns) } = options;
  const rows = weights.length / columns;
  const factor = inverseFactor(damped(gram, columns, damping), columns);
  const matrix = weights.slice();
  const mask = "mask" in drop ? drop.mask.slice() : new Uint8Array(weights.length).fill(1);
  // Patterns lie within a block.
  const width = "m" in drop ? Math.ceil(block / drop.m) * drop.m : block;
  for (let from = 0, dropped = 0; from < columns; from += width) {
    const to = Math.min(from + width, columns);
    if ("sparsity" in drop) {
      const goal = Math.round(rows * to * drop.sparsity); // of all up to here, so that roundings do not add up
      chooseInBlock({ matrix, mask, factor, columns, rows }, from, to, rows * (to - from) - (goal - dropped));
      dropped = goal;
    }
    const errors = eliminate({ matrix, mask, factor, columns, rows }, from, to, "m" in drop ? drop : null);
    spreadErrors(matrix, factor, errors, { rows, columns, from, to });
  }
  return { matrix, mask };
}

interface Work {
  readonly matrix: Float64Array;
  readonly mask: Mask;
  /** Upper triangular: its transpose times itself is the inverse of the gram matrix. */
  readonly factor: Float64Array;
  readonly columns: number;
  readonly rows: number;
}

/** What dropping a weight would cost: the error of all outputs after the others have made up for it. */
const costOf = ({ matrix, factor, columns }: Work, row: number, column: number): number =>
  (matrix[row * columns + column] / factor[column * columns + column]) ** 2;

function chooseInBlock(work: Work, from: number, to: number, kept: number): void {
  const width = to - from;
  const costs = new Float64Array(work.rows * width);
  for (let i = 0; i < costs.length; i++) costs[i] = costOf(work, Math.floor(i / width), from + (i % width));
  const stays = keepLargest(costs, kept);
  for (let i = 0; i < costs.length; i++) work.mask[Math.floor(i / width) * work.columns + from + (i % width)] = stays[i];
}

function choosePattern(work: Work, at: number, to: number, { n, m }: NOfM): void {
  const width = Math.min(m, to - at);
  for (let row = 0; row < work.rows; row++) {
    const costs = Float64Array.from({ length: width }, (_, k) => costOf(work, row, at + k));
    work.mask.set(keepLargest(costs, n), row * work.columns + at);
  }
}

/** Drops what the mask does not keep in columns from…to; the columns of the block to the right of each change at once. Returns errors (rows, to − from). */
function eliminate(work: Work, from: number, to: number, pattern: NOfM | null): Float64Array {
  const { matrix, mask, factor, columns, rows } = work;
  const errors = new Float64Array(rows * (to - from));
  for (let j = from; j < to; j++) {
    if (pattern && (j - from) % pattern.m === 0) choosePattern(work, j, to, pattern);
    for (let row = 0; row < rows; row++) {
      const at = row * columns;
      if (mask[at + j]) continue;
      const error = matrix[at + j] / factor[j * columns + j];
      errors[row * (to - from) + j - from] = error;
      matrix[at + j] = 0;
      if (error !== 0) for (let k = j + 1; k < to; k++) matrix[at + k] -= error * factor[j * columns + k];
    }
  }
  return errors;
}

/** The columns behind the block make up for its errors: matrix −= errors · factor. */
function spreadErrors(
  matrix: Float64Array,
  factor: Float64Array,
  errors: Float64Array,
  { rows, columns, from, to }: { readonly rows: number; readonly columns: number; readonly from: number; readonly to: number },
): void {
  for (let row = 0; row < rows; row++)
    for (let j = from; j < to; j++) {
      const error = errors[row * (to - from) + j - from];
      if (error !== 0) for (let k = to; k < columns; k++) matrix[row * columns + k] -= error * factor[j * columns + k];
    }
}
