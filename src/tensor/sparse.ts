// Products of tensors with matrices of which only the nonzeros are stored: their values are a tensor, their places are constants.

import { constantValue } from "../ops/source.ts";
import type { Csb } from "../sparse/csb.ts";
import { op } from "./build.ts";
import { type Tensor, tensorFrom, toValue } from "./tensor.ts";
import { refuse } from "./trace.ts";

/** Where the nonzeros of a matrix (rows, columns) are: in blocks of at most 128, in the order in which their values lie. */
export type SparsePattern = Pick<Csb, "rows" | "columns" | "block" | "pointers" | "row" | "column">;

/** x (…, columns) · Wᵀ → (…, rows), W given by its nonzeros. Gradients of the values are theirs alone: W never exists as a dense matrix. */
export function sparseLinear(x: Tensor, values: Tensor, { rows, columns, block, pointers, row, column }: SparsePattern): Tensor {
  if (block > 128) refuse(`sparseLinear: blocks of ${block}, wanted at most 128`);
  const places = [
    constantValue({ dtype: "i32", shape: [pointers.length], data: Int32Array.from(pointers) }),
    ...[row, column].map((at) => constantValue({ dtype: "u8", shape: [at.length], data: Uint8Array.from(at) })),
  ];
  return tensorFrom(op("SparseMatMul", [toValue(x), toValue(values), ...places], { rows, columns, block, transposed: 0 }));
}
