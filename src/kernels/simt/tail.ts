// What follows the sums of a SIMT contraction: the rest of its group, composed into one expression of the sum and stored where the result has its place.
import { DTYPES } from "../../ir/dtype.ts";
import type { Expr } from "../../ir/expr.ts";
import type { Reader, TensorType } from "../../ir/graph.ts";
import { type Atom, constIndex, type Index, type IndexVar, linearIndex, newVar, varIndex } from "../../ir/index_expr.ts";
import { fn, type Reg, type SimtBuilder, sum } from "../../ir/simt.ts";
import { elementCount, stridesOf } from "../../ir/tensor.ts";
import { Rewriter } from "../../lower/rewrite.ts";
import { ExprCode } from "../../lower/simt_expr.ts";
import { convertRegister } from "../../lower/simt_scalar.ts";
import { coefficientOf, freeVars } from "../../lower/walk.ts";

/** The rest of a group. */
export interface Tail {
  /** Tensors it reads besides the sums. */
  readonly inputs: readonly TensorType[];
  readonly output: TensorType;
  /** Reader of the output from the reader of the sums, which are float32; loads are of `inputs`. */
  compose(sums: Reader): Reader;
}

/** The sums as they are. */
export const noTail = (output: TensorType): Tail => ({ inputs: [], output, compose: (sums) => sums });

/** Sizes of a product, and where its results belong in the output. */
export interface Results {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  place(batch: Index, row: Index, column: Index): readonly Index[];
}

/** Writes a tail into a kernel. */
export class TailCode {
  private readonly code: ExprCode;
  private readonly output: number;
  private readonly vars: readonly [batch: IndexVar, row: IndexVar, column: IndexVar];
  private readonly expr: Expr;
  private readonly out: Index;

  /** Declares the buffers of the tail's inputs and of the output, in this order. */
  constructor(
    private readonly b: SimtBuilder,
    private readonly tail: Tail,
    private readonly results: Results,
  ) {
    const { inputs, output } = tail;
    const buffers = inputs.map((t, i) => b.buffer(`tail${i}`, t.dtype, elementCount(t.shape), "read"));
    this.output = b.buffer("out", output.dtype, elementCount(output.shape), "write");
    this.code = new ExprCode(b, buffers);
    this.vars = [newVar(results.batch), newVar(results.m), newVar(results.n)];
    const [batch, row, column] = this.vars.map(varIndex);
    const index = results.place(batch, row, column);
    const sums: Reader = {
      type: { dtype: "f32", shape: output.shape },
      at: () => ({ k: "load", dtype: "f32", input: inputs.length, at: constIndex(0) }),
    };
    const rewriter = new Rewriter();
    this.expr = rewriter.expr(tail.compose(sums).at(index));
    this.out = rewriter.index(linearIndex(index, stridesOf(output.shape)));
  }

  /** Applies the tail to sums of neighbouring columns, the first a multiple of their number, and stores those that there are. */
  store(batch: Reg, row: Reg, column: Reg, sums: readonly Reg[]): void {
    const { b, tail, results } = this;
    const isWhole = results.n % sums.length === 0;
    const isVector = isWhole && sums.length > 1 && sums.length * DTYPES[tail.output.dtype].bytes <= 16 && this.isContiguous(sums.length);
    const place = (i: number): readonly Reg[] => [batch, row, sum(column, i)];
    b.when(fn("and", fn("lt", row, results.m), fn("lt", column, results.n)), () => {
      if (isVector) {
        const at = this.at(place(0));
        b.storeVector({ k: "buffer", number: this.output }, at, sums.map((s, i) => this.value(place(i), s))); // biome-ignore format: short
        return;
      }
      for (const [i, s] of sums.entries()) {
        const one = (): void => b.store(this.output, this.at(place(i)), this.value(place(i), s));
        if (i === 0 || isWhole) one();
        else b.when(fn("lt", place(i)[2], results.n), one);
      }
    });
  }

  private bound<T>(place: readonly Reg[], build: () => T): T {
    return this.code.inside(() => {
      for (const [i, v] of this.vars.entries()) this.code.bind([v], place[i]);
      return build();
    });
  }
  private at(place: readonly Reg[]): Reg {
    return this.bound(place, () => this.b.let(this.code.index(this.out)));
  }
  private value(place: readonly Reg[], given: Reg): Reg {
    const { code, expr, tail } = this;
    return this.bound(place, () => {
      code.give(tail.inputs.length, given);
      const value = code.value(expr);
      const isRounded = this.b.target.name === "cuda" && value.type === "f32"; // stores round
      return isRounded ? value : this.b.let(convertRegister(tail.output.dtype, expr.dtype, value));
    });
  }

  /** Whether `count` neighbouring columns from each multiple of `count` on are neighbours in the output, at a multiple of `count`. */
  private isContiguous(count: number): boolean {
    const { out, vars } = this;
    const column = vars[2].id;
    const isFixed = (atom: Atom): boolean => !freeVars(atom).has(column);
    return (
      coefficientOf(out, column) === 1 &&
      out.base % count === 0 &&
      out.terms.every(({ atom, c }) => (atom.k === "var" && atom.v.id === column) || (isFixed(atom) && c % count === 0))
    );
  }
}
