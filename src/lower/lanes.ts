// Indices to integer variables where all lanes agree, and to integer lanes where they do not.
import { invariant } from "../ir/error.ts";
import type { Expr } from "../ir/expr.ts";
import type { Part } from "../ir/expr_parts.ts";
import { type Atom, type Index, sameIndex } from "../ir/index_expr.ts";
import { affine, type Int, plus, times, type Vec } from "../ir/kernel.ts";
import { type Block, knownInt, knownValue } from "./block.ts";
import type { Emitter } from "./emitter.ts";
import { laneKind } from "./storage.ts";
import { freeVars } from "./walk.ts";

/** Below this, ⌊(a + ½) / by⌋ in float32 is exact. */
const EXACT_QUOTIENT = 2 ** 22;
/** Divisors that the two-step division of larger numbers is exact for. */
const MAX_DIVISOR = 2 ** 20;

export const isLaneDependent = (block: Block, p: Part): boolean => block.lane !== null && freeVars(p).has(block.lane.id);

type Load = Extract<Expr, { k: "load" }>;

/** The integer in memory that a data-dependent index is: the element as it is, or counted from the end when negative. */
function indexLoad(value: Expr): { load: Load; wrap: number } | undefined {
  const plain = asIndexLoad(value);
  if (plain) return { load: plain, wrap: 0 };
  if (value.k !== "select" || value.cond.k !== "call" || value.cond.fn !== "lt" || value.a.k !== "call" || value.a.fn !== "add")
    return undefined;
  const [load, bound, negative, size] = [asIndexLoad(value.b), value.cond.args[1], asIndexLoad(value.a.args[0]), value.a.args[1]];
  const tested = asIndexLoad(value.cond.args[0]);
  if (!load || !tested || !negative || !sameLoad(load, tested) || !sameLoad(load, negative)) return undefined;
  if (bound.k !== "const" || bound.value !== 0 || size.k !== "const") return undefined;
  return { load, wrap: size.value };
}
function asIndexLoad(e: Expr): Load | undefined {
  if (e.k === "cast" && (e.dtype === "i64" || e.dtype === "i32") && (e.a.dtype === "i64" || e.a.dtype === "i32" || e.a.dtype === "u8"))
    return asIndexLoad(e.a);
  return e.k === "load" && (e.dtype === "i32" || e.dtype === "i64" || e.dtype === "u8") ? e : undefined;
}
const sameLoad = (a: Load, b: Load): boolean => a === b || (a.input === b.input && sameIndex(a.at, b.at));

/** Whether the index can be an integer variable: all data in it is loaded straight from memory. */
export function isIntIndex(at: Index): boolean {
  return at.terms.every(({ atom }) => {
    if (atom.k === "var") return true;
    if (atom.k !== "value") return isIntIndex(atom.a);
    const from = indexLoad(atom.value);
    return from !== undefined && isIntIndex(from.load.at);
  });
}

/** Whether the index can be integer lanes that follow variable `lane`. */
export function isLaneIndex(at: Index, lane: number): boolean {
  return at.terms.every(({ atom }) => {
    if (atom.k === "var" || atom.k === "value" || !freeVars(atom).has(lane)) return true;
    const isDivision = atom.k === "div" || atom.k === "mod";
    const isExact = !isDivision || isPowerOfTwo(atom.by) || isNear(atom.a) || (atom.by < MAX_DIVISOR && atom.a.hi < 2 ** 31);
    return isExact && isLaneIndex(atom.a, lane);
  });
}
const isPowerOfTwo = (n: number): boolean => Number.isInteger(Math.log2(n));
const isNear = (a: Index): boolean => a.hi < EXACT_QUOTIENT && a.lo > -EXACT_QUOTIENT;

/** The index as an integer (in lane 0, if the lanes differ), or null where data that is no plain load decides it. */
export function intOf(em: Emitter, at: Index, block: Block): Int | null {
  let sum: Int = at.base;
  for (const { atom, c } of at.terms) {
    const value = atomInt(em, atom, block);
    if (value === null) return null;
    sum = plus(sum, times(value, c));
  }
  return sum;
}

/** Computes an atom now, as an integer if it can be one. */
export function settleAtom(em: Emitter, atom: Atom, block: Block): void {
  if (isLaneDependent(block, atom) || atomInt(em, atom, block) === null) atomVector(em, atom, block);
}

function atomInt(em: Emitter, atom: Atom, block: Block): Int | null {
  if (atom.k === "var") {
    const value = block.ints.get(atom.v.id);
    invariant(value !== undefined, "an index uses an unbound variable");
    return value;
  }
  if (block.shared && !isLaneDependent(block, atom)) return atomInt(em, atom, block.shared);
  const known = knownInt(block, atom);
  if (known !== undefined) return known;
  const value = computeInt(em, atom, block);
  block.atoms.set(atom, value);
  return value;
}

