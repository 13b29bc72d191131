// Lowers expressions of a tensor's elements to one SIMT kernel: a thread for each element, or a workgroup for each reduction that its elements share.
import type { DType } from "../ir/dtype.ts";
import { invariant } from "../ir/error.ts";
import { constant, type Expr, select } from "../ir/expr.ts";
import { asMoved } from "../ir/float8.ts";
import type { Reader, TensorType } from "../ir/graph.ts";
import { constIndex, type Index, type IndexVar, linearIndex, newVar, varIndex } from "../ir/index_expr.ts";
import { fn, int, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, sum, thread } from "../ir/simt.ts";
import { elementCount, stridesOf } from "../ir/tensor.ts";
import { joinable, Rewriter } from "./rewrite.ts";
import { sumColumns } from "./simt_columns.ts";
import { ExprCode, extentOf, isContiguousAlong, outermost, SUBGROUP, type Team } from "./simt_expr.ts";
import { gridOf, linearGroup } from "./simt_grid.ts";
import { LANES, lanesOf, loadLanes } from "./simt_lanes.ts";
import { freeVars } from "./walk.ts";

export { gridOf, linearGroup };

/** The kernel that computes what the readers, all of one shape, read. Parameters: a buffer for each input, then the outputs. */
export function lowerSimtReaders(name: string, readers: readonly Reader[], inputs: readonly TensorType[], target: SimtTarget): SimtKernel {
  const b = new SimtBuilder(name, target);
  const buffers = inputs.map(({ dtype, shape }, i) => b.buffer(`in${i}`, dtype, elementCount(shape), "read"));
  const { shape } = readers[0].type;
  const count = elementCount(shape);
  const outputs = readers.map(({ type }, i) => b.buffer(i === 0 ? "out" : `out${i}`, type.dtype, count, "write"));
  const axes = shape.map((d) => newVar(d));
  const index = axes.map(varIndex);
  const rewriter = new Rewriter();
  const exprs = readers.map((reader) => rewriter.expr(reader.at(index)));
  for (const [i, { type }] of readers.entries())
    invariant(exprs[i].dtype === type.dtype, `${name}: expression of type ${exprs[i].dtype} for an output of type ${type.dtype}`);
  return new GroupLowering(b, buffers, outputs, merged({ exprs, out: linearIndex(index, stridesOf(shape)), axes })).kernel();
}

export interface Task {
  /** Of each output. */
  readonly exprs: readonly Expr[];
  /** Place of the element in the outputs. */
  readonly out: Index;
  /** What they depend on, outermost first. */
  readonly axes: readonly IndexVar[];
}

/** Axes that every index sees as one become one: fewer divisions. */
export function merged({ exprs, out, axes }: Task): Task {
  const some = axes.filter((v) => v.extent !== 1);
  const pair = joinable(some, [...exprs, out], (outer, inner) => some.indexOf(outer) + 1 === some.indexOf(inner));
  if (!pair) return { exprs, out, axes: some };
  const [outer, inner] = pair;
  const v = newVar(outer.extent * inner.extent);
  const rewriter = new Rewriter(new Map([[outer.id, constIndex(0)], [inner.id, varIndex(v)]])); // biome-ignore format: short
  return merged({
    exprs: exprs.map((e) => rewriter.expr(e)),
    out: rewriter.index(out),
    axes: some.flatMap((a) => (a === outer ? [v] : a === inner ? [] : [a])),
  });
}

