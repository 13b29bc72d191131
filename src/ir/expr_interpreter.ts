// Turns a scalar expression over output variables into a JavaScript loop nest and runs it: float64 arithmetic, exact integers, one rounding at the end.
import { moveElements } from "./constant_expr.ts";
import { DTYPES, type DType, type TypedArray } from "./dtype.ts";
import { HeddleError, invariant } from "./error.ts";
import type { Expr } from "./expr.ts";
import { childrenOf } from "./expr_parts.ts";
import { asMoved } from "./float8.ts";
import type { Reader, TensorType } from "./graph.ts";
import { type Atom, type Index, type IndexVar, linearIndex, newVar, varIndex } from "./index_expr.ts";
import { SCALAR, type ScalarFn } from "./scalar.ts";
import { bf16ToNumber, halfToNumber, numberToBf16, numberToHalf } from "./small_floats.ts";
import { stridesOf, type TensorData, toNumbers, zeros } from "./tensor.ts";

/** Reads element by element from the group's input number `input`, row-major; of integers `range` may be known. */
export function loadReader(type: TensorType, input: number, range?: readonly [number, number]): Reader {
  const strides = stridesOf(type.shape);
  return { type, at: (index) => ({ k: "load", dtype: type.dtype, input, at: linearIndex(index, strides), range }) };
}

/** The tensor that a reader describes, with the loads taken from `inputs`. */
export function interpret(reader: Reader, inputs: readonly (TensorData | null)[]): TensorData {
  const moved = moveElements(reader, inputs);
  if (moved) return moved;
  const out = zeros(reader.type.dtype, reader.type.shape);
  if (out.data.length === 0) return out;
  const run = programs.get(reader) ?? programOf(reader);
  programs.set(reader, run);
  run(inputs.map((t) => (t ? hostArray(t) : null)), out.data, EXACT, HELPERS); // biome-ignore format: one idea
  return out;
}

type Run = (inputs: readonly (TypedArray | null)[], out: TypedArray, exact: unknown, helpers: unknown) => void;
const programs = new WeakMap<Reader, Run>();

function programOf({ type: { dtype, shape }, at }: Reader): Run {
  const vars = shape.map((extent) => newVar(extent));
  const expr = at(vars.map(varIndex));
  invariant(expr.dtype === dtype, `expression of type ${expr.dtype} for an output of type ${dtype}`);
  // The source is made of numbers and names from this file only: nothing of the model's text reaches it.
  return new Function("inputs", "out", "F", "H", new Emitter().program(vars, expr)) as Run;
}

/** Elements as the program computes with them: half floats are widened. */
const hostArray = (t: TensorData): TypedArray => (t.dtype === "f16" || t.dtype === "bf16" ? toNumbers(t) : t.data);

const EXACT = Object.fromEntries(Object.entries(SCALAR).map(([name, row]) => [name, row.exact]));

const isBig = (t: DType): boolean => t === "i64" || t === "u64";

const HELPERS = {
  half: numberToHalf,
  bf16: numberToBf16,
  roundHalf: (x: number) => halfToNumber(numberToHalf(x)),
  roundBf16: (x: number) => bf16ToNumber(numberToBf16(x)),
  /** Saturating, as processors do; NaN is 0. */
  big(x: number): bigint {
    if (Number.isNaN(x)) return 0n;
    if (x >= 2 ** 63) return x >= 2 ** 64 ? 2n ** 63n - 1n : BigInt(Math.trunc(x));
    return x <= -(2 ** 63) ? -(2n ** 63n) : BigInt(Math.trunc(x));
  },
  bigDiv: (a: bigint, b: bigint) => (b === 0n ? 0n : a / b),
  bigFmod: (a: bigint, b: bigint) => (b === 0n ? 0n : a % b),
  bigMod(a: bigint, b: bigint): bigint {
    if (b === 0n) return 0n;
    const r = a % b;
    return r !== 0n && r < 0n !== b < 0n ? r + b : r;
  },
  /** Modulo 2^64, so that a huge exponent takes 64 steps and not all memory. */
  bigPow(a: bigint, b: bigint): bigint {
    if (b < 0n) return a === 1n ? 1n : a === -1n ? (b % 2n === 0n ? 1n : -1n) : 0n;
    let result = 1n;
    for (let base = a, n = b; n > 0n; n >>= 1n, base = BigInt.asUintN(64, base * base))
      if (n & 1n) result = BigInt.asUintN(64, result * base);
    return result;
  },
  index: (x: number | bigint, lo: number, hi: number) => {
    const n = Math.trunc(Number(x));
    return n >= lo ? Math.min(n, hi) : lo;
  },
};

