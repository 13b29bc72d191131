// Compressed sparse rows: nonzeros row by row, columns ascending inside a row; also rows put into another order.
import { HeddleError } from "../ir/error.ts";
import { type Coo, reorderCoo, sortCoo } from "./coo.ts";
import { stableOrder, startsOf } from "./order.ts";
import type { Values, ValueType } from "./values.ts";
import type { Visit } from "./visit.ts";

export interface Csr {
  readonly kind: "csr";
  readonly rows: number;
  readonly columns: number;
  /** Where each row's nonzeros start, and the end. */
  readonly pointers: Uint32Array;
  /** Of each nonzero. */
  readonly column: Uint32Array;
  readonly dtype: ValueType;
  readonly values: Values;
}

export function csrFromCoo(m: Coo): Csr {
  const { rows, columns, dtype, row, column, values } = sortCoo(m);
  return { kind: "csr", rows, columns, pointers: startsOf(row, rows), column, dtype, values };
}

/** All nonzeros in their order. */
export function visitCsr({ rows, pointers, column }: Csr, visit: Visit): void {
  for (let row = 0; row < rows; row++) for (let i = pointers[row]; i < pointers[row + 1]; i++) visit(row, column[i], i);
}

/** Rows from the longest to the shortest, equal ones in their order: neighbours then have about the same work (Gale et al. 2020, row swizzle). */
export function rowsByLength({ rows, columns, pointers }: Csr): Uint32Array {
  const missing = new Uint32Array(rows).map((_, row) => columns - (pointers[row + 1] - pointers[row]));
  return stableOrder(missing, columns + 1);
}

/** The matrix whose row i is row `order[i]` of this one. Throws HeddleError ("bad-argument") where `order` is no permutation. */
export function permuteRows(m: Csr, order: Uint32Array): Csr {
  const pointers = new Uint32Array(m.rows + 1);
  for (const [i, row] of checkedPermutation(order, m.rows).entries()) pointers[i + 1] = pointers[i] + m.pointers[row + 1] - m.pointers[row];
  const from = new Uint32Array(m.values.length);
  for (let i = 0; i < m.rows; i++) for (let k = pointers[i], at = m.pointers[order[i]]; k < pointers[i + 1]; k++, at++) from[k] = at;
  const { column, values } = reorderCoo({ ...m, kind: "coo", row: m.column }, from);
  return { ...m, pointers, column, values };
}

/** The permutation that takes `order` back. */
export function invertOrder(order: Uint32Array): Uint32Array {
  const inverse = new Uint32Array(order.length);
  for (let i = 0; i < order.length; i++) inverse[order[i]] = i;
  return inverse;
}

function checkedPermutation(order: Uint32Array, count: number): Uint32Array {
  const seen = new Uint8Array(count);
  for (const i of order) if (i < count) seen[i] = 1;
  if (order.length !== count || seen.includes(0))
    throw new HeddleError("bad-argument", `CSR: the order of rows is no permutation of ${count}`);
  return order;
}