/** Types of which neighbouring elements are loaded and stored at once. */
const VECTORS: ReadonlySet<DType> = new Set<DType>(["f32", "f16", "bf16"]);
/** The same where bytes are bytes in memory. */
const BYTES: ReadonlySet<DType> = new Set<DType>(["i8", "u8"]);
/** Threads of a workgroup where each works for itself. */
const THREADS = 256;
/** The same where there are few workgroups for each multiprocessor. */
const FEW_GROUPS_THREADS = 1024;
const RESIDENTS = 2;
const MULTIPROCESSORS = 16;
/** Elements that keep a whole GPU busy with a thread each. */
const MANY = 1 << 15;
/** Shorter reductions are a thread's own. */
const SHORT = 32;
/** Neighbouring elements of a workgroup whose reductions run across memory. */
const COLUMNS = 32;
/** Multiprocessors where the target does not tell: fewer columns than fill them are better read one by one, by four times as many workgroups. */
const UNITS = 16;
/** Elements that keep a whole GPU busy with a subgroup each. */
const MANY_LINES = 1 << 12;
/** Longer reductions are a workgroup's. */
const LINE = 1 << 13;

class GroupLowering {
  private readonly code: ExprCode;

  constructor(
    private readonly b: SimtBuilder,
    private readonly buffers: readonly number[],
    private readonly outputs: readonly number[],
    private readonly task: Task,
  ) {
    this.code = new ExprCode(b, buffers);
  }

  kernel(): SimtKernel {
    const { exprs, axes } = this.task;
    const reductions = exprs.flatMap(outermost);
    const longest = Math.max(1, ...reductions.map((r) => extentOf(r.vars)));
    const needed = new Set(reductions.flatMap((r) => [...freeVars(r)]));
    const outer = axes.filter((v) => needed.has(v.id));
    const inner = axes.filter((v) => !needed.has(v.id));
    const isShared = inner.length > 0 && longest > 4;
    if (longest <= SHORT && !isShared) return (reductions.length === 0 && this.perLanes()) || this.perThread();
    const hasSubgroups = this.b.target.subgroup >= SUBGROUP && extentOf(outer) >= MANY_LINES && longest <= LINE;
    if (isShared) return hasSubgroups ? this.perSubgroup(outer, inner) : this.perGroup(outer, inner, 1, longest);
    const runsAcross = outer.length > 0 && reductions.every((r) => isContiguousAlong(r, outer[outer.length - 1]));
    const fills = extentOf(outer) >= COLUMNS * LANES * (this.b.target.units ?? UNITS);
    const isLong = runsAcross && fills && longest >= SHORT && extentOf(outer) < 8 * MANY;
    const columns = isLong ? sumColumns(this.b, this.code, this.task, this.buffers, this.outputs) : null;
    if (columns) return columns;
    if (runsAcross) return extentOf(outer) >= MANY ? this.perThread() : this.perGroup(outer, [], COLUMNS, longest);
    return hasSubgroups ? this.perSubgroup(outer, []) : this.perGroup(outer, [], 1, longest);
  }

  private store(): void {
    const at = this.b.let(this.code.index(this.task.out));
    // All are computed before any is stored: an output may lie where an input was.
    const values = this.task.exprs.map((e) => this.code.value(this.unrounded(e)));
    for (const [i, value] of values.entries()) this.b.store(this.outputs[i], at, value);
  }

  /** CUDA's stores round by themselves. */
  private unrounded(e: Expr): Expr {
    if (this.b.target.name !== "cuda" || (e.dtype !== "bf16" && e.dtype !== "f16")) return e;
    if (e.k === "cast" && e.a.dtype === "f32") return e.a;
    if (e.k === "const") return constant("f32", e.value);
    if (e.k !== "select") return e;
    const [a, b] = [this.unrounded(e.a), this.unrounded(e.b)];
    return a.dtype === "f32" && b.dtype === "f32" ? select(e.cond, a, b) : e;
  }

  private perThread(): SimtKernel {
    const { b, code, task } = this;
    const count = extentOf(task.axes);
    const grid = gridOf(Math.ceil(count / THREADS), b.target);
    const at = b.let(sum(fn("mul", linearGroup(grid), THREADS), thread()));
    b.when(fn("lt", at, count), () => {
      code.bind(task.axes, at);
      this.store();
    });
    return b.build([THREADS, 1, 1], grid);
  }

