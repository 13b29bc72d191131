// Lowers expressions of a tensor's elements to one SIMT kernel: a thread for each element, or a workgroup for each reduction that its elements share.
import { invariant } from "../ir/error.ts";
import type { Expr } from "../ir/expr.ts";
import type { Reader, TensorType } from "../ir/graph.ts";
import { type Atom, constIndex, type Index, type IndexVar, linearIndex, newVar, varIndex } from "../ir/index_expr.ts";
import {
  bits,
  cast,
  exchange,
  fn,
  group,
  int,
  num,
  type Reg,
  registerType,
  SimtBuilder,
  type SimtKernel,
  type SimtTarget,
  select,
  sum,
  thread,
} from "../ir/simt.ts";
import { elementCount, stridesOf } from "../ir/tensor.ts";
import { joinable, Rewriter } from "./rewrite.ts";
import { combination, convertRegister, scalarFn } from "./simt_scalar.ts";
import { coefficientOf, dependsOn, freeVars, indicesOf, walk } from "./walk.ts";

type Reduction = Extract<Expr, { k: "reduce" }>;

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

interface Task {
  /** Of each output. */
  readonly exprs: readonly Expr[];
  /** Place of the element in the outputs. */
  readonly out: Index;
  /** What they depend on, outermost first. */
  readonly axes: readonly IndexVar[];
}

