// Cholesky factors of symmetric positive matrices in float64, by blocks of rows that stay in the cache, and triangular inverses and solutions.
import { HeddleError } from "../../ir/error.ts";

/** Rows and columns of a block: three of them are 96 KiB. */
const BLOCK = 64;

/** Σ a[i] · b[i] over `count` elements; four sums at once, because additions wait for each other. */
function dot(a: Float64Array, i: number, b: Float64Array, j: number, count: number): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  let k = 0;
  for (; k + 3 < count; k += 4) {
    s0 += a[i + k] * b[j + k];
    s1 += a[i + k + 1] * b[j + k + 1];
    s2 += a[i + k + 2] * b[j + k + 2];
    s3 += a[i + k + 3] * b[j + k + 3];
  }
  for (; k < count; k++) s0 += a[i + k] * b[j + k];
  return s0 + s1 + (s2 + s3);
}

/** The lower triangular L (n, n) with L·Lᵀ = A; only A's lower half is read. Throws HeddleError ("bad-input") where A is not positive. */
export function cholesky(a: Float64Array, n: number): Float64Array {
  const l = new Float64Array(n * n);
  for (let from = 0; from < n; from += BLOCK) {
    const to = Math.min(from + BLOCK, n);
    // What the columns before this block take away, panel by panel, so that both operands stay in the cache.
    for (let i = from; i < n; i++) for (let j = from; j < Math.min(i + 1, to); j++) l[i * n + j] = a[i * n + j];
    for (let panel = 0; panel < from; panel += BLOCK)
      for (let i = from; i < n; i++)
        for (let j = from; j < Math.min(i + 1, to); j++) l[i * n + j] -= dot(l, i * n + panel, l, j * n + panel, BLOCK);
    for (let j = from; j < to; j++) {
      const pivot = l[j * n + j] - dot(l, j * n + from, l, j * n + from, j - from);
      if (!(pivot > 0)) throw new HeddleError("bad-input", `cholesky: the matrix is not positive at row ${j} of ${n}; add to its diagonal`);
      const root = Math.sqrt(pivot);
      l[j * n + j] = root;
      for (let i = j + 1; i < n; i++) l[i * n + j] = (l[i * n + j] - dot(l, i * n + from, l, j * n + from, j - from)) / root;
    }
  }
  return l;
}

/** The inverse (n, n), lower triangular, of a lower triangular matrix. */
export function invertLower(l: Float64Array, n: number): Float64Array {
  const columns = new Float64Array(n * n); // the inverse transposed: its columns are rows here, so that all products run along rows
  for (let j = 0; j < n; j++) {
    columns[j * n + j] = 1 / l[j * n + j];
    for (let i = j + 1; i < n; i++) columns[j * n + i] = -dot(l, i * n + j, columns, j * n + j, i - j) / l[i * n + i];
  }
  const out = new Float64Array(n * n);
  for (let j = 0; j < n; j++) for (let i = j; i < n; i++) out[i * n + j] = columns[j * n + i];
  return out;
}

/**
 * The upper triangular U (n, n) with Uᵀ·U = A⁻¹: what SparseGPT eliminates weights with. With both axes turned round, the lower factor of A
 * is upper triangular, and its inverse is U: one factorisation and one triangular inverse, and A⁻¹ itself is never made.
 */
export function inverseFactor(a: Float64Array, n: number): Float64Array {
  return reversed(invertLower(cholesky(reversed(a), n), n));
}

/** Rows and columns from the last to the first. */
const reversed = (a: Float64Array): Float64Array => a.slice().reverse();

/** x with L·Lᵀ·x = b. */
export function solveCholesky(l: Float64Array, n: number, b: Float64Array): Float64Array {
  const x = b.slice();
  for (let i = 0; i < n; i++) x[i] = (x[i] - dot(l, i * n, x, 0, i)) / l[i * n + i];
  for (let i = n - 1; i >= 0; i--) {
    x[i] /= l[i * n + i];
    for (let j = 0; j < i; j++) x[j] -= l[i * n + j] * x[i];
  }
  return x;
}