  /** A thread for neighbouring elements; null where there are too few, or they have no vectors. */
  private perLanes(): SimtKernel | null {
    const { b, code, task, buffers, outputs } = this;
    const count = extentOf(task.axes) / LANES;
    const isVector = (buffer: number): boolean =>
      VECTORS.has(b.typeOf(buffer)) || (b.target.name === "cuda" && BYTES.has(asMoved(b.typeOf(buffer))));
    if (count < MANY || !outputs.every(isVector)) return null;
    const lanes = lanesOf(task.exprs, task.out, task.axes);
    if (!lanes) return null;
    const grid = gridOf(Math.ceil(count / THREADS), b.target);
    const at = b.let(sum(fn("mul", linearGroup(grid), THREADS), thread()));
    b.when(fn("lt", at, count), () => {
      code.bind(lanes.axes, at);
      loadLanes(b, code, lanes, buffers, (input) => isVector(buffers[input]));
      const to = b.let(code.index(lanes.out));
      const values = lanes.exprs.map((exprs) => exprs.map((e) => b.let(code.value(this.unrounded(e)))));
      for (const [i, output] of outputs.entries()) b.storeVector({ k: "buffer", number: output }, to, values.map((v) => v[i])); // biome-ignore format: one idea
    });
    return b.build([THREADS, 1, 1], grid);
  }

  /** A workgroup for `columns` elements of the outer axes; its threads share their reductions, then the elements of the inner axes. */
  private perGroup(outer: readonly IndexVar[], inner: readonly IndexVar[], columns: number, longest: number): SimtKernel {
    const { b } = this;
    const total = extentOf(outer);
    const wanted = 2 ** Math.ceil(Math.log2(Math.max(1, longest / (columns > 1 ? 8 : 4))));
    const most = total / columns < RESIDENTS * (b.target.units ?? MULTIPROCESSORS) ? FEW_GROUPS_THREADS : THREADS;
    const rows = Math.max(columns > 1 ? 2 : 32, Math.min(b.target.maxThreads, most, columns * wanted) / columns);
    const grid = gridOf(Math.ceil(total / columns), b.target);
    const first = fn("mul", linearGroup(grid), columns);
    const [column, row] = columns > 1 ? [thread(0), thread(1)] : [int(0), thread(0)];
    const at = b.let(sum(first, column));
    this.together(outer, inner, at, { columns, rows, column, row });
    return b.build(columns > 1 ? [columns, rows, 1] : [rows, 1, 1], grid);
  }

  /** A subgroup for each element of the outer axes: no thread waits for those of others. */
  private perSubgroup(outer: readonly IndexVar[], inner: readonly IndexVar[]): SimtKernel {
    const { b } = this;
    const lines = THREADS / SUBGROUP;
    const grid = gridOf(Math.ceil(extentOf(outer) / lines), b.target);
    const at = b.let(sum(fn("mul", linearGroup(grid), lines), fn("div", thread(), SUBGROUP)));
    this.together(outer, inner, at, { columns: 1, rows: SUBGROUP, column: int(0), row: b.let(fn("rem", thread(), SUBGROUP)) });
    return b.build([THREADS, 1, 1], grid);
  }

  /** A team's work on element `at` of the outer axes. */
  private together(outer: readonly IndexVar[], inner: readonly IndexVar[], at: Reg, team: Team): void {
    const { b, code } = this;
    const { row, rows } = team;
    const total = extentOf(outer);
    // All threads go through all barriers: those beyond the end work on the last element.
    code.bind(outer, b.let(fn("min", at, total - 1)));
    for (const r of this.task.exprs.flatMap(outermost)) code.reduceTogether(r, team);
    const isInside = fn("lt", at, total);
    if (inner.length === 0) b.when(fn("and", isInside, fn("eq", row, 0)), () => this.store());
    else
      b.when(isInside, () =>
        b.loop(row, extentOf(inner), rows, (i) =>
          code.inside(() => {
            code.bind(inner, i);
            this.store();
          }),
        ),
      );
  }
}
