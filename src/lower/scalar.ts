// Emits one expression as vector code, and says which expressions have vector code at all.
import type { DType } from "../ir/dtype.ts";
import type { Expr } from "../ir/expr.ts";
import { isIndex, type Part } from "../ir/expr_parts.ts";
import type { Index } from "../ir/index_expr.ts";
import type { Vec } from "../ir/kernel.ts";
import { SCALAR } from "../ir/scalar.ts";
import { type Block, rootBlock } from "./block.ts";
import { Emitter } from "./emitter.ts";
import { EXACT_FLOAT, hasMaskFn, intOperands } from "./int_math.ts";
import { isIntIndex } from "./lanes.ts";
import { Rewriter } from "./rewrite.ts";
import type { LaneScope } from "./scope.ts";
import { laneKind, memoryType, typeRange } from "./storage.ts";
import { walk } from "./walk.ts";

const started = new WeakMap<LaneScope, { readonly emitter: Emitter; readonly block: Block }>();

/**
 * The expression's value in a register: floats as f32 lanes, integers as i32 lanes, booleans as masks (storeValue writes each as its type wants).
 * Equal parts of an expression are computed once. `canLower(expr)` must hold.
 */
export function emitExpr(expr: Expr, scope: LaneScope): Vec {
  let code = started.get(scope);
  if (!code) {
    const { builder, ints, given, lane, lanes, buffers } = scope;
    const shared = rootBlock(builder.lanes, ints, given);
    const block = lane ? { ...rootBlock(lanes, ints, given), lane, shared } : shared;
    code = { emitter: new Emitter(builder, buffers), block };
    started.set(scope, code);
  }
  return code.emitter.value(simplified(expr), code.block);
}

const simpler = new WeakMap<Expr, Expr>();

/** Equal parts as one object, and indices without needless divisions. */
function simplified(expr: Expr): Expr {
  let result = simpler.get(expr);
  if (!result) {
    result = new Rewriter().expr(expr);
    simpler.set(expr, result);
  }
  return result;
}

type Interval = readonly [number, number];
const INT32: Interval = [-(2 ** 31), 2 ** 31 - 1];

/**
 * Whether vector code can compute it: no f64, u32 or u64, and of i64 only what provably fits 32 bits, and indices read from memory.
 * `divides`: integers of 32 bits are divided as such, not as floats.
 */
export function canLower(expr: Expr, divides = false): boolean {
  const checked = new Set<Expr>();
  const indexOk = (at: Index): boolean =>
    at.terms.every(({ atom }) => atom.k === "var" || (atom.k === "value" ? check(atom.value, true) : indexOk(atom.a)));
  const check = (e: Expr, isTrusted: boolean): boolean => {
    if (!isTrusted && checked.has(e)) return true;
    if (!laneKind(e.dtype)) return false;
    if (e.dtype === "i64" && !isTrusted && !fits(intervalOf(e), INT32)) return false;
    const isFine = checkKind(e, isTrusted, check, indexOk, divides);
    if (isFine && !isTrusted) checked.add(e);
    return isFine;
  };
  return check(expr, false);
}

function checkKind(
  e: Expr,
  isTrusted: boolean,
  check: (e: Expr, t: boolean) => boolean,
  indexOk: (at: Index) => boolean,
  divides: boolean,
): boolean {
  switch (e.k) {
    case "const":
      return laneKind(e.dtype) === "float" || (Number.isInteger(e.value) && fits([e.value, e.value], INT32));
    case "load": {
      const type = memoryType(e.dtype);
      const isWide = type === "f32" || type === "i32" || type === "i64";
      return indexOk(e.at) && (isWide || isIntIndex(e.at));
    }
    case "index":
    case "within":
      return indexOk(e.at) && fits([e.at.lo, e.at.hi], INT32);
    case "call":
      return checkCall(e, divides) && e.args.every((a) => check(a, isTrusted));
    case "cast":
      // The low half of 64 bits is all that a smaller integer takes.
      return check(e.a, isTrusted || (e.a.dtype === "i64" && e.a.k === "load" && laneKind(e.dtype) === "int" && e.dtype !== "i64"));
    case "select":
      return check(e.cond, isTrusted) && check(e.a, isTrusted) && check(e.b, isTrusted);
    case "reduce":
      if (laneKind(e.dtype) === "mask" && e.combine !== "max" && e.combine !== "min") return false;
      return check(e.body, isTrusted);
    default:
      return e satisfies never;
  }
}