/** Axes that every index sees as one become one: fewer divisions. */
function merged({ exprs, out, axes }: Task): Task {
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

/** Threads of a workgroup where each works for itself. */
const THREADS = 256;
/** Threads that exchange values, where the target has them. */
const SUBGROUP = 32;
/** Elements that keep a whole GPU busy with a thread each. */
const MANY = 1 << 15;
/** Shorter reductions are a thread's own. */
const SHORT = 32;
/** Neighbouring elements of a workgroup whose reductions run across memory. */
const COLUMNS = 32;
/** Elements that keep a whole GPU busy with a subgroup each. */
const MANY_LINES = 1 << 12;
/** Longer reductions are a workgroup's. */
const LINE = 1 << 13;

const extentOf = (vars: readonly IndexVar[]): number => vars.reduce((n, v) => n * v.extent, 1);

class GroupLowering {
  private readonly code: ExprCode;

  constructor(
    private readonly b: SimtBuilder,
    buffers: readonly number[],
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
    if (longest <= SHORT && !isShared) return this.perThread();
    const hasSubgroups = this.b.target.subgroup === SUBGROUP && extentOf(outer) >= MANY_LINES && longest <= LINE;
    if (isShared) return hasSubgroups ? this.perSubgroup(outer, inner) : this.perGroup(outer, inner, 1, longest);
    const runsAcross = outer.length > 0 && reductions.every((r) => isContiguousAlong(r, outer[outer.length - 1]));
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
    const isRounding = e.k === "cast" && (e.dtype === "bf16" || e.dtype === "f16") && e.a.dtype === "f32";
    return isRounding && this.b.target.name === "cuda" ? e.a : e;
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

  /** A workgroup for `columns` elements of the outer axes; its threads share their reductions, then the elements of the inner axes. */
  private perGroup(outer: readonly IndexVar[], inner: readonly IndexVar[], columns: number, longest: number): SimtKernel {
    const { b } = this;
    const total = extentOf(outer);
    const wanted = 2 ** Math.ceil(Math.log2(Math.max(1, longest / (columns > 1 ? 8 : 4))));
    const rows = Math.max(columns > 1 ? 2 : 32, Math.min(b.target.maxThreads, THREADS, columns * wanted) / columns);
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

/** Workgroups in as few rows as the target allows. */
export function gridOf(groups: number, { maxGroups }: SimtTarget): readonly [number, number, number] {
  const y = Math.ceil(groups / maxGroups);
  return [Math.ceil(groups / y), y, 1];
}
/** Number of the workgroup in such a grid. */
export const linearGroup = ([x, y]: readonly [number, number, number]): Reg => (y === 1 ? group(0) : sum(fn("mul", group(1), x), group(0)));

/** Reductions that are in no other. */
function outermost(expr: Expr): Reduction[] {
  const found: Reduction[] = [];
  walk(expr, (p) => {
    if (!("k" in p) || p.k !== "reduce") return true;
    found.push(p);
    return false;
  });
  return found;
}

/** Whether neighbours along `v` read neighbouring elements, and neighbours along what is reduced do not. */
function isContiguousAlong(r: Reduction, v: IndexVar): boolean {
  const indices = indicesOf(r.body);
  return indices.some((at) => coefficientOf(at, v.id) === 1) && !indices.some((at) => r.vars.some((w) => coefficientOf(at, w.id) === 1));
}

/** Threads that reduce together: `rows` of them for each of `columns` elements. */
interface Team {
  readonly columns: number;
  readonly rows: number;
  readonly column: Reg;
  readonly row: Reg;
}

/** Writes expressions as registers of one thread; equal parts are computed once where they are needed first. */
export class ExprCode {
  /** Innermost last: what was computed inside of a loop is forgotten after it. */
  private scopes: Map<Expr | Atom, Reg>[] = [new Map()];
  private readonly bound = new Map<number, Reg>();
  private readonly arrays = new Map<string, number>();
  private readonly given = new Map<number, Reg>();

  constructor(
    private readonly b: SimtBuilder,
    private readonly buffers: readonly number[],
  ) {}

  /** The variables, outermost first, from their number in row-major order. */
  bind(vars: readonly IndexVar[], at: Reg): void {
    let rest = at;
    for (const [i, v] of [...vars.entries()].reverse()) {
      this.bound.set(v.id, i === 0 ? rest : this.b.let(fn("rem", rest, v.extent)));
      if (i > 0) rest = this.b.let(fn("div", rest, v.extent));
    }
  }

  /** Loads of this input are this value. */
  give(input: number, value: Reg): void {
    this.given.set(input, value);
  }

  /** What `build` computes is computed again elsewhere. */
  inside<T>(build: () => T): T {
    this.scopes.push(new Map());
    const built = build();
    this.scopes.pop();
    return built;
  }

  private remembered(p: Expr | Atom, compute: () => Reg): Reg {
    for (const scope of this.scopes) {
      const known = scope.get(p);
      if (known) return known;
    }
    const value = this.b.let(compute());
    this.scopes[this.scopes.length - 1].set(p, value);
    return value;
  }

  index(at: Index): Reg {
    return at.terms.reduce<Reg>((s, { atom, c }) => fn("add", s, fn("mul", this.atom(atom), c)), int(at.base));
  }

  private atom(atom: Atom): Reg {
    if (atom.k === "var") {
      const value = this.bound.get(atom.v.id);
      invariant(value, `${this.b.name}: a variable that no loop binds`);
      return value;
    }
    return this.remembered(atom, () => this.computedAtom(atom));
  }

  private computedAtom(atom: Exclude<Atom, { k: "var" }>): Reg {
    if (atom.k === "value") return limited(cast("i32", this.value(atom.value)), atom.lo, atom.hi);
    const a = this.index(atom.a);
    if (atom.k === "clamp") return limited(a, atom.lo, atom.hi);
    const isNegative = atom.a.lo < 0;
    const rest = fn("rem", a, atom.by);
    if (!isNegative) return atom.k === "mod" ? rest : fn("div", a, atom.by);
    const modulo = fn("rem", fn("add", rest, atom.by), atom.by);
    return atom.k === "mod" ? modulo : fn("div", fn("sub", a, modulo), atom.by);
  }

  value(e: Expr): Reg {
    if (e.k === "const") return this.constant(e);
    return this.remembered(e, () => this.computed(e));
  }

  private constant(e: Extract<Expr, { k: "const" }>): Reg {
    const type = registerType(e.dtype);
    invariant(type, `${this.b.name}: a constant of ${e.dtype}`);
    return num(type, type === "i32" ? e.value | 0 : e.value);
  }

  private computed(e: Exclude<Expr, { k: "const" }>): Reg {
    switch (e.k) {
      case "load":
        return this.given.get(e.input) ?? this.b.load(this.buffers[e.input], this.index(e.at));
      case "call":
        return scalarFn(e.fn, e.dtype === "bool" ? e.args[0].dtype : e.dtype, e.args.map((a) => this.value(a))); // biome-ignore format: short
      case "cast":
        return convertRegister(e.dtype, e.a.dtype, this.value(e.a));
      case "index":
        return convertRegister(e.dtype, "i32", this.index(e.at));
      case "within": {
        const at = this.b.let(this.index(e.at));
        return fn("and", fn("ge", at, e.lo), fn("lt", at, e.hi));
      }
      case "select":
        return select(this.value(e.cond), this.value(e.a), this.value(e.b));
      case "reduce":
        return this.reduceAlone(e, int(0), 1);
      default:
        return e satisfies never;
    }
  }

  /** Every `step`th value of a reduction, from `start` on, by this thread. */
  private reduceAlone(e: Reduction, start: Reg, step: number): Reg {
    const { b } = this;
    const type = registerType(e.dtype);
    invariant(type, `${b.name}: a reduction of ${e.dtype}`);
    const { start: identity, join } = combination(e.combine, type);
    const total = b.variable(type, identity);
    b.loop(start, extentOf(e.vars), step, (i) =>
      this.inside(() => {
        this.bind(e.vars, i);
        b.set(total, join(total, this.value(e.body)));
      }),
    );
    return total;
  }

  /** A reduction by a team, which leaves it in all of its threads. */
  reduceTogether(e: Reduction, team: Team): void {
    if (this.scopes[0].has(e)) return;
    const ids = new Set(e.vars.map((v) => v.id));
    for (const inner of outermost(e.body)) if (!dependsOn(inner, ids)) this.reduceTogether(inner, team);
    const own = this.reduceAlone(e, team.row, team.rows);
    this.scopes[0].set(e, this.joined(e, own, team));
  }

  /** Within a subgroup by exchange, in any order the same bits; else by a tree in shared memory, columns next to each other. */
  private joined(e: Reduction, own: Reg, { columns, rows, column, row }: Team): Reg {
    const { b } = this;
    const { join } = combination(e.combine, own.type);
    const stored = own.type === "f32" ? "f32" : "i32";
    if (columns === 1 && b.target.subgroup === SUBGROUP) return this.exchanged(own, join, stored, row, rows / SUBGROUP);
    const array = this.sharedArray(stored, columns * rows);
    const place = (r: Reg): Reg => sum(fn("mul", r, columns), column);
    const put = (r: Reg, a: Reg): void => b.storeShared(array, place(r), toStored(a));
    const get = (r: Reg): Reg => fromStored(b.loadShared(array, place(r)), own.type);
    b.barrier(); // others may still read what was here before
    put(row, own);
    b.barrier();
    for (let half = rows / 2; half >= 1; half /= 2) {
      b.when(fn("lt", row, half), () => put(row, join(get(row), get(fn("add", row, half)))));
      b.barrier();
    }
    return b.let(get(int(0)));
  }

  /** By exchange in each of the subgroups, then of their results in shared memory. */
  private exchanged(own: Reg, join: (a: Reg, b: Reg) => Reg, stored: "f32" | "i32", row: Reg, subgroups: number): Reg {
    const { b } = this;
    const joinStored = (x: Reg, y: Reg): Reg => b.let(toStored(join(fromStored(x, own.type), fromStored(y, own.type))));
    let all = b.let(toStored(own));
    for (let by = SUBGROUP / 2; by >= 1; by /= 2) all = joinStored(all, b.let(exchange(all, by)));
    if (subgroups > 1) {
      const array = this.sharedArray(stored, subgroups);
      b.barrier(); // others may still read what was here before
      b.when(fn("eq", fn("rem", row, SUBGROUP), 0), () => b.storeShared(array, fn("div", row, SUBGROUP), all));
      b.barrier();
      all = b.let(b.loadShared(array, int(0)));
      for (let i = 1; i < subgroups; i++) all = joinStored(all, b.loadShared(array, int(i)));
    }
    return b.let(fromStored(all, own.type));
  }

  private sharedArray(type: "f32" | "i32", elements: number): number {
    const key = `${type} ${elements}`;
    const array = this.arrays.get(key) ?? this.b.array(type, elements);
    this.arrays.set(key, array);
    return array;
  }
}

/** As shared memory and other threads get it: f32 or i32. */
const toStored = (a: Reg): Reg => (a.type === "f32" ? a : a.type === "u32" ? bits("i32", a) : cast("i32", a));
const fromStored = (a: Reg, type: Reg["type"]): Reg => (a.type === type ? a : type === "u32" ? bits("u32", a) : cast(type, a));

const limited = (a: Reg, lo: number, hi: number): Reg => fn("min", fn("max", a, lo), hi);
