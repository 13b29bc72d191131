// Affine expressions, divisions, bounds and integers from memory to WebAssembly's integer instructions: 32 bits wherever the interval allows it.
import { invariant } from "../../ir/error.ts";
import { type Affine, type IntVar, rangeOf, type Stmt } from "../../ir/kernel.ts";
import { INT_RANGE, type IntMemoryType } from "../../ir/kernel_ops.ts";
import type { OpcodeName } from "./opcodes.ts";
import type { FunctionWriter } from "./writer.ts";

export type IntType = "i32" | "i64";
export interface IntLocal {
  readonly local: number;
  readonly type: IntType;
}

/** Where integer code finds its operands: the emitter. */
export interface IntegerContext {
  readonly f: FunctionWriter;
  int(v: IntVar): IntLocal;
  /** Gives the variable its local. */
  define(v: IntVar, type: IntType): IntLocal;
  /** A local for use within one statement. */
  intTemp(type: IntType, i: number): number;
}

const fits = (lo: number, hi: number): boolean => lo >= -0x80000000 && hi <= 0x7fffffff;
/** The narrowest type that holds all these intervals. */
export function typeFor(...ranges: readonly (readonly [number, number])[]): IntType {
  return ranges.every(([lo, hi]) => fits(lo, hi)) ? "i32" : "i64";
}
/** `add` of a type: "i32.add" or "i64.add". */
const of = (
  type: IntType,
  op: "const" | "add" | "sub" | "mul" | "shl" | "shr_s" | "div_u" | "rem_u" | "and" | "lt_s" | "gt_s",
): OpcodeName => `${type}.${op}`;

function getAs(c: IntegerContext, v: IntVar, type: IntType): void {
  const x = c.int(v);
  c.f.get(x.local);
  if (x.type === type) return;
  c.f.op(type === "i32" ? "i32.wrap_i64" : "i64.extend_i32_s");
}

/** Pushes a's value, modulo 2^32 or 2^64. */
export function evaluate(c: IntegerContext, a: Affine, type: IntType = "i32"): void {
  const { f } = c;
  // A term without a factor first: the others are added to it or taken from it.
  const terms = a.terms.toSorted((x, y) => Number(y.c === 1) - Number(x.c === 1));
  if (!terms.length) {
    f.op(of(type, "const"), a.base);
    return;
  }
  terms.forEach(({ v, c: factor }, i) => {
    getAs(c, v, type);
    const isNegated = factor === -1 && i > 0;
    if (!isNegated) multiply(f, type, factor);
    if (i > 0) f.op(of(type, isNegated ? "sub" : "add"));
  });
  add(f, type, a.base);
}

function multiply(f: FunctionWriter, type: IntType, factor: number): void {
  const power = Math.log2(factor);
  if (factor === 1) return;
  const isShift = factor > 0 && Number.isInteger(power) && power < (type === "i32" ? 32 : 64);
  f.op(of(type, "const"), isShift ? power : factor);
  f.op(of(type, isShift ? "shl" : "mul"));
}

function add(f: FunctionWriter, type: IntType, value: number): void {
  if (value === 0) return;
  f.op(of(type, "const"), value);
  f.op(of(type, "add"));
}

/** Pushes whether a < b. */
export function compareAffine(c: IntegerContext, a: Affine, b: Affine): void {
  const type = typeFor(rangeOf(a), rangeOf(b));
  evaluate(c, a, type);
  evaluate(c, b, type);
  c.f.op(of(type, "lt_s"));
}

/** Takes `from` as a type and sets the variable. */
function setFrom(c: IntegerContext, v: IntVar, from: IntType): void {
  const x = c.define(v, typeFor([v.lo, v.hi]));
  if (x.type !== from) c.f.op(x.type === "i32" ? "i32.wrap_i64" : "i64.extend_i32_s");
  c.f.set(x.local);
}