/** Limits a JavaScript number that holds an exact integer, or a float to be truncated, to the type's bits. */
function wrap(dtype: DType, s: string): string {
  const moved = asMoved(dtype);
  switch (moved) {
    case "i8":
      return `(${s} << 24 >> 24)`;
    case "u8":
      return `(${s} & 255)`;
    case "i16":
      return `(${s} << 16 >> 16)`;
    case "u16":
      return `(${s} & 65535)`;
    case "i32":
      return `(${s} | 0)`;
    case "u32":
      return `(${s} >>> 0)`;
    case "i64":
      return `BigInt.asIntN(64, ${s})`;
    case "u64":
      return `BigInt.asUintN(64, ${s})`;
    case "f16":
    case "bf16":
    case "f32":
    case "f64":
    case "bool":
      return s;
    default:
      return moved satisfies never;
  }
}

function castText(to: DType, from: DType, a: string): string {
  if (to === "bool") return `(${a} ${isBig(from) ? "!== 0n" : "!== 0"} ? 1 : 0)`;
  if (isBig(to)) return wrap(to, isBig(from) ? a : DTYPES[from].kind === "float" ? `H.big(${a})` : `BigInt(${a})`);
  const n = isBig(from) ? `Number(${DTYPES[to].kind === "float" ? a : `BigInt.asIntN(32, ${a})`})` : a;
  if (to === "f32") return `Math.fround(${n})`;
  if (to === "f16") return `H.roundHalf(${n})`;
  if (to === "bf16") return `H.roundBf16(${n})`;
  return wrap(to, n);
}

const OPERATORS: Partial<Record<ScalarFn, string>> = { add: "+", sub: "-", mul: "*", div: "/" };
const COMPARE: Partial<Record<ScalarFn, string>> = { eq: "===", ne: "!==", lt: "<", le: "<=", gt: ">", ge: ">=" };

function floatCall(fn: ScalarFn, args: string[]): string {
  const operator = OPERATORS[fn];
  return operator ? `(${args[0]} ${operator} ${args[1]})` : `F.${fn}(${args.join(", ")})`;
}

/** 8 to 32 bits, and bool. */
function intCall(fn: ScalarFn, dtype: DType, [a, b]: string[]): string {
  const bits = DTYPES[dtype].bytes * 8;
  switch (fn) {
    case "mul":
      return wrap(dtype, `Math.imul(${a}, ${b})`);
    case "bitand":
      return wrap(dtype, `(${a} & ${b})`);
    case "bitor":
      return wrap(dtype, `(${a} | ${b})`);
    case "bitxor":
      return wrap(dtype, `(${a} ^ ${b})`);
    case "shl":
      return `(${b} >= ${bits} ? 0 : ${wrap(dtype, `(${a} << ${b})`)})`;
    default:
      return wrap(dtype, floatCall(fn, b === undefined ? [a] : [a, b]));
  }
}

function bigCall(fn: ScalarFn, dtype: DType, [a, b]: string[]): string {
  switch (fn) {
    case "add":
    case "sub":
    case "mul":
      return wrap(dtype, `(${a} ${OPERATORS[fn]} ${b})`);
    case "div":
      return wrap(dtype, `H.bigDiv(${a}, ${b})`);
    case "mod":
      return `H.bigMod(${a}, ${b})`;
    case "fmod":
      return `H.bigFmod(${a}, ${b})`;
    case "pow":
      return wrap(dtype, `H.bigPow(${a}, ${b})`);
    case "min":
      return `(${a} < ${b} ? ${a} : ${b})`;
    case "max":
      return `(${a} > ${b} ? ${a} : ${b})`;
    case "neg":
      return wrap(dtype, `(-${a})`);
    case "abs":
      return wrap(dtype, `(${a} < 0n ? -${a} : ${a})`);
    case "sign":
      return `(${a} > 0n ? 1n : ${a} < 0n ? -1n : 0n)`;
    case "bitand":
      return `(${a} & ${b})`;
    case "bitor":
      return `(${a} | ${b})`;
    case "bitxor":
      return `(${a} ^ ${b})`;
    case "bitnot":
      return wrap(dtype, `(~${a})`);
    case "shl":
      return `(${b} >= 64n ? 0n : ${wrap(dtype, `(${a} << ${b})`)})`;
    case "shr":
      return `(${a} >> ${b})`;
    case "floor":
    case "ceil":
    case "round":
    case "trunc":
      return a;
    default:
      return wrap(dtype, `H.big(F.${fn}(${(b === undefined ? [a] : [a, b]).map((s) => `Number(${s})`).join(", ")}))`);
  }
}

