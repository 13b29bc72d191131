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

/** From l[at], its right neighbour and the two below: the products of the rows that begin at i and at j, and of those after them. Two by two: half the loads. */
function subtractFour(l: Float64Array, n: number, i: number, j: number, count: number, at: number): void {
  let [s00, s01, s10, s11] = [0, 0, 0, 0];
  for (let k = 0; k < count; k++) {
    const [a0, a1, b0, b1] = [l[i + k], l[i + n + k], l[j + k], l[j + n + k]];
    s00 += a0 * b0;
    s01 += a0 * b1;
    s10 += a1 * b0;
    s11 += a1 * b1;
  }
  l[at] -= s00;
  l[at + 1] -= s01;
  l[at + n] -= s10;
  l[at + n + 1] -= s11;
}

/** The lower triangular L (n, n) with L·Lᵀ = A; only A's lower half is read. Throws HeddleError ("bad-input") where A is not positive. */
export function cholesky(a: Float64Array, n: number): Float64Array {
  const l = new Float64Array(n * n);
  for (let from = 0; from < n; from += BLOCK) {
    const to = Math.min(from + BLOCK, n);
    // What the columns before this block take away, panel by panel, so that both operands stay in the cache.
    for (let i = from; i < n; i++) for (let j = from; j < Math.min(i + 1, to); j++) l[i * n + j] = a[i * n + j];
    for (let panel = 0; panel < from; panel += BLOCK) subtractPanel(l, n, panel, from, to);
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

/** Of columns from…to, from the diagonal down: what columns panel…panel + BLOCK take away. */
function subtractPanel(l: Float64Array, n: number, panel: number, from: number, to: number): void {
  const alone = (i: number, j: number): void => {
    l[i * n + j] -= dot(l, i * n + panel, l, j * n + panel, BLOCK);
  };
  for (let i = from; i < n; i += 2) {
    const end = Math.min(i + 1, to); // of the columns that both rows have
    const isPair = i + 1 < n;
    let j = from;
    if (isPair) for (; j + 1 < end; j += 2) subtractFour(l, n, i * n + panel, j * n + panel, BLOCK, i * n + j);
    for (; j < end; j++) {
      alone(i, j);
      if (isPair) alone(i + 1, j);
    }
    if (isPair && i + 1 < to) alone(i + 1, i + 1);
  }
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
