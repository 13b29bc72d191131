// W·X, Wᵀ·G and the sampled product of any sparse matrix by plain float64 loops: what kernels are compared with, and the error they may have.
import { HeddleError } from "../ir/error.ts";
import { type SparseMatrix, visitStored } from "./matrix.ts";
import { valuesToNumbers } from "./values.ts";

/** w (rows, columns) · x (columns, n) → (rows, n) */
export function spmm(w: SparseMatrix, x: ArrayLike<number>, n: number): Float64Array {
  checkLength("W·X", x, w.columns, n);
  const values = valuesToNumbers(w.dtype, w.values);
  const y = new Float64Array(w.rows * n);
  visitStored(w, (row, column, slot) => {
    for (let k = 0; k < n; k++) y[row * n + k] += values[slot] * x[column * n + k];
  });
  return y;
}

/** wᵀ (columns, rows) · g (rows, n) → (columns, n) */
export function spmmTransposed(w: SparseMatrix, g: ArrayLike<number>, n: number): Float64Array {
  checkLength("Wᵀ·G", g, w.rows, n);
  const values = valuesToNumbers(w.dtype, w.values);
  const y = new Float64Array(w.columns * n);
  visitStored(w, (row, column, slot) => {
    for (let k = 0; k < n; k++) y[column * n + k] += values[slot] * g[row * n + k];
  });
  return y;
}

/** g (rows, n) · xᵀ (n, columns) at the places that `w` stores, in its order. */
export function sddmm(w: SparseMatrix, g: ArrayLike<number>, x: ArrayLike<number>, n: number): Float64Array {
  checkLength("(G·Xᵀ)∘W", g, w.rows, n);
  checkLength("(G·Xᵀ)∘W", x, w.columns, n);
  const out = new Float64Array(w.values.length);
  visitStored(w, (row, column, slot) => {
    for (let k = 0; k < n; k++) out[slot] += g[row * n + k] * x[column * n + k];
  });
  return out;
}

/** How far each element of W·X may lie from `y` (of spmm) when computed in float32: u·|y| + 4·√nnz·2⁻²⁴·Σ|w||x|, u the rounding of the output. */
export function spmmErrorBound(w: SparseMatrix, x: ArrayLike<number>, n: number, y: Float64Array, u = 2 ** -24): Float64Array {
  const values = valuesToNumbers(w.dtype, w.values);
  const sizes = new Float64Array(w.rows * n);
  const counts = new Float64Array(w.rows);
  visitStored(w, (row, column, slot) => {
    counts[row]++;
    for (let k = 0; k < n; k++) sizes[row * n + k] += Math.abs(values[slot] * x[column * n + k]);
  });
  return sizes.map((size, i) => u * Math.abs(y[i]) + 4 * Math.sqrt(counts[Math.floor(i / n)]) * 2 ** -24 * size);
}

function checkLength(what: string, data: ArrayLike<number>, rows: number, n: number): void {
  if (data.length !== rows * n) throw new HeddleError("bad-input", `${what}: wanted (${rows}, ${n}), got ${data.length} elements`);
}
