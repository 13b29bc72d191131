// The SIMD kernel language: structured loops over integer variables with known bounds, vector registers, and loads and stores at affine addresses.
import { HeddleError, invariant } from "./error.ts";
import { type IntMemoryType, type IntOp, MEMORY_BYTES, type MemoryType, type VecOp } from "./kernel_ops.ts";
import type { SimdTarget } from "./simd_target.ts";

export type { SimdTarget };

/** An integer variable and its inclusive interval, from which every address is proved inside its buffer. */
export interface IntVar {
  readonly id: number;
  readonly lo: number;
  readonly hi: number;
}

/** base + Σ c·v. */
export interface Affine {
  readonly base: number;
  readonly terms: readonly { readonly v: IntVar; readonly c: number }[];
}
export type Int = number | IntVar | Affine;

/** A mutable virtual vector register: `lanes` elements of 32 bits, seen as f32 or i32 by each operation. Masks are vectors of all-ones or all-zeros lanes. */
export interface Vec {
  readonly id: number;
}

/** A buffer the kernel is given. The last parameter of kind "scratch" is private to each thread. */
export interface BufferParam {
  readonly name: string;
  readonly bytes: number;
  readonly access: "read" | "write" | "readwrite" | "scratch";
}

/** As kernel authors write it: parameter number and byte offset. */
export interface BufferAddress {
  readonly buffer: number;
  readonly at: Affine;
}
/** After address lowering (codegen/addresses.ts): a pointer variable and a constant displacement in bytes. */
export interface PointerAddress {
  readonly pointer: Pointer;
  readonly disp: number;
}
export interface Pointer {
  readonly id: number;
}

export type Stmt<A = BufferAddress> =
  /** for v = from; v < to; v += step. Bounds are evaluated once. */
  | {
      readonly k: "for";
      readonly v: IntVar;
      readonly from: Affine;
      readonly to: Affine;
      readonly step: number;
      readonly body: readonly Stmt<A>[];
    }
  /** v runs over this thread's share of [0, extent): contiguous, ⌈extent/threads⌉ each. Outermost only, not nested. */
  | { readonly k: "parallel"; readonly v: IntVar; readonly extent: number; readonly body: readonly Stmt<A>[] }
  /** Runs `body` when a < b, else `otherwise`. */
  | { readonly k: "if"; readonly a: Affine; readonly b: Affine; readonly body: readonly Stmt<A>[]; readonly otherwise: readonly Stmt<A>[] }
  /** v ← a ⊕ b. */
  | { readonly k: "int"; readonly v: IntVar; readonly op: IntOp; readonly a: Affine; readonly b: Affine; readonly shift: number }
  /** v ← the i32/i64/u8/u16 integer in memory, + wrap when negative (0: no wrap), then clamped into [v.lo, v.hi]. */
  | { readonly k: "loadint"; readonly v: IntVar; readonly from: A; readonly type: IntMemoryType; readonly wrap: number }
  | { readonly k: "const"; readonly dst: Vec; readonly type: "f32" | "i32"; readonly value: number }
  /** dst ← [a, a+step, a+2·step, …] as i32 lanes. */
  | { readonly k: "iota"; readonly dst: Vec; readonly a: Affine; readonly step: number }
  /** vec: `lanes` consecutive elements, other lanes zero · splat: one element in every lane · quad: four consecutive elements in every four lanes (f32 and i32 only) · strided: `lanes` elements `stride` bytes apart (f32 and i32 only). */
  | {
      readonly k: "load";
      readonly dst: Vec;
      readonly from: A;
      readonly type: MemoryType;
      readonly mode: "vec" | "splat" | "quad" | "strided";
      readonly lanes: number;
      readonly stride: number;
    }
  /** dst lane ← element index[lane] (i32 elements of 4 bytes, clamped to [0, count)) from `from`; only the first `lanes`. */
  | { readonly k: "gather"; readonly dst: Vec; readonly from: A; readonly index: Vec; readonly count: number; readonly lanes: number }
  /** dst lane ← the next element of 32 bits from `from`, where the lane's bit of the 16 at `bits` is set, else zero; where the target has expandsLoads. */
  | { readonly k: "expand"; readonly dst: Vec; readonly from: A; readonly bits: A }
  | { readonly k: "store"; readonly src: Vec; readonly to: A; readonly type: MemoryType; readonly lanes: number }
  | { readonly k: "vec"; readonly op: VecOp; readonly dst: Vec; readonly a: Vec; readonly b?: Vec; readonly c?: Vec; readonly imm?: number }
  /** Fetch into the caches from `level` on; no effect on results; may point outside the buffer. */
  | { readonly k: "prefetch"; readonly at: A; readonly level: CacheLevel }
  /** Only after address lowering: pointer ← parameter or other pointer, plus an offset in bytes. */
  | {
      readonly k: "pointer";
      readonly pointer: Pointer;
      readonly from: { readonly buffer: number } | { readonly pointer: Pointer };
      readonly add: Affine;
    };

