// Rewrites expressions with other loop variables: indices are simplified on the way, and equal parts become one object.
import { constant, type Expr, within } from "../ir/expr.ts";
import type { Part } from "../ir/expr_parts.ts";
import {
  type Atom,
  addIndex,
  clampIndex,
  constIndex,
  divIndex,
  type Index,
  type IndexVar,
  modIndex,
  mulIndex,
  newVar,
  sameIndex,
  valueIndex,
  varIndex,
} from "../ir/index_expr.ts";
import { coefficientOf, indicesOf } from "./walk.ts";

/** Gives structurally equal parts the same number. */
export class Numbering {
  private readonly numbers = new Map<string, number>();
  private readonly known = new WeakMap<Part, number>();

  of(p: Part): number {
    let n = this.known.get(p);
    if (n === undefined) {
      const key = this.key(p);
      n = this.numbers.get(key) ?? this.numbers.size;
      this.numbers.set(key, n);
      this.known.set(p, n);
    }
    return n;
  }

  private key(p: Part): string {
    if (!("k" in p)) {
      const terms = p.terms.map(({ atom, c }) => `${c}*${this.of(atom)}`).sort();
      return `@${p.base} ${terms.join(" ")}`;
    }
    switch (p.k) {
      case "var":
        return `v${p.v.id}`;
      case "div":
      case "mod":
        return `${p.k} ${this.of(p.a)} ${p.by}`;
      case "clamp":
        return `clamp ${this.of(p.a)} ${p.lo} ${p.hi}`;
      case "value":
        return `value ${this.of(p.value)} ${p.lo} ${p.hi}`;
      case "const":
        return `const ${p.dtype} ${Object.is(p.value, -0) ? "-0" : p.value}`;
      case "load":
        return `load ${p.dtype} ${p.input} ${this.of(p.at)}`;
      case "call":
        return `${p.fn} ${p.dtype} ${p.args.map((a) => this.of(a)).join(" ")}`;
      case "cast":
        return `cast ${p.dtype} ${this.of(p.a)}`;
      case "index":
        return `index ${p.dtype} ${this.of(p.at)}`;
      case "within":
        return `within ${this.of(p.at)} ${p.lo} ${p.hi}`;
      case "select":
        return `select ${this.of(p.cond)} ${this.of(p.a)} ${this.of(p.b)}`;
      case "reduce":
        return `reduce ${p.combine} ${p.vars.map((v) => v.id).join(",")} ${this.of(p.body)}`;
      default:
        return p satisfies never;
    }
  }
}

/** c·by·⌊a/by⌋ + c·(a mod by) is c·a. */
function rejoin(at: Index): Index {
  for (const { atom, c } of at.terms) {
    if (atom.k !== "mod") continue;
    const whole = at.terms.find((t) => t.atom.k === "div" && t.c === c * atom.by && t.atom.by === atom.by && sameIndex(t.atom.a, atom.a));
    if (!whole) continue;
    const rest = at.terms.filter((t) => t.atom !== atom && t !== whole);
    const others = rest.reduce((sum, t) => addIndex(sum, mulIndex(atomIndex(t.atom), t.c)), constIndex(at.base));
    return rejoin(addIndex(others, mulIndex(atom.a, c)));
  }
  return at;
}

/** a = by·whole + rest, with all terms in whole that divide. */
function multiples(a: Index, by: number): { whole: Index; rest: Index } {
  const sum = (terms: Index["terms"], from: number): Index =>
    terms.reduce((s, t) => addIndex(s, mulIndex(atomIndex(t.atom), t.c)), constIndex(from));
  const base = ((a.base % by) + by) % by;
  const rest = sum(
    a.terms.filter((t) => t.c % by !== 0),
    base,
  );
  const whole = sum(
    a.terms.filter((t) => t.c % by === 0).map(({ atom, c }) => ({ atom, c: c / by })),
    (a.base - base) / by,
  );
  return { whole, rest };
}

function atomIndex(atom: Atom): Index {
  switch (atom.k) {
    case "var":
      return varIndex(atom.v);
    case "div":
      return divIndex(atom.a, atom.by);
    case "mod":
      return modIndex(atom.a, atom.by);
    case "clamp":
      return clampIndex(atom.a, atom.lo, atom.hi);
    case "value":
      return valueIndex(atom.value, atom.lo, atom.hi);
    default:
      return atom satisfies never;
  }
}

/** Rewrites parts, replacing variables (by id). Use one rewriter for all parts that should share objects. */
export class Rewriter {
  private readonly numbering = new Numbering();
  private readonly byNumber = new Map<number, Expr | Atom>();
  private readonly done = new Map<Part, Expr | Index | Atom>();

  constructor(private readonly replaced: ReadonlyMap<number, Index> = new Map()) {}

