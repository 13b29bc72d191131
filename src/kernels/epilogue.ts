// The element-wise tail of a contraction, applied to accumulators while they are still in registers: bias, activation, residual.
import type { DType } from "../ir/dtype.ts";
import { DTYPES } from "../ir/dtype.ts";
import type { Expr } from "../ir/expr.ts";
import { loadReader } from "../ir/expr_interpreter.ts";
import type { Reader, TensorType } from "../ir/graph.ts";
import { addIndex, type Index, type IndexVar, mulIndex, newVar, sameIndex, unlinearIndex, varIndex } from "../ir/index_expr.ts";
import { type Int, type KernelBuilder, type MemoryType, plus, times, type Vec } from "../ir/kernel.ts";
import { elementCount } from "../ir/tensor.ts";
import { emitExpr } from "../lower/scalar.ts";

/** What follows a contraction inside its group. */
export interface Epilogue {
  /** Tensors it reads besides the contraction's result. */
  readonly inputs: readonly TensorType[];
  /** The group's output; it has the contraction's shape. */
  readonly output: TensorType;
  /** Reader of the output from readers of `inputs`, then of the contraction's result. */
  compose(leaves: readonly Reader[]): Reader;
}

/** Nothing follows: the result is stored as it is. */
export const noEpilogue = (output: TensorType): Epilogue => ({ inputs: [], output, compose: (leaves) => leaves[0] });

/** Memory type of a dtype that vector code can store. */
export function memoryType(dtype: DType): MemoryType {
  return dtype === "bool" ? "u8" : (dtype as MemoryType); // only dtypes that lowering accepts come here
}

/** Writes an epilogue into a kernel that sees the output as (rows, columns), row-major. Vectors run along columns. */
export class EpilogueCode {
  private readonly row: IndexVar;
  private readonly column: IndexVar;
  private readonly expr: Expr;
  private readonly buffers: readonly number[];
  private readonly outputBuffer: number;

  /** Declares the buffers of the epilogue's inputs and of the output, in this order. */
  constructor(
    private readonly b: KernelBuilder,
    private readonly epilogue: Epilogue,
    private readonly columns: number,
  ) {
    const { output, inputs } = epilogue;
    const { shape } = output;
    const count = elementCount(shape);
    this.row = newVar(count / columns);
    this.column = newVar(columns);
    const flat = addIndex(mulIndex(varIndex(this.row), columns), varIndex(this.column));
    const index =
      columns === shape[shape.length - 1]
        ? [...unlinearIndex(varIndex(this.row), shape.slice(0, -1)), varIndex(this.column)]
        : unlinearIndex(flat, shape);
    const leaf = (type: TensorType, input: number): Reader => flatReader(type, input, shape, index, flat);
    const anchor = leaf({ dtype: "f32", shape }, inputs.length);
    this.expr = epilogue.compose([...inputs.map(leaf), anchor]).at(index);
    this.buffers = inputs.map((t, i) => b.buffer(`epilogue${i}`, elementCount(t.shape) * DTYPES[t.dtype].bytes, "read"));
    this.outputBuffer = b.buffer("output", count * DTYPES[output.dtype].bytes, "readwrite");
  }

  /** Byte offset of an element in an output of 4-byte elements. */
  private at(row: Int, column: Int, bytes: number): Int {
    return plus(times(row, this.columns * bytes), times(column, bytes));
  }

  /** Applies the epilogue to `lanes` results at (row, column…) and stores them. */
  store(result: Vec, row: Int, column: Int, lanes: number): void {
    const { epilogue, b, buffers } = this;
    const value = emitExpr(this.expr, {
      builder: b,
      ints: new Map([
        [this.row.id, row],
        [this.column.id, column],
      ]),
      lane: this.column,
      lanes,
      buffers,
      given: new Map([[epilogue.inputs.length, result]]),
    });
    const { dtype } = epilogue.output;
    b.store(value, this.outputBuffer, this.at(row, column, DTYPES[dtype].bytes), lanes, memoryType(dtype));
  }

  /** Puts unfinished sums into the output (float32 only). */
  storePartial(sum: Vec, row: Int, column: Int, lanes: number): void {
    this.b.store(sum, this.outputBuffer, this.at(row, column, 4), lanes);
  }
  loadPartial(row: Int, column: Int, lanes: number): Vec {
    return this.b.load(this.outputBuffer, this.at(row, column, 4), lanes);
  }
}

/** A reader that sees a tensor of the output's own shape as (rows, columns), so that no row has to be taken apart into its axes. */
function flatReader(type: TensorType, input: number, shape: readonly number[], index: readonly Index[], flat: Index): Reader {
  const plain = loadReader(type, input);
  if (type.shape.length !== shape.length || type.shape.some((d, i) => d !== shape[i])) return plain;
  return {
    type,
    at: (at) => (at.every((a, i) => sameIndex(a, index[i])) ? { k: "load", dtype: type.dtype, input, at: flat } : plain.at(at)),
  };
}
