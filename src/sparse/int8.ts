// Values of a sparse matrix to whole numbers of eight bits and a scale for each row.
import { type SparseMatrix, visitStored } from "./matrix.ts";
import { valuesToNumbers } from "./values.ts";

export interface Int8Rows<M extends SparseMatrix> {
  /** Value times scale of its row is what it stands for. */
  readonly matrix: M;
  readonly scale: Float32Array;
}

/** The largest of each row becomes ±127, the others the nearest whole number. */
export function toInt8Rows<M extends SparseMatrix>(m: M): Int8Rows<M> {
  const numbers = valuesToNumbers(m.dtype, m.values);
  const scale = new Float32Array(m.rows);
  visitStored(m, (row, _column, slot) => {
    scale[row] = Math.max(scale[row], Math.abs(numbers[slot]) / 127);
  });
  const values = new Int8Array(numbers.length);
  visitStored(m, (row, _column, slot) => {
    // The scale was rounded: a little more than 127 is possible, and of numbers next to zero nothing but zero.
    values[slot] = scale[row] > 0 ? Math.max(-127, Math.min(127, Math.round(numbers[slot] / scale[row]))) : 0;
  });
  return { matrix: { ...m, dtype: "i8", values }, scale };
}