/** The `int` statement. */
export function emitInt(c: IntegerContext, s: Extract<Stmt, { k: "int" }>): void {
  const { f } = c;
  switch (s.op) {
    case "set": {
      const type = typeFor([s.v.lo, s.v.hi]);
      evaluate(c, s.a, type);
      setFrom(c, s.v, type);
      return;
    }
    case "bits": {
      const type = typeFor(rangeOf(s.a));
      evaluate(c, s.a, type);
      f.op(of(type, "const"), s.shift);
      f.op(of(type, "shr_s"));
      f.op(of(type, "const"), s.b.base);
      f.op(of(type, "and"));
      setFrom(c, s.v, type);
      return;
    }
    case "min":
    case "max": {
      const type = typeFor(rangeOf(s.a), rangeOf(s.b));
      evaluate(c, s.a, type);
      f.op("local.tee", c.intTemp(type, 0));
      evaluate(c, s.b, type);
      f.op("local.tee", c.intTemp(type, 1));
      f.get(c.intTemp(type, 0));
      f.get(c.intTemp(type, 1));
      f.op(of(type, s.op === "min" ? "lt_s" : "gt_s"));
      f.op("select");
      setFrom(c, s.v, type);
      return;
    }
    case "div":
    case "mod":
      emitDivision(c, s);
      return;
    default:
      s.op satisfies never;
  }
}

/** Floor division and modulo by a positive constant; the engine turns division by a constant into a multiplication. */
function emitDivision(c: IntegerContext, s: Extract<Stmt, { k: "int" }>): void {
  const { f } = c;
  const by = s.b.base;
  const isDiv = s.op === "div";
  const [lo, hi] = rangeOf(s.a);
  invariant(!s.b.terms.length && by > 0, `division by ${by}`);
  const power = Math.log2(by);
  if (Number.isInteger(power)) {
    const type = typeFor([lo, hi]);
    evaluate(c, s.a, type);
    f.op(of(type, "const"), isDiv ? power : by - 1);
    f.op(of(type, isDiv ? "shr_s" : "and"));
    setFrom(c, s.v, type);
    return;
  }
  // The smallest multiple of the divisor that makes the dividend non-negative, taken off again afterwards.
  const shift = lo < 0 ? Math.ceil(-lo / by) * by : 0;
  const type = typeFor([lo, hi], [by, hi + shift]);
  evaluate(c, { base: s.a.base + shift, terms: s.a.terms }, type);
  f.op(of(type, "const"), by);
  f.op(of(type, isDiv ? "div_u" : "rem_u"));
  if (isDiv) add(f, type, -shift / by);
  setFrom(c, s.v, type);
}

/** The value that lies on the stack in `x`, as the larger (smaller) of itself and a limit. */
function limit(c: IntegerContext, type: IntType, bound: number, keepIf: "lt_s" | "gt_s"): void {
  const { f } = c;
  const x = c.intTemp(type, 0);
  f.op("local.tee", x);
  f.op(of(type, "const"), bound);
  f.get(x);
  f.op(of(type, "const"), bound);
  f.op(of(type, keepIf));
  f.op("select");
}

const LOADS = { i32: "i32.load", i64: "i64.load", u8: "i32.load8_u", u16: "i32.load16_u" } as const;

/** The `loadint` statement, its address on the stack: wrapped when negative, then clamped, so that no data can lead out of a buffer. */
export function emitLoadInt(c: IntegerContext, v: IntVar, from: IntMemoryType, wrap: number, offset: number): void {
  const { f } = c;
  const type = from === "i64" ? "i64" : typeFor([v.lo, v.hi], [wrap, wrap]);
  f.op(LOADS[from], offset);
  if (type === "i64" && from !== "i64") f.op("i64.extend_i32_s");
  if (wrap !== 0) {
    const x = c.intTemp(type, 0);
    f.op("local.tee", x);
    add(f, type, wrap);
    f.get(x);
    f.get(x);
    f.op(of(type, "const"), 0);
    f.op(of(type, "lt_s"));
    f.op("select");
  }
  const [least, most] = INT_RANGE[from];
  if (wrap !== 0 || v.lo > least) limit(c, type, v.lo, "gt_s");
  if (wrap !== 0 || v.hi < most) limit(c, type, v.hi, "lt_s");
  setFrom(c, v, type);
}
