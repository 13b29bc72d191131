// A kernel with lowered addresses to one WebAssembly function: (args: address of u32 addresses, tid) → nothing; vectors, integers and pointers are its locals.
import { invariant } from "../../ir/error.ts";
import { type Affine, type IntVar, type Kernel, type PointerAddress, rangeOf, type Stmt, type Vec } from "../../ir/kernel.ts";
import { Biases } from "./bias.ts";
import {
  compareAffine,
  emitInt,
  emitLoadInt,
  evaluate,
  type IntegerContext,
  type IntLocal,
  type IntType,
  typeFor,
} from "./emit_integer.ts";
import { emitGather, emitLoad, emitStore, type MemoryContext } from "./emit_memory.ts";
import { bitsOf, constantBytes, emitVec, splatConstant } from "./emit_vector.ts";
import { FunctionWriter } from "./writer.ts";

/** No buffer may begin below this address: then a pointer that an offset below it brings into a buffer cannot be negative itself. */
export const LOWEST_ADDRESS = 1 << 20;

const [ARGS, TID] = [0, 1];

/** Writes the kernel's function; with a listing when `isListing`. */
export function emitKernel(kernel: Kernel<PointerAddress>, relaxed: boolean, isListing = false): FunctionWriter {
  invariant(kernel.lanes === 4, `${kernel.name}: kernel for ${kernel.lanes} lanes, WebAssembly has 4`);
  const emitter = new Emitter(kernel, relaxed, isListing);
  emitter.block(kernel.body);
  return emitter.f;
}

class Emitter implements IntegerContext, MemoryContext {
  readonly f: FunctionWriter;
  private readonly vecs = new Map<number, number>();
  private readonly ints = new Map<number, IntLocal>();
  private readonly pointers = new Map<number, number>();
  private readonly vecTemps: number[] = [];
  private readonly intTemps: Record<IntType, number[]> = { i32: [], i64: [] };
  private readonly biases: Biases;

  constructor(
    private readonly kernel: Kernel<PointerAddress>,
    readonly relaxed: boolean,
    isListing: boolean,
  ) {
    this.f = new FunctionWriter(["i32", "i32"], isListing);
    this.biases = new Biases(kernel.body);
    this.f.comment(`${kernel.name}: 0 args (${kernel.params.map((p) => p.name).join(", ")}), 1 thread`);
  }

  // ---- operands

  get kernelName(): string {
    return this.kernel.name;
  }
  vec(v: Vec): number {
    return this.known(this.vecs, v.id, () => this.f.local("v128"));
  }
  vecTemp(i: number): number {
    this.vecTemps[i] ??= this.f.local("v128");
    return this.vecTemps[i];
  }
  intTemp(type: IntType, i: number): number {
    this.intTemps[type][i] ??= this.f.local(type);
    return this.intTemps[type][i];
  }
  int(v: IntVar): IntLocal {
    const x = this.ints.get(v.id);
    invariant(x, `${this.kernel.name}: integer ${v.id} is read before it is set`);
    return x;
  }
  define(v: IntVar, type: IntType): IntLocal {
    return this.known(this.ints, v.id, () => ({ local: this.f.local(type), type }));
  }
  private pointer(id: number): number {
    return this.known(this.pointers, id, () => this.f.local("i32"));
  }
  private known<T>(map: Map<number, T>, id: number, create: () => T): T {
    const old = map.get(id);
    if (old !== undefined) return old;
    const made = create();
    map.set(id, made);
    return made;
  }
  address(a: PointerAddress, more = 0): number {
    const offset = a.disp + more - this.biases.of(a.pointer);
    invariant(offset >= 0, `${this.kernel.name}: offset ${offset}`);
    this.f.get(this.pointer(a.pointer.id));
    if (offset < LOWEST_ADDRESS) return offset;
    this.f.i32(offset);
    this.f.op("i32.add");
    return 0;
  }

  // ---- statements

  block(stmts: readonly Stmt<PointerAddress>[]): void {
    for (const s of stmts) this.statement(s);
  }