  index(at: Index): Index {
    const known = this.done.get(at) as Index | undefined; // keys and values have the same kind
    if (known) return known;
    const sum = at.terms.reduce((s, { atom, c }) => addIndex(s, mulIndex(this.atom(atom), c)), constIndex(at.base));
    const joined = rejoin(sum);
    const result = { ...joined, terms: joined.terms.map(({ atom, c }) => ({ atom: this.unique(atom), c })) };
    this.done.set(at, result);
    return result;
  }

  private atom(atom: Atom): Index {
    switch (atom.k) {
      case "var":
        return this.replaced.get(atom.v.id) ?? varIndex(atom.v);
      case "div": {
        const { whole, rest } = multiples(this.index(atom.a), atom.by);
        return addIndex(whole, divIndex(rest, atom.by));
      }
      case "mod":
        return modIndex(multiples(this.index(atom.a), atom.by).rest, atom.by);
      case "clamp":
        return clampIndex(this.index(atom.a), atom.lo, atom.hi);
      case "value": {
        const value = this.expr(atom.value);
        return value.k === "const"
          ? constIndex(Math.min(Math.max(Math.trunc(value.value), atom.lo), atom.hi))
          : valueIndex(value, atom.lo, atom.hi);
      }
      default:
        return atom satisfies never;
    }
  }

  expr(e: Expr): Expr {
    const known = this.done.get(e) as Expr | undefined; // keys and values have the same kind
    if (known) return known;
    const result = this.unique(this.rebuilt(e));
    this.done.set(e, result);
    return result;
  }

  private unique<T extends Expr | Atom>(p: T): T {
    const n = this.numbering.of(p);
    const first = this.byNumber.get(n);
    if (first) return first as T; // equal keys are of equal kind
    this.byNumber.set(n, p);
    return p;
  }

  private rebuilt(e: Expr): Expr {
    switch (e.k) {
      case "const":
        return e;
      case "load":
        return { ...e, at: this.index(e.at) };
      case "index": {
        const at = this.index(e.at);
        return at.terms.length === 0 ? constant(e.dtype, at.base) : { ...e, at };
      }
      case "call": {
        const args = e.args.map((a) => this.expr(a));
        return (e.dtype === "bool" && decided(e.fn, args)) || { ...e, args };
      }
      case "cast": {
        const a = this.expr(e.a);
        return a.dtype === e.dtype ? a : { ...e, a };
      }
      case "within": {
        const at = this.index(e.at);
        return at.hi < e.lo || at.lo >= e.hi ? constant("bool", 0) : within(at, e.lo, e.hi);
      }
      case "select": {
        const cond = this.expr(e.cond);
        if (cond.k === "const") return this.expr(cond.value ? e.a : e.b);
        const [a, b] = [this.expr(e.a), this.expr(e.b)];
        return a === b ? a : { ...e, cond, a, b };
      }
      case "reduce":
        return this.reduction(e);
      default:
        return e satisfies never;
    }
  }

  /** Reduced variables that run through memory as one become one; those of a single value vanish. */
  private reduction(e: Extract<Expr, { k: "reduce" }>): Expr {
    let body = this.expr(e.body);
    let vars: readonly IndexVar[] = e.vars.filter((v) => v.extent !== 1);
    if (vars.length === 0) return body;
    for (let joined = joinable(vars, [body]); joined; joined = joinable(vars, [body])) {
      const [outer, inner] = joined;
      const merged = newVar(outer.extent * inner.extent);
      body = new Rewriter(
        new Map([
          [outer.id, constIndex(0)],
          [inner.id, varIndex(merged)],
        ]),
      ).expr(body);
      vars = vars.filter((v) => v !== outer && v !== inner).concat(merged);
    }
    // Once more, so that what does not depend on the joined variables is the same object as elsewhere.
    return { ...e, vars, body: this.expr(body) };
  }
}

/** A boolean call whose value is known from a constant argument. */
function decided(fn: string, args: readonly Expr[]): Expr | undefined {
  const at = args.findIndex((a) => a.k === "const" && a.dtype === "bool");
  if (at < 0) return undefined;
  const value = (args[at] as Extract<Expr, { k: "const" }>).value !== 0; // found by its k
  if (fn === "not") return constant("bool", value ? 0 : 1);
  const other = args[1 - at];
  if (other?.dtype !== "bool") return undefined;
  if (fn === "and") return value ? other : constant("bool", 0);
  if (fn === "or") return value ? constant("bool", 1) : other;
  return undefined;
}

/** Two variables that every index inside sees as one: inner's coefficient times its extent is outer's. */
export function joinable(
  vars: readonly IndexVar[],
  roots: readonly Part[],
  mayJoin: (outer: IndexVar, inner: IndexVar) => boolean = () => true,
): readonly [outer: IndexVar, inner: IndexVar] | undefined {
  if (vars.length < 2) return undefined;
  const indices = roots.flatMap(indicesOf);
  for (const inner of vars) {
    for (const outer of vars) {
      if (inner === outer || !mayJoin(outer, inner)) continue;
      if (indices.every((at) => coefficientOf(at, outer.id) === coefficientOf(at, inner.id) * inner.extent)) return [outer, inner];
    }
  }
  return undefined;
}
