// What follows the sums of a SIMT contraction: the rest of its group, composed into one expression of the sum and stored where the result has its place.
import { DTYPES } from "../../ir/dtype.ts";
import type { Expr } from "../../ir/expr.ts";
import type { Reader, TensorType } from "../../ir/graph.ts";
import {
  type Atom,
  addIndex,
  clampIndex,
  constIndex,
  divIndex,
  type Index,
  type IndexVar,
  linearIndex,
  modIndex,
  mulIndex,
  newVar,
  valueIndex,
  varIndex,
} from "../../ir/index_expr.ts";
import { fn, type Reg, type SimtBuilder, sum } from "../../ir/simt.ts";
import { elementCount, stridesOf } from "../../ir/tensor.ts";
import { Numbering, Rewriter } from "../../lower/rewrite.ts";
import { ExprCode } from "../../lower/simt_expr.ts";
import { convertRegister } from "../../lower/simt_scalar.ts";

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
  private readonly known = new Map<number, { readonly at: Index; readonly vectors: IndexVar } | null>();

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
    const isVector =
      isWhole && sums.length > 1 && sums.length * DTYPES[tail.output.dtype].bytes <= 16 && this.vectorOf(sums.length) !== null;
    const place = (i: number): readonly Reg[] => [batch, row, sum(column, i)];
    b.when(fn("and", fn("lt", row, results.m), fn("lt", column, results.n)), () => {
      if (isVector) {
        const at = this.vectorAt(place(0), sums.length);
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

  private vectorAt([batch, row, column]: readonly Reg[], count: number): Reg {
    const { at, vectors } = this.vectorOf(count)!; // asked for where there is one
    return this.code.inside(() => {
      for (const [i, v] of [this.vars[0], this.vars[1], vectors].entries()) this.code.bind([v], [batch, row, fn("div", column, count)][i]);
      return this.b.let(this.code.index(at));
    });
  }

  /** Where `count` columns from each multiple of `count` on lie, by its number, when they are neighbours in the output, at a multiple of `count`; null elsewhere. */
  private vectorOf(count: number): { readonly at: Index; readonly vectors: IndexVar } | null {
    const known = this.known.get(count);
    if (known !== undefined) return known;
    const vectors = newVar(Math.ceil(this.results.n / count));
    const [first, ...rest] = Array.from({ length: count }, (_, i) =>
      coarse(new Rewriter(new Map([[this.vars[2].id, addIndex(mulIndex(varIndex(vectors), count), i)]])).index(this.out)),
    );
    const numbering = new Numbering();
    const isAligned = first.base % count === 0 && first.terms.every(({ c }) => c % count === 0);
    const isNext = rest.every((at, i) => numbering.of(at) === numbering.of(addIndex(first, i + 1)));
    const found = isAligned && isNext ? { at: first, vectors } : null;
    this.known.set(count, found);
    return found;
  }
}

/** The same index; quotients and remainders whose parts are multiples of one number but for a constant are taken of these parts. */
function coarse(at: Index): Index {
  return at.terms.reduce((sum, { atom, c }) => addIndex(sum, mulIndex(coarseAtom(atom), c)), constIndex(at.base));
}
function coarseAtom(atom: Atom): Index {
  if (atom.k === "var") return varIndex(atom.v);
  if (atom.k === "value") return valueIndex(atom.value, atom.lo, atom.hi);
  const a = coarse(atom.a);
  if (atom.k === "clamp") return clampIndex(a, atom.lo, atom.hi);
  const unit = a.terms.reduce((g, { c }) => gcd(g, Math.abs(c)), atom.by);
  const rest = ((a.base % unit) + unit) % unit;
  const parts = a.terms.reduce(
    (sum, { atom: part, c }) => addIndex(sum, mulIndex(coarseAtom(part), c / unit)),
    constIndex((a.base - rest) / unit),
  );
  return atom.k === "div" ? divIndex(parts, atom.by / unit) : addIndex(mulIndex(modIndex(parts, atom.by / unit), unit), rest);
}
const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