function computeInt(em: Emitter, atom: Exclude<Atom, { k: "var" }>, block: Block): Int | null {
  const { k } = em;
  if (atom.k === "value") {
    const from = indexLoad(atom.value);
    const at = from && intOf(em, from.load.at, block);
    if (!from || at === null || at === undefined) return null;
    const type = from.load.dtype as "i32" | "i64" | "u8"; // as indexLoad picks them
    return k.loadInt(
      em.buffers[from.load.input],
      times(at, type === "i64" ? 8 : type === "i32" ? 4 : 1),
      type,
      atom.lo,
      atom.hi,
      from.wrap,
    );
  }
  const a = intOf(em, atom.a, block);
  if (a === null) return null;
  switch (atom.k) {
    case "div":
      return k.div(a, atom.by);
    case "mod":
      return k.mod(a, atom.by);
    case "clamp": {
      const low = atom.a.hi > atom.hi ? k.min(a, atom.hi) : a;
      return atom.a.lo < atom.lo ? k.max(low, atom.lo) : low;
    }
    default:
      return atom satisfies never;
  }
}

/** The index in every lane, as i32. */
export function vectorOf(em: Emitter, at: Index, block: Block): Vec {
  const { k } = em;
  let base: Int = at.base;
  let step = 0;
  const vectors: { v: Vec; c: number }[] = [];
  for (const { atom, c } of at.terms) {
    if (atom.k === "var" && atom.v.id === block.lane?.id) step = c;
    const value = atom.k === "var" || !isLaneDependent(block, atom) ? atomInt(em, atom, block) : null;
    if (value !== null) base = plus(base, times(value, c));
    else vectors.push({ v: atomVector(em, atom, block), c });
  }
  const isNothing = step === 0 && affine(base).terms.length === 0 && affine(base).base === 0 && vectors.length > 0;
  let sum = isNothing ? undefined : k.iota(base, step);
  for (const { v, c } of vectors) {
    const part = c === 1 ? v : k.op("imul", v, k.i32(c));
    sum = sum ? k.op("iadd", sum, part) : part;
  }
  return sum ?? k.i32(0);
}

function atomVector(em: Emitter, atom: Atom, block: Block): Vec {
  if (block.shared && !isLaneDependent(block, atom)) return atomVector(em, atom, block.shared);
  const known = knownValue(block, atom);
  if (known) return known;
  const v = computeVector(em, atom, block);
  block.values.set(atom, v);
  return v;
}

function computeVector(em: Emitter, atom: Atom, block: Block): Vec {
  const { k } = em;
  const clamp = (v: Vec, lo: number, hi: number): Vec => k.op("imin", k.op("imax", v, k.i32(lo)), k.i32(hi));
  switch (atom.k) {
    case "var":
      return vectorOf(em, { base: 0, terms: [{ atom, c: 1 }], lo: 0, hi: atom.v.extent - 1 }, block);
    case "div":
      return quotient(em, atom.a, atom.by, block);
    case "mod": {
      const a = vectorOf(em, atom.a, block);
      if (isPowerOfTwo(atom.by)) return k.op("and", a, k.i32(atom.by - 1));
      return k.op("isub", a, k.op("imul", quotient(em, atom.a, atom.by, block), k.i32(atom.by)));
    }
    case "clamp":
      return clamp(vectorOf(em, atom.a, block), atom.lo, atom.hi);
    case "value": {
      const value = em.value(atom.value, block);
      return clamp(laneKind(atom.value.dtype) === "float" ? k.op("f2i", value) : value, atom.lo, atom.hi);
    }
    default:
      return atom satisfies never;
  }
}

/** ⌊a / by⌋ through float32, whose rounding cannot reach the next integer. */
function quotient(em: Emitter, at: Index, by: number, block: Block): Vec {
  const { k } = em;
  const a = vectorOf(em, at, block);
  if (isPowerOfTwo(by)) return k.op("ishr", a, undefined, undefined, undefined, Math.log2(by));
  const divide = (v: Vec, half: number): Vec =>
    k.op("f2i", k.op("floor", k.op("mul", k.op("add", k.op("i2f", v), k.f32(half)), k.f32(1 / by))));
  if (isNear(at)) return divide(a, 0.5);
  // A first guess leaves a remainder small enough to be divided exactly.
  const guess = divide(a, 0);
  const rest = k.op("isub", a, k.op("imul", guess, k.i32(by)));
  return k.op("iadd", guess, divide(rest, 0.5));
}
