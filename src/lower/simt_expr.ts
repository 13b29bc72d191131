// Expressions to registers of a SIMT thread, and reductions by threads together.
import { invariant } from "../ir/error.ts";
import type { Expr } from "../ir/expr.ts";
import type { Atom, Index, IndexVar } from "../ir/index_expr.ts";
import { bits, cast, exchange, fn, int, num, type Reg, registerType, type SimtBuilder, select, sum } from "../ir/simt.ts";
import { combination, convertRegister, scalarFn } from "./simt_scalar.ts";
import { coefficientOf, dependsOn, indicesOf, walk } from "./walk.ts";

export type Reduction = Extract<Expr, { k: "reduce" }>;

/** Threads that exchange values, where the target has them. */
export const SUBGROUP = 32;

/** Values that a thread reads before it needs the first. */
const BATCH = 16;

export const extentOf = (vars: readonly IndexVar[]): number => vars.reduce((n, v) => n * v.extent, 1);

/** Reductions that are in no other. */
export function outermost(expr: Expr): Reduction[] {
  const found: Reduction[] = [];
  walk(expr, (p) => {
    if (!("k" in p) || p.k !== "reduce") return true;
    found.push(p);
    return false;
  });
  return found;
}

/** Whether neighbours along `v` read neighbouring elements, and neighbours along what is reduced do not. */
export function isContiguousAlong(r: Reduction, v: IndexVar): boolean {
  const indices = indicesOf(r.body);
  return indices.some((at) => coefficientOf(at, v.id) === 1) && !indices.some((at) => r.vars.some((w) => coefficientOf(at, w.id) === 1));
}

/** Threads that reduce together: `rows` of them for each of `columns` elements. */
export interface Team {
  readonly columns: number;
  readonly rows: number;
  readonly column: Reg;
  readonly row: Reg;
  /** Rows are neighbouring threads, a power of two of them that is no larger than a subgroup. */
  readonly isLanes?: boolean;
}

/** Writes expressions as registers of one thread; equal parts are computed once where they are needed first. */
export class ExprCode {
  /** Innermost last: what was computed inside of a loop is forgotten after it. */
  private scopes: Map<Expr | Atom, Reg>[] = [new Map()];
  private readonly bound = new Map<number, Reg>();
  private readonly arrays = new Map<string, number>();
  private readonly given = new Map<number, Reg>();
  private readonly kept = new Map<number, number>();

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

  /** Loads of this input are from a shared array. */
  keep(input: number, array: number): void {
    this.kept.set(input, array);
  }
  /** The value of an expression that was computed elsewhere. */
  know(e: Expr, value: Reg): void {
    this.scopes[this.scopes.length - 1].set(e, value);
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
        return this.given.get(e.input) ?? this.loaded(e.input, this.index(e.at));
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

  private loaded(input: number, at: Reg): Reg {
    const array = this.kept.get(input);
    return array === undefined ? this.b.load(this.buffers[input], at) : this.b.loadShared(array, at);
  }

  /** Every `step`th value of a reduction, from `start` on, by this thread. */
  private reduceAlone(e: Reduction, start: Reg, step: number): Reg {
    const { b } = this;
    const type = registerType(e.dtype);
    invariant(type, `${b.name}: a reduction of ${e.dtype}`);
    const { start: identity, join } = combination(e.combine, type);
    const total = b.variable(type, identity);
    const extent = extentOf(e.vars);
    if (step === 1)
      b.loop(start, extent, 1, (i) =>
        this.inside(() => {
          this.bind(e.vars, i);
          b.set(total, join(total, this.value(e.body)));
        }),
      );
    else
      this.inBatches(start, step, extent, (i, isThere) => {
        this.bind(e.vars, isThere ? b.let(fn("min", i, extent - 1)) : i);
        const value = this.value(e.body);
        b.set(total, join(total, isThere ? select(isThere, value, identity) : value));
      });
    return total;
  }

  /** Visits every `step`th number from `start` on, which is less than `step`, several in a batch: their loads need not wait for each other. `isThere` where a batch may reach beyond the end. */
  inBatches(start: Reg, step: number, extent: number, visit: (i: Reg, isThere: Reg | null) => void): void {
    const { b } = this;
    const batch = Math.min(BATCH, Math.ceil(extent / step));
    const one = (from: Reg, j: Reg): void =>
      this.inside(() => {
        const i = b.let(sum(from, fn("mul", j, step)));
        visit(i, extent % (batch * step) === 0 ? null : b.let(fn("lt", i, extent)));
      });
    if (batch * step >= extent) b.loop(0, batch, 1, (j) => one(start, j), true);
    else b.loop(start, extent, batch * step, (from) => b.loop(0, batch, 1, (j) => one(from, j), true));
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
  private joined(e: Reduction, own: Reg, { columns, rows, column, row, isLanes }: Team): Reg {
    const { b } = this;
    const { join } = combination(e.combine, own.type);
    const stored = own.type === "f32" ? "f32" : "i32";
    if (rows === 1) return own;
    if (isLanes && b.target.subgroup >= rows) return this.exchanged(own, join, stored, row, rows);
    if (columns === 1 && b.target.subgroup > 1) return this.exchanged(own, join, stored, row, rows);
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

  /** By exchange in each of the subgroups, or among `lanes` neighbours in one, then of their results in shared memory. */
  private exchanged(own: Reg, join: (a: Reg, b: Reg) => Reg, stored: "f32" | "i32", row: Reg, rows: number): Reg {
    const { b } = this;
    const lanes = Math.min(b.target.subgroup, SUBGROUP, rows);
    const subgroups = rows / lanes;
    const joinStored = (x: Reg, y: Reg): Reg => b.let(toStored(join(fromStored(x, own.type), fromStored(y, own.type))));
    let all = b.let(toStored(own));
    const among = (count: number): void => {
      for (let by = count / 2; by >= 1; by /= 2) all = joinStored(all, b.let(exchange(all, by)));
    };
    among(lanes);
    if (subgroups > 1) {
      const array = this.sharedArray(stored, subgroups);
      b.barrier(); // others may still read what was here before
      b.when(fn("eq", fn("rem", row, lanes), 0), () => b.storeShared(array, fn("div", row, lanes), all));
      b.barrier();
      const count = Math.min(lanes, subgroups);
      const first = b.let(fn("rem", row, count));
      all = b.let(b.loadShared(array, first));
      for (let i = count; i < subgroups; i += count) all = joinStored(all, b.loadShared(array, sum(first, i)));
      among(count);
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