/** A core's first or second-level cache. */
export type CacheLevel = 1 | 2;

export interface Kernel<A = BufferAddress> {
  readonly name: string;
  /** Lanes of 32 bits in a vector: 16 (AVX-512), 8 (AVX2), 4 (WebAssembly). */
  readonly lanes: number;
  readonly threads: number;
  readonly params: readonly BufferParam[];
  readonly body: readonly Stmt<A>[];
}

const NO_TERMS: Affine["terms"] = [];

export function affine(a: Int): Affine {
  if (typeof a === "number") return { base: a, terms: NO_TERMS };
  return "terms" in a ? a : { base: 0, terms: [{ v: a, c: 1 }] };
}

/** The sum. Kernels differ in thousands of numbers added to few variables, so a sum with numbers shares its terms. */
export function plus(...parts: readonly Int[]): Affine {
  let base = 0;
  let terms = NO_TERMS;
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i];
    if (typeof part === "number") base += part;
    else {
      const a = affine(part);
      base += a.base;
      terms = terms.length === 0 ? a.terms : joinTerms(terms, a.terms);
    }
  }
  return { base, terms };
}

function joinTerms(a: Affine["terms"], b: Affine["terms"]): Affine["terms"] {
  if (b.length === 0) return a;
  const sum = a.slice();
  for (let i = 0; i < b.length; i++) {
    const { v, c } = b[i];
    let at = 0;
    while (at < sum.length && sum[at].v.id !== v.id) at++;
    if (at === sum.length) sum.push(b[i]);
    else if (sum[at].c + c === 0) sum.splice(at, 1);
    else sum[at] = { v, c: sum[at].c + c };
  }
  return sum;
}

export function times(a: Int, by: number): Affine {
  if (by === 0) return affine(0);
  if (typeof a === "number") return affine(a * by);
  if (!("terms" in a)) return { base: 0, terms: [{ v: a, c: by }] };
  if (by === 1) return a;
  const { terms } = a;
  if (terms.length === 0) return affine(a.base * by);
  const products = [{ v: terms[0].v, c: terms[0].c * by }];
  for (let i = 1; i < terms.length; i++) products.push({ v: terms[i].v, c: terms[i].c * by });
  return { base: a.base * by, terms: products };
}

/** Inclusive interval. */
export function rangeOf(a: Int): [number, number] {
  if (typeof a === "number") return [a, a];
  if (!("terms" in a)) return [a.lo, a.hi];
  return [a.base + extreme(a.terms, false), a.base + extreme(a.terms, true)];
}

/** The largest or smallest value of Σ c·v. */
function extreme(terms: Affine["terms"], isLargest: boolean): number {
  let sum = 0;
  for (let i = 0; i < terms.length; i++) {
    const { v, c } = terms[i];
    sum += c * (c > 0 === isLargest ? v.hi : v.lo);
  }
  return sum;
}

/** What a block without a variable is given for one. */
const NO_VARIABLE: IntVar = { id: -1, lo: 0, hi: 0 };

/** Builds a kernel. Every load and store is checked against its buffer while it is written: nothing that could leave a buffer can be built. */
export class KernelBuilder {
  readonly lanes: number;
  readonly threads: number;
  private readonly params: BufferParam[] = [];
  private body: Stmt[] = [];
  private depth = 0;
  /** Vectors and integers are numbered together, from 0, so that code generators look them up in arrays. */
  private nextId = 0;
  /** Terms measured last, and the interval of their sum: neighbouring addresses share them. */
  private measured: Affine["terms"] = NO_TERMS;
  private smallest = 0;
  private largest = 0;

  constructor(
    readonly name: string,
    readonly target: SimdTarget,
    threads = 1,
  ) {
    this.lanes = target.lanes;
    this.threads = threads;
  }

  buffer(name: string, bytes: number, access: BufferParam["access"]): number {
    return this.params.push({ name, bytes, access }) - 1;
  }

