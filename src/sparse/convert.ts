// Every format, and dense matrices, into every other; all ways lead over coordinates.
import type { TensorData } from "../ir/tensor.ts";
import { type Bitmap, bitmapFromCoo } from "./bitmap.ts";
import { type Bsr, type BsrBlock, bsrFromCoo } from "./bsr.ts";
import { type Coo, cooFromDense, cooToDense, transposeCoo } from "./coo.ts";
import { type Csb, type CsbOptions, csbFromCoo } from "./csb.ts";
import { type Csc, cscFromCoo } from "./csc.ts";
import { type Csr, csrFromCoo } from "./csr.ts";
import { type SparseMatrix, visitStored } from "./matrix.ts";
import { type Nibble, nibbleFromCoo } from "./nibble.ts";
import { type TwoFour, twoFourFromCoo } from "./two_four.ts";
import { isZero, newValues, type Values, type ValueType, valuesFromNumbers, valuesToNumbers } from "./values.ts";

/** What can be converted: a sparse matrix, or a dense one (rows, columns). */
export type AnyMatrix = SparseMatrix | TensorData;

/** Nonzeros in the order of the format; zeros that fill blocks of BSR and pairs of 2:4 are left out. Throws HeddleError for a tensor that is no matrix. */
export function toCoo(m: AnyMatrix): Coo {
  if (!("kind" in m)) return cooFromDense(m);
  if (m.kind === "coo") return m;
  const fills = m.kind === "bsr" || m.kind === "2:4";
  const isLeftOut = (slot: number) => fills && isZero(m.dtype, m.values[slot]);
  let count = 0;
  visitStored(m, (_row, _column, slot) => {
    if (!isLeftOut(slot)) count++;
  });
  const row = new Uint32Array(count);
  const column = new Uint32Array(count);
  const values = newValues(m.dtype, count);
  let at = 0;
  visitStored(m, (r, c, slot) => {
    if (isLeftOut(slot)) return;
    row[at] = r;
    column[at] = c;
    values[at++] = m.values[slot];
  });
  return { kind: "coo", rows: m.rows, columns: m.columns, dtype: m.dtype, row, column, values };
}

export const toDense = (m: SparseMatrix): TensorData => cooToDense(toCoo(m));
export const toCsr = (m: AnyMatrix): Csr => csrFromCoo(toCoo(m));
export const toCsc = (m: AnyMatrix): Csc => cscFromCoo(toCoo(m));
export const toBsr = (m: AnyMatrix, block: BsrBlock): Bsr => bsrFromCoo(toCoo(m), block);
/** Throws HeddleError ("bad-input") where three of four neighbours in a row are nonzero. */
export const toTwoFour = (m: AnyMatrix): TwoFour => twoFourFromCoo(toCoo(m));
export const toCsb = (m: AnyMatrix, options?: CsbOptions): Csb => csbFromCoo(toCoo(m), options);
export const toBitmap = (m: AnyMatrix): Bitmap => bitmapFromCoo(toCoo(m));
export const toNibble = (m: AnyMatrix): Nibble => nibbleFromCoo(toCoo(m));

/** Wᵀ in the format of W. Throws HeddleError where 2:4 does not hold along its columns. */
export function transpose(m: SparseMatrix): SparseMatrix {
  const turned = transposeCoo(toCoo(m));
  switch (m.kind) {
    case "coo":
      return turned;
    case "csr":
      return csrFromCoo(turned);
    case "csc":
      return cscFromCoo(turned);
    case "bsr":
      return bsrFromCoo(turned, m.block);
    case "2:4":
      return twoFourFromCoo(turned);
    case "csb":
      return csbFromCoo(turned, m);
    case "bitmap":
      return bitmapFromCoo(turned);
    case "nibble":
      return nibbleFromCoo(turned);
    default:
      return m satisfies never;
  }
}

/** The same pattern with other values in its order: gradients, optimizer state, updated weights. Nothing is copied. */
export const withValues = <M extends SparseMatrix>(m: M, dtype: ValueType, values: Values): M => ({ ...m, dtype, values });

/** The same matrix with its values rounded to another type. */
export const withType = <M extends SparseMatrix>(m: M, dtype: ValueType): M =>
  withValues(m, dtype, valuesFromNumbers(dtype, valuesToNumbers(m.dtype, m.values)));

/** Elements of a dense matrix (rows, columns) at the places that `m` stores, in its order: a dense gradient under the mask. */
export function gather(m: SparseMatrix, dense: ArrayLike<number>): Float64Array {
  const out = new Float64Array(m.values.length);
  visitStored(m, (row, column, slot) => {
    out[slot] = dense[row * m.columns + column];
  });
  return out;
}
