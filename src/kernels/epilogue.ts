// The element-wise tail of a contraction, applied to accumulators while they are still in registers: bias, activation, residual.
import { DTYPES } from "../ir/dtype.ts";
import type { Expr } from "../ir/expr.ts";
import { loadReader } from "../ir/expr_interpreter.ts";
import type { Reader, TensorType } from "../ir/graph.ts";
import { addIndex, type Index, type IndexVar, mulIndex, newVar, sameIndex, unlinearIndex, varIndex } from "../ir/index_expr.ts";
import { type CacheLevel, type Int, type KernelBuilder, plus, times, type Vec } from "../ir/kernel.ts";
import type { ScalarFn } from "../ir/scalar.ts";
import { elementCount } from "../ir/tensor.ts";
import { emitExpr } from "../lower/scalar.ts";
import { storeValue } from "../lower/storage.ts";
import { walk } from "../lower/walk.ts";
import type { TileShape } from "./tile.ts";

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

/** Where a tile of results belongs: row r of the tile is row + r·rowStep of the output. */
export interface TilePlace {
  readonly row: Int;
  readonly rowStep: number;
  column(vector: number): Int;
  lanesOf(vector: number): number;
}

/** Writes an epilogue into a kernel that sees the output as (rows, columns), row-major. Vectors run along columns. */
export class EpilogueCode {
  private readonly row: IndexVar;
  private readonly column: IndexVar;
  private readonly expr: Expr;
  private readonly buffers: readonly number[];
  private readonly outputBuffer: number;
  private scratch: { readonly buffer: number; readonly at: number } | undefined;

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

  /** Scratch that the kernel must give with useScratch, bytes: a tile of results waits there for an epilogue too long to be written out for each. */
  scratchBytes({ rows, vectors }: TileShape, depth: number): number {
    const ops = operationCount(this.expr) * rows * vectors;
    const isLong = ops > LONG_OPS || (ops > LONG_OPS / 4 && depth >= DEEP);
    return isLong ? rows * vectors * this.b.lanes * 4 : 0;
  }
  useScratch(buffer: number, at: number): void {
    this.scratch = { buffer, at };
  }

  /** Applies the epilogue to a tile of results and stores them. */
  storeTile(sums: readonly (readonly Vec[])[], { row, rowStep, column, lanesOf }: TilePlace): void {
    const { b, scratch } = this;
    if (!scratch || sums.length === 1) {
      for (const [r, vectors] of sums.entries())
        for (const [v, sum] of vectors.entries()) this.store(sum, plus(row, r * rowStep), column(v), lanesOf(v));
      return;
    }
    const vectorBytes = b.lanes * 4;
    const rowBytes = sums[0].length * vectorBytes;
    for (const [r, vectors] of sums.entries())
      for (const [v, sum] of vectors.entries()) b.store(sum, scratch.buffer, scratch.at + r * rowBytes + v * vectorBytes);
    b.loop(0, sums.length, 1, (r) => {
      for (let v = 0; v < sums[0].length; v++) {
        const sum = b.load(scratch.buffer, plus(scratch.at + v * vectorBytes, times(r, rowBytes)));
        this.store(sum, plus(row, times(r, rowStep)), column(v), lanesOf(v));
      }
    });
  }

  /** Applies the epilogue to `lanes` results at (row, column…) and stores them. */
  private store(result: Vec, row: Int, column: Int, lanes: number): void {
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
    storeValue(b, dtype, value, this.outputBuffer, this.at(row, column, DTYPES[dtype].bytes), lanes);
  }

  /** Puts unfinished sums into the output (float32 only). */
  storePartial(sum: Vec, row: Int, column: Int, lanes: number): void {
    this.b.store(sum, this.outputBuffer, this.at(row, column, 4), lanes);
  }
  /** Asks for what (row, column…) of the output lies in. */
  prefetch(row: Int, column: Int, level: CacheLevel = 1): void {
    this.b.prefetch(this.outputBuffer, this.at(row, column, DTYPES[this.epilogue.output.dtype].bytes), level);
  }
  loadPartial(row: Int, column: Int, lanes: number): Vec {
    return this.b.load(this.outputBuffer, this.at(row, column, 4), lanes);
  }

  private at(row: Int, column: Int, bytes: number): Int {
    return plus(times(row, this.columns * bytes), times(column, bytes));
  }
}

/** Instructions of a tile's epilogue from which on it becomes a loop, and a quarter of that for depths that hide the detour through memory. */
const LONG_OPS = 400;
const DEEP = 64;

/** Vector instructions of an expression, roughly. */
function operationCount(root: Expr): number {
  let count = 0;
  walk(root, (p) => {
    if ("k" in p && p.k === "call") count += LONG_FUNCTIONS.has(p.fn) ? 20 : 1;
    return true;
  });
  return count;
}
const LONG_FUNCTIONS: ReadonlySet<ScalarFn> = new Set(["exp", "log", "sigmoid", "tanh", "erf", "sin", "cos", "tan", "pow"]);

/** A reader that sees a tensor of the output's own shape as (rows, columns), so that no row has to be taken apart into its axes. */
function flatReader(type: TensorType, input: number, shape: readonly number[], index: readonly Index[], flat: Index): Reader {
  const plain = loadReader(type, input);
  if (type.shape.length !== shape.length || type.shape.some((d, i) => d !== shape[i])) return plain;
  return {
    type,
    at: (at) => (at.every((a, i) => sameIndex(a, index[i])) ? { k: "load", dtype: type.dtype, input, at: flat } : plain.at(at)),
  };
}