  private within(v: IntVar, build: (v: IntVar) => void): readonly Stmt[] {
    const outer = this.body;
    this.body = [];
    this.depth++;
    build(v);
    this.depth--;
    const inner = this.body;
    this.body = outer;
    return inner;
  }

  /** for v = from; v < to; v += step. */
  loop(from: Int, to: Int, step: number, build: (v: IntVar) => void): void {
    invariant(step > 0, `${this.name}: loop step ${step}`);
    const [lo, fromHi] = rangeOf(from);
    const [, hi] = rangeOf(to);
    if (hi <= lo) return;
    // The last value is from + k·step < to; with constant bounds it is known exactly.
    const last = lo === fromHi ? lo + Math.floor((hi - 1 - lo) / step) * step : hi - 1;
    const v: IntVar = { id: this.nextId++, lo, hi: last };
    this.body.push({ k: "for", v, from: affine(from), to: affine(to), step, body: this.within(v, build) });
  }

  /** Splits [0, extent) over the threads. */
  parallel(extent: number, build: (v: IntVar) => void): void {
    invariant(this.depth === 0, `${this.name}: parallel inside a loop`);
    if (extent <= 0) return;
    const v: IntVar = { id: this.nextId++, lo: 0, hi: extent - 1 };
    this.body.push({ k: "parallel", v, extent, body: this.within(v, build) });
  }

  /** Inside `build` nothing is assumed from the condition: addresses must be in bounds for all values of their variables. */
  when(a: Int, b: Int, build: () => void, otherwise: () => void = () => {}): void {
    const body = this.within(NO_VARIABLE, build);
    this.body.push({ k: "if", a: affine(a), b: affine(b), body, otherwise: this.within(NO_VARIABLE, otherwise) });
  }

  private int(op: IntOp, a: Int, b: Int, lo: number, hi: number, shift = 0): IntVar {
    const v: IntVar = { id: this.nextId++, lo, hi };
    this.body.push({ k: "int", v, op, a: affine(a), b: affine(b), shift });
    return v;
  }
  div(a: Int, by: number): IntVar {
    const [lo, hi] = rangeOf(a);
    return this.int("div", a, by, Math.floor(lo / by), Math.floor(hi / by));
  }
  mod(a: Int, by: number): IntVar {
    return this.int("mod", a, by, 0, by - 1);
  }
  /** (a ≫ shift) ∧ mask. */
  bits(a: Int, shift: number, mask: number): IntVar {
    return this.int("bits", a, mask, 0, mask, shift);
  }
  min(a: Int, b: Int): IntVar {
    const [al, ah] = rangeOf(a);
    const [bl, bh] = rangeOf(b);
    return this.int("min", a, b, Math.min(al, bl), Math.min(ah, bh));
  }
  max(a: Int, b: Int): IntVar {
    const [al, ah] = rangeOf(a);
    const [bl, bh] = rangeOf(b);
    return this.int("max", a, b, Math.max(al, bl), Math.max(ah, bh));
  }
  /** Names an affine value, so that it is computed once here. */
  set(a: Int): IntVar {
    const [lo, hi] = rangeOf(a);
    return this.int("set", a, 0, lo, hi);
  }
  /** An integer from memory, wrapped by `wrap` when negative, clamped into [lo, hi]. `into`: one that was loaded before and changes; addresses may name `bits` of such a one, not itself. */
  loadInt(buffer: number, at: Int, type: IntMemoryType, lo: number, hi: number, wrap = 0, into?: IntVar): IntVar {
    const v = into ?? { id: this.nextId++, lo, hi };
    this.body.push({ k: "loadint", v, from: this.address(buffer, at, MEMORY_BYTES[type], false), type, wrap });
    return v;
  }

  vec(): Vec {
    return { id: this.nextId++ };
  }
  f32(value: number): Vec {
    return this.constant("f32", value);
  }
  i32(value: number): Vec {
    return this.constant("i32", value);
  }
  private constant(type: "f32" | "i32", value: number): Vec {
    const dst = this.vec();
    this.body.push({ k: "const", dst, type, value });
    return dst;
  }
  iota(a: Int, step = 1): Vec {
    const dst = this.vec();
    this.body.push({ k: "iota", dst, a: affine(a), step });
    return dst;
  }