  private statement(s: Stmt<PointerAddress>): void {
    const { f } = this;
    switch (s.k) {
      case "for":
        this.loop(s.v, s.from, s.to, s.step, s.body);
        break;
      case "parallel":
        this.parallel(s);
        break;
      case "if":
        compareAffine(this, s.a, s.b);
        f.op("if");
        this.block(s.body);
        if (s.otherwise.length) {
          f.op("else");
          this.block(s.otherwise);
        }
        f.op("end");
        break;
      case "int":
        emitInt(this, s);
        break;
      case "loadint": {
        const offset = this.address(s.from);
        emitLoadInt(this, s.v, s.type, s.wrap, offset);
        break;
      }
      case "const":
        splatConstant(f, bitsOf(s.type, s.value));
        f.set(this.vec(s.dst));
        break;
      case "iota":
        this.iota(s);
        break;
      case "load":
        emitLoad(this, s);
        break;
      case "gather":
        emitGather(this, s);
        break;
      case "expand":
        invariant(false, `${this.kernel.name}: expand has no code for WebAssembly`);
        break;
      case "store":
        emitStore(this, s);
        break;
      case "vec":
        emitVec(this, s);
        break;
      case "prefetch": // WebAssembly has none
        break;
      case "pointer":
        this.pointerStatement(s);
        break;
      default:
        s satisfies never;
    }
  }

  private iota(s: Extract<Stmt, { k: "iota" }>): void {
    const { f } = this;
    const base = s.a.terms.length ? 0 : s.a.base;
    const words = [0, 1, 2, 3].map((i) => (base + i * s.step) | 0);
    if (s.a.terms.length) {
      evaluate(this, s.a);
      f.op("i32x4.splat");
    }
    if (!s.a.terms.length || s.step !== 0) f.op("v128.const", ...constantBytes(words));
    if (s.a.terms.length && s.step !== 0) f.op("i32x4.add");
    f.set(this.vec(s.dst));
  }

  /** Pointers wrap at 2^32, as addresses do; see Biases for what is added. */
  private pointerStatement(s: Extract<Stmt<PointerAddress>, { k: "pointer" }>): void {
    const { f } = this;
    let bias = this.biases.of(s.pointer);
    if ("buffer" in s.from) {
      f.get(ARGS);
      f.op("i32.load", 4 * s.from.buffer);
    } else {
      f.get(this.pointer(s.from.pointer.id));
      bias -= this.biases.of(s.from.pointer);
    }
    const add: Affine = { base: s.add.base + bias, terms: s.add.terms };
    if (add.base !== 0 || add.terms.length) {
      evaluate(this, add);
      f.op("i32.add");
    }
    f.set(this.pointer(s.pointer.id));
  }

  // ---- loops

  /** The condition is tested at the end, and before the first round unless there surely is one. */
  private loop(v: IntVar, from: Affine, to: Affine, step: number, body: readonly Stmt<PointerAddress>[]): void {
    const { f } = this;
    const type = typeFor(rangeOf(from), rangeOf(to), [v.lo, v.hi + step]);
    const counter = this.define(v, type);
    let bound: number | undefined;
    evaluate(this, from, type);
    f.set(counter.local);
    if (to.terms.length) {
      bound = f.local(type);
      evaluate(this, to, type);
      f.set(bound);
    }
    const isSure = rangeOf(from)[1] < rangeOf(to)[0];
    this.rounds(counter, () => (bound === undefined ? f.op(`${type}.const`, to.base) : f.get(bound)), step, isSure, body);
  }

  private rounds(counter: IntLocal, pushBound: () => void, step: number, isSure: boolean, body: readonly Stmt<PointerAddress>[]): void {
    const { f } = this;
    const { local, type } = counter;
    if (!isSure) {
      f.get(local);
      pushBound();
      f.op(`${type}.lt_s`);
      f.op("if");
    }
    f.op("loop");
    this.block(body);
    f.get(local);
    f.op(`${type}.const`, step);
    f.op(`${type}.add`);
    f.op("local.tee", local);
    pushBound();
    f.op(`${type}.lt_s`);
    f.op("br_if", 0);
    f.op("end");
    if (!isSure) f.op("end");
  }

  /** This thread's part of [0, extent). */
  private parallel(s: Extract<Stmt<PointerAddress>, { k: "parallel" }>): void {
    const { f } = this;
    const { threads } = this.kernel;
    if (threads === 1) {
      this.loop(s.v, { base: 0, terms: [] }, { base: s.extent, terms: [] }, 1, s.body);
      return;
    }
    const chunk = Math.ceil(s.extent / threads);
    invariant(chunk * threads <= 0x7fffffff, `${this.kernel.name}: ${s.extent} iterations to share`);
    f.comment(`this thread's part of ${s.extent}`);
    const counter = this.define(s.v, "i32");
    const bound = f.local("i32");
    f.get(TID);
    f.i32(chunk);
    f.op("i32.mul");
    f.op("local.tee", counter.local);
    f.i32(chunk);
    f.op("i32.add");
    f.op("local.tee", bound);
    f.i32(s.extent);
    f.get(bound);
    f.i32(s.extent);
    f.op("i32.lt_s");
    f.op("select");
    f.set(bound);
    this.rounds(counter, () => f.get(bound), 1, false, s.body);
  }
}
