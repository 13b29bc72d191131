// Coordinate format: row, column and value of each nonzero. Every other format is made from it, with nonzeros row by row, and unpacked to it.
import { HeddleError } from "../ir/error.ts";
import type { TensorData } from "../ir/tensor.ts";
import { stableOrder, take } from "./order.ts";
import { asValueType, isZero, newValues, takeValues, type Values, type ValueType } from "./values.ts";

export interface Coo {
  readonly kind: "coo";
  readonly rows: number;
  readonly columns: number;
  readonly dtype: ValueType;
  /** Of each nonzero, in any order. */
  readonly row: Uint32Array;
  readonly column: Uint32Array;
  readonly values: Values;
}

/** Sizes and the largest number of nonzeros: positions are 32-bit numbers. */
export const MAX_SIZE = 2 ** 31 - 1;

/** The nonzeros of a dense matrix (rows, columns), row by row; NaN is one, -0 is not. Throws HeddleError. */
export function cooFromDense({ dtype: type, shape, data: stored }: TensorData): Coo {
  const dtype = asValueType(type, "dense matrix");
  if (shape.length !== 2) throw new HeddleError("bad-input", `dense matrix: wanted (rows, columns), got (${shape})`);
  const [rows, columns] = shape;
  const data = stored as Values; // its type was checked
  const kept = marksOf(dtype, data);
  let count = 0;
  let end = 0;
  for (let i = 0; i < kept.length; i++) count += kept[i];
  for (let found = 0; found < count; end++) found += kept[end];
  const row = new Uint32Array(count);
  const column = new Uint32Array(count);
  const values = newValues(dtype, count);
  // Zeros are written, too, and then over: which come is not foreseen, and a wrong guess takes longer.
  for (let i = 0, k = 0, r = 0, c = 0; i < end; i++) {
    row[k] = r;
    column[k] = c;
    values[k] = data[i];
    k += kept[i];
    if (++c === columns) {
      c = 0;
      r++;
    }
  }
  return { kind: "coo", rows, columns, dtype, row, column, values };
}

/** 1 for each nonzero, 0 for each zero; of float32 by its bits, as a comparison would be a guess again. */
function marksOf(dtype: ValueType, data: Values): Uint8Array {
  const marks = new Uint8Array(data.length);
  if (dtype === "f32") {
    const bits = new Int32Array(data.buffer, data.byteOffset, data.length);
    for (let i = 0; i < marks.length; i++) marks[i] = -(bits[i] & 0x7fffffff) >>> 31;
  } else for (let i = 0; i < marks.length; i++) marks[i] = isZero(dtype, data[i]) ? 0 : 1;
  return marks;
}

/** The dense matrix (rows, columns). Throws HeddleError ("limit"). */
export function cooToDense({ rows, columns, dtype, row, column, values }: Coo): TensorData {
  if (rows * columns > MAX_SIZE) throw new HeddleError("limit", `dense matrix: (${rows}, ${columns}) has too many elements`);
  const data = newValues(dtype, rows * columns);
  for (let i = 0; i < values.length; i++) data[row[i] * columns + column[i]] = values[i];
  return { dtype, shape: [rows, columns], data };
}

export type CooOrder = "row" | "column";

/** Nonzeros row by row (or column by column); the same object where they are already. */
export function sortCoo(m: Coo, order: CooOrder = "row"): Coo {
  const [major, minor] = order === "row" ? [m.row, m.column] : [m.column, m.row];
  if (isSorted(major, minor)) return m;
  const [majors, minors] = order === "row" ? [m.rows, m.columns] : [m.columns, m.rows];
  return reorderCoo(m, stableOrder(major, majors, stableOrder(minor, minors)));
}

/** The nonzeros `order[0], order[1], …` */
export const reorderCoo = (m: Coo, order: Uint32Array): Coo => ({
  ...m,
  row: take(m.row, order),
  column: take(m.column, order),
  values: takeValues(m.dtype, m.values, order),
});

function isSorted(major: Uint32Array, minor: Uint32Array): boolean {
  for (let i = 1; i < major.length; i++)
    if (major[i] < major[i - 1] || (major[i] === major[i - 1] && minor[i] < minor[i - 1])) return false;
  return true;
}

/** Rows and columns change places; nonzeros keep their order. */
export const transposeCoo = (m: Coo): Coo => ({ ...m, rows: m.columns, columns: m.rows, row: m.column, column: m.row });
