// Integer index arithmetic: affine where possible, with the interval of every index known, so that bounds are proved and not hoped for.

import { invariant } from "./error.ts";
import type { Expr } from "./expr.ts";

/** A loop variable over [0, extent). */
export interface IndexVar {
  readonly id: number;
  readonly extent: number;
}

/** What an index is made of besides loop variables. */
export type Atom =
  | { readonly k: "var"; readonly v: IndexVar }
  | { readonly k: "div"; readonly a: Index; readonly by: number } // floor
  | { readonly k: "mod"; readonly a: Index; readonly by: number } // always in [0, by)
  | { readonly k: "clamp"; readonly a: Index; readonly lo: number; readonly hi: number }
  | { readonly k: "value"; readonly value: Expr; readonly lo: number; readonly hi: number }; // data-dependent, clamped to [lo, hi] when read

/** base + Σ coefficient · atom, with its inclusive interval. Build with the functions below. */
export interface Index {
  readonly base: number;
  readonly terms: readonly { readonly atom: Atom; readonly c: number }[];
  readonly lo: number;
  readonly hi: number;
}

let nextVar = 0;
export const newVar = (extent: number): IndexVar => ({ id: nextVar++, extent });

function atomRange(atom: Atom): [number, number] {
  switch (atom.k) {
    case "var":
      return [0, Math.max(0, atom.v.extent - 1)];
    case "div":
      return [Math.floor(atom.a.lo / atom.by), Math.floor(atom.a.hi / atom.by)];
    case "mod":
      return [0, atom.by - 1];
    case "clamp":
    case "value":
      return [atom.lo, atom.hi];
    default:
      return atom satisfies never;
  }
}

export function sameAtom(a: Atom, b: Atom): boolean {
  if (a === b) return true;
  if (a.k === "var") return b.k === "var" && a.v.id === b.v.id;
  if (a.k === "div" || a.k === "mod") return b.k === a.k && a.by === b.by && sameIndex(a.a, b.a);
  if (a.k === "clamp") return b.k === "clamp" && a.lo === b.lo && a.hi === b.hi && sameIndex(a.a, b.a);
  return b.k === "value" && a.value === b.value && a.lo === b.lo && a.hi === b.hi;
}

export const sameIndex = (a: Index, b: Index): boolean =>
  a.base === b.base &&
  a.terms.length === b.terms.length &&
  a.terms.every((t) => b.terms.some((u) => u.c === t.c && sameAtom(t.atom, u.atom)));

function make(base: number, terms: Index["terms"]): Index {
  let lo = base;
  let hi = base;
  for (const { atom, c } of terms) {
    const [a, b] = atomRange(atom);
    lo += c > 0 ? c * a : c * b;
    hi += c > 0 ? c * b : c * a;
  }
  return { base, terms, lo, hi };
}

export const constIndex = (base: number): Index => ({ base, terms: [], lo: base, hi: base });
export const varIndex = (v: IndexVar): Index => (v.extent === 1 ? constIndex(0) : make(0, [{ atom: { k: "var", v }, c: 1 }]));
export const isConstIndex = (a: Index): boolean => a.lo === a.hi;

export function addIndex(a: Index, b: Index | number): Index {
  if (typeof b === "number") return b === 0 ? a : { ...a, base: a.base + b, lo: a.lo + b, hi: a.hi + b };
  const terms = [...a.terms];
  for (const t of b.terms) {
    const i = terms.findIndex((u) => sameAtom(u.atom, t.atom));
    if (i < 0) terms.push(t);
    else if (terms[i].c + t.c === 0) terms.splice(i, 1);
    else terms[i] = { atom: t.atom, c: terms[i].c + t.c };
  }
  return make(a.base + b.base, terms);
}

export function mulIndex(a: Index, by: number): Index {
  if (by === 0) return constIndex(0);
  if (by === 1) return a;
  return make(
    a.base * by,
    a.terms.map((t) => ({ atom: t.atom, c: t.c * by })),
  );
}

export const subIndex = (a: Index, b: Index): Index => addIndex(a, mulIndex(b, -1));

/** Splits a into q·by + r where the r part provably lies in [0, by). */
function splitBy(a: Index, by: number): { q: Index; r: Index } | null {
  const whole = a.terms.filter((t) => t.c % by === 0);
  const rest = make(
    ((a.base % by) + by) % by,
    a.terms.filter((t) => t.c % by !== 0),
  );
  const q = make(
    (a.base - rest.base) / by,
    whole.map((t) => ({ atom: t.atom, c: t.c / by })),
  );
  return rest.lo >= 0 && rest.hi < by ? { q, r: rest } : null;
}

/** ⌊a / by⌋, by > 0. */
export function divIndex(a: Index, by: number): Index {
  invariant(by > 0, "index divided by a non-positive number");
  if (by === 1) return a;
  const split = splitBy(a, by);
  return split ? split.q : make(0, [{ atom: { k: "div", a, by }, c: 1 }]);
}

/** a mod by, in [0, by). */
export function modIndex(a: Index, by: number): Index {
  invariant(by > 0, "index modulo a non-positive number");
  if (by === 1) return constIndex(0);
  const split = splitBy(a, by);
  return split ? split.r : make(0, [{ atom: { k: "mod", a, by }, c: 1 }]);
}

/** a limited to [lo, hi]. */
export function clampIndex(a: Index, lo: number, hi: number): Index {
  if (a.lo >= lo && a.hi <= hi) return a;
  if (a.hi <= lo) return constIndex(lo);
  if (a.lo >= hi) return constIndex(hi);
  return make(0, [{ atom: { k: "clamp", a, lo, hi }, c: 1 }]);
}

/** An index read from data (Gather): clamped to [lo, hi] when it is read, so that no data can leave the buffer. */
export const valueIndex = (value: Expr, lo: number, hi: number): Index => make(0, [{ atom: { k: "value", value, lo, hi }, c: 1 }]);

/** Row-major offset of a multi-index. */
export const linearIndex = (index: readonly Index[], strides: readonly number[]): Index =>
  index.reduce((sum, at, axis) => addIndex(sum, mulIndex(at, strides[axis])), constIndex(0));

/** Multi-index of a row-major offset. */
export function unlinearIndex(offset: Index, shape: readonly number[]): Index[] {
  const index = new Array<Index>(shape.length);
  let rest = offset;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index[axis] = axis === 0 ? rest : modIndex(rest, Math.max(1, shape[axis]));
    rest = divIndex(rest, Math.max(1, shape[axis]));
  }
  return index;
}