function callText(fn: ScalarFn, operand: DType, args: string[]): string {
  const compare = COMPARE[fn];
  if (compare) return `(${args[0]} ${compare} ${args[1]} ? 1 : 0)`;
  if (fn === "isnan" || fn === "isinf") return isBig(operand) ? "0" : `F.${fn}(${args[0]})`;
  if (fn === "and" || fn === "or" || fn === "xor" || fn === "not")
    return `F.${fn}(${args.map((a) => castText("bool", operand, a)).join(", ")})`;
  const kind = DTYPES[operand].kind;
  if (isBig(operand)) return bigCall(fn, operand, args);
  return kind === "float" ? floatCall(fn, args) : intCall(fn, operand, args);
}

function numberText(value: number): string {
  return Object.is(value, -0) ? "-0" : value < 0 ? `(${value})` : `${value}`;
}

function constText(dtype: DType, value: number): string {
  if (!isBig(dtype)) return numberText(value);
  const big = wrapBig(dtype, HELPERS.big(value));
  return big < 0n ? `(${big}n)` : `${big}n`;
}
const wrapBig = (dtype: DType, x: bigint): bigint => (dtype === "u64" ? BigInt.asUintN(64, x) : BigInt.asIntN(64, x));

/** Smallest and largest value: where max and min start. */
function extreme(dtype: DType, sign: 1 | -1): string {
  const { bytes, kind } = DTYPES[dtype];
  if (kind === "float") return sign > 0 ? "Infinity" : "-Infinity";
  if (kind === "bool") return sign > 0 ? "1" : "0";
  const bits = BigInt(bytes * 8);
  const limit = kind === "uint" ? (sign > 0 ? 2n ** bits - 1n : 0n) : sign > 0 ? 2n ** (bits - 1n) - 1n : -(2n ** (bits - 1n));
  return isBig(dtype) ? `(${limit}n)` : `(${limit})`;
}

function identityText(dtype: DType, combine: "add" | "mul" | "max" | "min"): string {
  if (combine === "max") return extreme(dtype, -1);
  if (combine === "min") return extreme(dtype, 1);
  return constText(dtype, combine === "add" ? 0 : 1);
}

/** Code of one loop body. What it computes is forgotten when the loop ends, because it cannot be seen from outside. */
interface Scope {
  readonly lines: string[];
  readonly known: (Expr | Atom)[];
}

/** Writes each expression once, in the outermost loop where all variables it needs are known. */
class Emitter {
  private readonly scopes: Scope[] = [{ lines: [], known: [] }];
  private readonly levelOfVar = new Map<number, number>();
  private readonly names = new Map<Expr | Atom, string>();
  private readonly freeVars = new Map<object, ReadonlySet<number>>();
  private readonly inputs = new Set<number>();
  private next = 0;

  program(vars: readonly IndexVar[], expr: Expr): string {
    for (const v of vars) this.open(v);
    const value = this.emit(expr);
    const store = expr.dtype === "f16" ? `H.half(${value})` : expr.dtype === "bf16" ? `H.bf16(${value})` : value;
    this.top().lines.push(`out[o++] = ${store};`);
    for (let i = vars.length - 1; i >= 0; i--) this.close(vars[i]);
    const loads = [...this.inputs].map((i) => `const in${i} = inputs[${i}];`);
    return ['"use strict";', "let o = 0;", ...loads, ...this.scopes[0].lines].join("\n");
  }

  private top(): Scope {
    return this.scopes[this.scopes.length - 1];
  }
  private open(v: IndexVar): void {
    this.levelOfVar.set(v.id, this.scopes.length);
    this.scopes.push({ lines: [], known: [] });
  }
  private close(v: IndexVar): void {
    const { lines, known } = this.scopes.pop()!;
    for (const e of known) this.names.delete(e);
    this.levelOfVar.delete(v.id);
    this.top().lines.push(`for (let v${v.id} = 0; v${v.id} < ${v.extent}; v${v.id}++) {`, ...lines, "}");
  }

