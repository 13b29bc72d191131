// The public interface for sparse matrices: formats, converters, checks, products in plain loops, and files.

export { type MatrixMarketOptions, readMatrixMarket, writeMatrixMarket } from "./formats/matrix_market.ts";
export {
  loadSafetensors,
  type Metadata,
  readSafetensors,
  type Safetensors,
  saveSafetensors,
  type Tensors,
  writeSafetensors,
} from "./formats/safetensors.ts";
export { packSparse, type SparseFile, unpackSparse } from "./formats/sparse_safetensors.ts";
export type { DType, TypedArray } from "./ir/dtype.ts";
export { type ErrorCode, HeddleError } from "./ir/error.ts";
export { fromNumbers, type Shape, type TensorData, toNumbers } from "./ir/tensor.ts";
export { cutByNonzeros, type MergePoint, mergePath } from "./sparse/balance.ts";
export type { Bitmap } from "./sparse/bitmap.ts";
export type { Bsr, BsrBlock } from "./sparse/bsr.ts";
export {
  type AnyMatrix,
  gather,
  toBitmap,
  toBsr,
  toCoo,
  toCsb,
  toCsc,
  toCsr,
  toDense,
  toNibble,
  toTwoFour,
  transpose,
  withType,
  withValues,
} from "./sparse/convert.ts";
export type { Coo } from "./sparse/coo.ts";
export type { Csb, CsbOptions, CsbOrder } from "./sparse/csb.ts";
export { type Csc, transposedCsr } from "./sparse/csc.ts";
export { type Csr, invertOrder, permuteRows, rowsByLength } from "./sparse/csr.ts";
export { type Int8Rows, toInt8Rows } from "./sparse/int8.ts";
export type { SparseMatrix } from "./sparse/matrix.ts";
export type { Nibble } from "./sparse/nibble.ts";
export { sddmm, spmm, spmmErrorBound, spmmTransposed } from "./sparse/reference.ts";
export { spgemm } from "./sparse/spgemm.ts";
export { type SparseStatistics, type StatisticsOptions, statisticsOf } from "./sparse/statistics.ts";
export type { TwoFour } from "./sparse/two_four.ts";
export { validate } from "./sparse/validate.ts";
export type { Values, ValueType } from "./sparse/values.ts";