  private address(buffer: number, at: Int, bytes: number, isWrite: boolean): BufferAddress {
    const param = this.params[buffer];
    const place = affine(at);
    this.measure(place.terms);
    const isInside = param && place.base + this.smallest >= 0 && place.base + this.largest + bytes <= param.bytes;
    if (!isInside || (isWrite && param.access === "read")) this.refuse(buffer, place, bytes);
    return { buffer, at: place };
  }
  private measure(terms: Affine["terms"]): void {
    if (terms === this.measured) return;
    this.measured = terms;
    this.smallest = extreme(terms, false);
    this.largest = extreme(terms, true);
  }
  private refuse(buffer: number, at: Affine, bytes: number): never {
    const param = this.params[buffer];
    invariant(param, `${this.name}: no buffer ${buffer}`);
    const [lo, hi] = rangeOf(at);
    const isInside = lo >= 0 && hi + bytes <= param.bytes;
    invariant(isInside, `${this.name}: access to ${param.name} reaches bytes ${lo}..${hi + bytes} of ${param.bytes}`);
    throw new HeddleError("verify", `internal: ${this.name}: ${param.name} is read-only`);
  }

  /** `lanes` consecutive elements at byte offset `at`; further lanes are zero. */
  load(buffer: number, at: Int, lanes = this.lanes, type: MemoryType = "f32", dst = this.vec()): Vec {
    this.body.push({
      k: "load",
      dst,
      from: this.address(buffer, at, lanes * MEMORY_BYTES[type], false),
      type,
      mode: "vec",
      lanes,
      stride: 0,
    });
    return dst;
  }
  /** One element in every lane. */
  splat(buffer: number, at: Int, type: MemoryType = "f32", dst = this.vec()): Vec {
    this.body.push({ k: "load", dst, from: this.address(buffer, at, MEMORY_BYTES[type], false), type, mode: "splat", lanes: 1, stride: 0 });
    return dst;
  }
  /** Four consecutive elements in every four lanes. */
  quad(buffer: number, at: Int, type: "f32" | "i32" = "f32", dst = this.vec()): Vec {
    this.body.push({ k: "load", dst, from: this.address(buffer, at, 16, false), type, mode: "quad", lanes: 4, stride: 0 });
    return dst;
  }
  /** `lanes` elements `stride` bytes apart. */
  strided(buffer: number, at: Int, stride: number, lanes = this.lanes, type: "f32" | "i32" = "f32", dst = this.vec()): Vec {
    const back = Math.min(0, (lanes - 1) * stride);
    const span = Math.abs((lanes - 1) * stride) + 4;
    this.address(buffer, plus(at, back), span, false);
    this.body.push({ k: "load", dst, from: { buffer, at: affine(at) }, type, mode: "strided", lanes, stride });
    return dst;
  }
  /** Elements index[lane] (4 bytes each, clamped to [0, count)) starting at byte `at`. */
  gather(buffer: number, at: Int, index: Vec, count: number, lanes = this.lanes): Vec {
    const dst = this.vec();
    this.body.push({ k: "gather", dst, from: this.address(buffer, at, count * 4, false), index, count, lanes });
    return dst;
  }
  /** Consecutive elements from byte `at` in the lanes whose bits are set in the 16 at byte `bitsAt`, zeros in others. */
  expand(buffer: number, at: Int, bits: number, bitsAt: Int): Vec {
    const dst = this.vec();
    this.body.push({
      k: "expand",
      dst,
      from: this.address(buffer, at, this.lanes * 4, false),
      bits: this.address(bits, bitsAt, 2, false),
    });
    return dst;
  }
  store(src: Vec, buffer: number, at: Int, lanes = this.lanes, type: MemoryType = "f32"): void {
    this.body.push({ k: "store", src, to: this.address(buffer, at, lanes * MEMORY_BYTES[type], true), type, lanes });
  }
  prefetch(buffer: number, at: Int, level: CacheLevel = 1): void {
    this.body.push({ k: "prefetch", at: { buffer, at: affine(at) }, level });
  }

  /** dst ← op(a, b, c); a new register unless `dst` is given. */
  op(op: VecOp, a: Vec, b?: Vec, c?: Vec, dst = this.vec(), imm?: number): Vec {
    this.body.push({ k: "vec", op, dst, a, b, c, imm });
    return dst;
  }
  /** acc ← a·b + acc. */
  accumulate(acc: Vec, a: Vec, b: Vec): void {
    this.op("fma", a, b, acc, acc);
  }

  build(): Kernel {
    return { name: this.name, lanes: this.lanes, threads: this.threads, params: this.params, body: this.body };
  }
}