  /** Variables that must be bound outside `e`. */
  private free(e: Expr | Index | Atom): ReadonlySet<number> {
    let set = this.freeVars.get(e);
    if (!set) {
      set = new Set(childrenOf(e).flatMap((c) => [...this.free(c)]));
      if ("k" in e && e.k === "var") set = new Set([e.v.id]);
      if ("k" in e && e.k === "reduce") set = new Set([...set].filter((id) => e.vars.every((v) => v.id !== id)));
      this.freeVars.set(e, set);
    }
    return set;
  }

  /** The innermost loop that binds a variable of `e`. */
  private levelOf(e: Expr | Atom): number {
    let level = 0;
    for (const id of this.free(e)) {
      const l = this.levelOfVar.get(id);
      if (l === undefined) throw new HeddleError("verify", "internal: an expression uses an unbound index variable");
      level = Math.max(level, l);
    }
    return level;
  }

  /** Defines a name for `e` in its outermost possible scope. */
  private define(e: Expr | Atom, text: string): string {
    const name = `t${this.next++}`;
    const scope = this.scopes[this.levelOf(e)];
    scope.lines.push(`const ${name} = ${text};`);
    scope.known.push(e);
    this.names.set(e, name);
    return name;
  }

  private emit(e: Expr): string {
    const known = this.names.get(e);
    if (known) return known;
    switch (e.k) {
      case "const":
        return constText(e.dtype, e.value);
      case "load":
        this.inputs.add(e.input);
        return this.define(e, `in${e.input}[${this.index(e.at)}]`);
      case "call": {
        const args = e.args.map((a) => this.emit(a));
        return this.define(e, callText(e.fn, e.args[0].dtype, args));
      }
      case "cast":
        return this.define(e, castText(e.dtype, e.a.dtype, this.emit(e.a)));
      case "index":
        return this.define(e, isBig(e.dtype) ? `BigInt(${this.index(e.at)})` : wrap(e.dtype, this.index(e.at)));
      case "within": {
        const at = this.index(e.at);
        return this.define(e, `(${at} >= ${e.lo} && ${at} < ${e.hi} ? 1 : 0)`);
      }
      case "select": {
        const [c, a, b] = [this.emit(e.cond), this.emit(e.a), this.emit(e.b)];
        return this.define(e, `${c} ? ${a} : ${b}`);
      }
      case "reduce":
        return this.reduce(e);
      default:
        return e satisfies never;
    }
  }

  private reduce(e: Expr & { k: "reduce" }): string {
    const name = `t${this.next++}`;
    // Loops are written where they are opened: set the inner scopes aside while writing this one in the outermost scope possible.
    const inner = this.scopes.splice(this.levelOf(e) + 1);
    const outer = this.top();
    outer.lines.push(`let ${name} = ${identityText(e.dtype, e.combine)};`);
    for (const v of e.vars) this.open(v);
    const body = this.emit(e.body);
    this.top().lines.push(`${name} = ${callText(e.combine, e.dtype, [name, body])};`);
    for (let i = e.vars.length - 1; i >= 0; i--) this.close(e.vars[i]);
    this.scopes.push(...inner);
    outer.known.push(e);
    this.names.set(e, name);
    return name;
  }

  private index(at: Index): string {
    const terms = at.terms.map(({ atom, c }) => (c === 1 ? this.atom(atom) : `${c} * ${this.atom(atom)}`));
    if (at.base !== 0 || terms.length === 0) terms.push(`${at.base}`);
    return `(${terms.join(" + ")})`;
  }

  private atom(atom: Atom): string {
    if (atom.k === "var") return `v${atom.v.id}`;
    const known = this.names.get(atom);
    if (known) return known;
    switch (atom.k) {
      case "div": {
        const a = this.index(atom.a);
        return this.define(atom, `Math.floor(${a} / ${atom.by})`);
      }
      case "mod": {
        const a = this.index(atom.a);
        return this.define(atom, atom.a.lo >= 0 ? `${a} % ${atom.by}` : `(${a} % ${atom.by} + ${atom.by}) % ${atom.by}`);
      }
      case "clamp":
        return this.define(atom, `Math.min(Math.max(${this.index(atom.a)}, ${atom.lo}), ${atom.hi})`);
      case "value":
        return this.define(atom, `H.index(${this.emit(atom.value)}, ${atom.lo}, ${atom.hi})`);
      default:
        return atom satisfies never;
    }
  }
}