const LOGIC: ReadonlySet<string> = new Set(["and", "or", "xor", "not"]);
const FLOAT_ONLY_INT: ReadonlySet<string> = new Set(["bitand", "bitor", "bitxor", "bitnot", "shl", "shr"]);

const DIVISIONS: ReadonlySet<string> = new Set(["div", "fmod", "mod"]);

function checkCall(e: Extract<Expr, { k: "call" }>, divides: boolean): boolean {
  if (e.args.length !== SCALAR[e.fn].arity || e.args.some((a) => !laneKind(a.dtype))) return false;
  if (LOGIC.has(e.fn)) return true;
  switch (laneKind(e.args[0].dtype)) {
    case "float":
      return !FLOAT_ONLY_INT.has(e.fn);
    case "mask":
      return hasMaskFn(e.fn);
    case "int": {
      const wanted = intOperands(e.fn);
      if (wanted === "exact" || (divides && DIVISIONS.has(e.fn))) return true;
      return wanted === "small" && e.args.every((a) => fits(intervalOf(a), [-EXACT_FLOAT, EXACT_FLOAT]));
    }
    default:
      return false;
  }
}

const fits = (a: Interval | null, [lo, hi]: Interval): boolean => a !== null && a[0] >= lo && a[1] <= hi;

const intervals = new WeakMap<Expr, { readonly interval: Interval | null }>();

/** Interval of an integer or boolean expression; null: unknown, or a float. */
export function intervalOf(e: Expr): Interval | null {
  let known = intervals.get(e);
  if (!known) {
    known = { interval: limited(e.dtype, computeInterval(e)) };
    intervals.set(e, known);
  }
  return known.interval;
}

/** Types narrower than 64 bits wrap into their own interval. */
function limited(dtype: DType, interval: Interval | null): Interval | null {
  if (laneKind(dtype) === "float") return null;
  if (dtype === "i64" || dtype === "u64") return interval;
  const own = typeRange(dtype);
  return fits(interval, own) ? interval : own;
}

function computeInterval(e: Expr): Interval | null {
  switch (e.k) {
    case "const":
      return [e.value, e.value];
    case "load":
      return e.range ?? (e.dtype === "i64" ? null : typeRange(e.dtype));
    case "index":
      return [e.at.lo, e.at.hi];
    case "within":
      return [0, 1];
    case "cast":
      return intervalOf(e.a);
    case "select":
      return hull(intervalOf(e.a), intervalOf(e.b));
    case "call":
      return e.dtype === "bool" ? [0, 1] : callInterval(e.fn, e.args.map(intervalOf));
    case "reduce": {
      const body = intervalOf(e.body);
      if (!body || e.combine === "mul") return null;
      const count = e.vars.reduce((n, v) => n * v.extent, 1);
      return e.combine === "add" ? hull([body[0] * count, body[1] * count], [0, 0]) : body;
    }
    default:
      return e satisfies never;
  }
}

const hull = (a: Interval | null, b: Interval | null): Interval | null => a && b && [Math.min(a[0], b[0]), Math.max(a[1], b[1])];

function callInterval(fn: string, args: readonly (Interval | null)[]): Interval | null {
  const [a, b] = args;
  if (!a || (args.length > 1 && !b)) return null;
  const corners = (f: (x: number, y: number) => number): Interval => {
    const all = [0, 1].flatMap((i) => [0, 1].map((j) => f(a[i], b![j]))); // asked for functions of two arguments only
    return [Math.min(...all), Math.max(...all)];
  };
  switch (fn) {
    case "add":
      return corners((x, y) => x + y);
    case "sub":
      return corners((x, y) => x - y);
    case "mul":
      return corners((x, y) => x * y);
    case "min":
      return corners(Math.min);
    case "max":
      return corners(Math.max);
    case "neg":
      return [-a[1], -a[0]];
    case "abs":
      return [0, Math.max(Math.abs(a[0]), Math.abs(a[1]))];
    case "sign":
      return [-1, 1];
    case "div":
    case "fmod":
    case "mod": {
      const size = Math.max(...a.map(Math.abs), ...(fn === "div" ? [] : b!.map(Math.abs))); // they have two arguments
      return [-size, size];
    }
    default:
      return null;
  }
}

/** The group's inputs that an expression reads. */
export function inputsOf(e: Expr): ReadonlySet<number> {
  const inputs = new Set<number>();
  walk(e, (p: Part) => {
    if (!isIndex(p) && p.k === "load") inputs.add(p.input);
    return true;
  });
  return inputs;
}
