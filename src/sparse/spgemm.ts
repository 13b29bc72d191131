// Sparse times sparse, row by row with a hash table for the columns of a row (Nagasaka et al. 2018): compressed sparse rows come out.
import { HeddleError } from "../ir/error.ts";
import { toCsr } from "./convert.ts";
import { MAX_SIZE } from "./coo.ts";
import type { Csr } from "./csr.ts";
import type { SparseMatrix } from "./matrix.ts";
import { type ValueType, valuesFromNumbers, valuesToNumbers } from "./values.ts";

/**
 * a (rows, depth) · b (depth, columns). Sums are float64 and rounded once to `dtype` (by default float32, float64 where a or b is).
 * Places where something was added up are stored, also where the sum is zero. Throws HeddleError ("bad-input", "limit").
 */
export function spgemm(a: SparseMatrix, b: SparseMatrix, dtype: ValueType = isDouble(a, b) ? "f64" : "f32"): Csr {
  if (a.columns !== b.rows)
    throw new HeddleError(
      "bad-input",
      `sparse product: (${a.rows}, ${a.columns}) times (${b.rows}, ${b.columns}): ${a.columns} is not ${b.rows}`,
    );
  const [left, right] = [toCsr(a), toCsr(b)];
  const row = new RowTable(left, right);
  const pointers = new Uint32Array(left.rows + 1);
  const column = new Growing(Uint32Array);
  const sums = new Growing(Float64Array);
  for (let r = 0; r < left.rows; r++) {
    const count = row.multiply(r);
    const columns = column.next(count);
    columns.set(row.columns.subarray(0, count));
    columns.sort();
    row.take(columns, sums.next(count));
    pointers[r + 1] = column.length;
  }
  return {
    kind: "csr",
    rows: a.rows,
    columns: b.columns,
    pointers,
    column: column.result(),
    dtype,
    values: valuesFromNumbers(dtype, sums.result()),
  };
}

const isDouble = (a: SparseMatrix, b: SparseMatrix): boolean => a.dtype === "f64" || b.dtype === "f64";

const FREE = 0xffffffff;
/** Knuth's: 2³² over the golden ratio. */
const SPREAD = 0x9e3779b1;

/** One row of the product: a table from columns to sums with linear probing. */
class RowTable {
  /** Columns of the row in the order in which they were met. */
  columns = new Uint32Array(64);
  private keys = new Uint32Array(0);
  private sums = new Float64Array(0);
  private shift = 32;
  private readonly values: readonly [Float64Array, Float64Array];

  constructor(
    private readonly left: Csr,
    private readonly right: Csr,
  ) {
    this.values = [valuesToNumbers(left.dtype, left.values), valuesToNumbers(right.dtype, right.values)];
  }

  /** Row r of the product; how many columns it has. */
  multiply(r: number): number {
    const { left, right } = this;
    let products = 0;
    for (let i = left.pointers[r]; i < left.pointers[r + 1]; i++)
      products += right.pointers[left.column[i] + 1] - right.pointers[left.column[i]];
    this.reset(Math.min(products, right.columns));
    let count = 0;
    for (let i = left.pointers[r]; i < left.pointers[r + 1]; i++) count = this.add(left.column[i], this.values[0][i], count);
    return count;
  }

  /** Room for `most` columns, at most half of it taken. */
  private reset(most: number): void {
    const bits = Math.max(1, Math.ceil(Math.log2(2 * most + 1)));
    this.shift = 32 - bits;
    if (this.keys.length < 2 ** bits) {
      this.keys = new Uint32Array(2 ** bits);
      this.sums = new Float64Array(2 ** bits);
      this.columns = new Uint32Array(2 ** bits);
    }
    this.keys.fill(FREE, 0, 2 ** bits);
  }

  /** Adds `factor` times row k of the right matrix. */
  private add(k: number, factor: number, before: number): number {
    const { keys, sums, columns, shift, right } = this;
    const values = this.values[1];
    const mask = 2 ** (32 - shift) - 1;
    let count = before;
    for (let i = right.pointers[k]; i < right.pointers[k + 1]; i++) {
      const column = right.column[i];
      let at = Math.imul(column, SPREAD) >>> shift;
      while (keys[at] !== column && keys[at] !== FREE) at = (at + 1) & mask;
      if (keys[at] === FREE) {
        keys[at] = column;
        columns[count++] = column;
        sums[at] = 0;
      }
      sums[at] += factor * values[i];
    }
    return count;
  }

  /** The sums of these columns, all of which are there. */
  take(columns: Uint32Array, out: Float64Array): void {
    const { keys, sums, shift } = this;
    const mask = 2 ** (32 - shift) - 1;
    for (let i = 0; i < columns.length; i++) {
      let at = Math.imul(columns[i], SPREAD) >>> shift;
      while (keys[at] !== columns[i]) at = (at + 1) & mask;
      out[i] = sums[at];
    }
  }
}

/** An array that is filled from its beginning. */
class Growing<T extends Uint32Array | Float64Array> {
  length = 0;
  private data: T;

  constructor(private readonly make: new (length: number) => T) {
    this.data = new make(1024);
  }

  /** Room for `count` more elements. */
  next(count: number): T {
    const { length, data } = this;
    if (length + count > MAX_SIZE) throw new HeddleError("limit", `sparse product: more than ${MAX_SIZE} nonzeros`);
    if (length + count > data.length) {
      this.data = new this.make(Math.min(MAX_SIZE, Math.max(2 * data.length, length + count)));
      this.data.set(data);
    }
    this.length += count;
    return this.data.subarray(length, this.length) as T; // of the same type
  }

  result(): T {
    return this.data.slice(0, this.length) as T;
  }
}
