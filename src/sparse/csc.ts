// Compressed sparse columns: nonzeros column by column, rows ascending inside a column.
import { type Coo, sortCoo } from "./coo.ts";
import type { Csr } from "./csr.ts";
import { startsOf } from "./order.ts";
import type { Values, ValueType } from "./values.ts";
import type { Visit } from "./visit.ts";

export interface Csc {
  readonly kind: "csc";
  readonly rows: number;
  readonly columns: number;
  /** Where each column's nonzeros start, and the end. */
  readonly pointers: Uint32Array;
  /** Of each nonzero. */
  readonly row: Uint32Array;
  readonly dtype: ValueType;
  readonly values: Values;
}

export function cscFromCoo(m: Coo): Csc {
  const { rows, columns, dtype, row, column, values } = sortCoo(m, "column");
  return { kind: "csc", rows, columns, pointers: startsOf(column, columns), row, dtype, values };
}

/** Wᵀ by columns is W by rows: nothing is copied. */
export const transposedCsr = ({ rows, columns, pointers, column, dtype, values }: Csr): Csc => ({
  kind: "csc",
  rows: columns,
  columns: rows,
  pointers,
  row: column,
  dtype,
  values,
});

/** All nonzeros in their order. */
export function visitCsc({ columns, pointers, row }: Csc, visit: Visit): void {
  for (let column = 0; column < columns; column++) for (let i = pointers[column]; i < pointers[column + 1]; i++) visit(row[i], column, i);
}
