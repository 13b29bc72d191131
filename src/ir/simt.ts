// The SIMT kernel language: what each thread of a workgroup does, with shared memory, barriers, subgroups and matrix fragments; printed as CUDA C and as WGSL.
import type { DType } from "./dtype.ts";
import { invariant } from "./error.ts";
import { asMoved } from "./float8.ts";

/** What a register holds. Narrow integers are sign- or zero-extended to i32; of i64 only values that fit 32 bits; half floats are f32 outside of fragments. */
export type RegisterType = "f32" | "i32" | "u32" | "bool";

/** Functions of registers; and, or, xor, not work on bits of integers and on booleans. div and rem of integers truncate; shr keeps the sign of i32; round: half to even. */
export type RegisterFn =
  | "add" | "sub" | "mul" | "div" | "rem" | "min" | "max" | "neg" | "abs" | "fma"
  | "floor" | "ceil" | "round" | "trunc" | "sqrt" | "exp" | "exp2" | "log" | "pow"
  | "sin" | "cos" | "tan" | "asin" | "acos" | "atan" | "sinh" | "cosh" | "tanh" | "asinh" | "acosh" | "atanh" | "erf"
  | "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "isnan" | "isinf"
  | "and" | "or" | "xor" | "not" | "shl" | "shr"; // biome-ignore format: a table

export interface Register {
  readonly id: number;
  readonly type: RegisterType;
}

/** A value that a thread computes. */
export type Reg =
  | { readonly k: "num"; readonly type: RegisterType; readonly value: number }
  | { readonly k: "var"; readonly type: RegisterType; readonly v: Register }
  /** Place of the thread in its workgroup, or of the workgroup in the grid. */
  | { readonly k: "place"; readonly type: "i32"; readonly of: "thread" | "group"; readonly axis: 0 | 1 | 2 }
  | { readonly k: "call"; readonly type: RegisterType; readonly fn: RegisterFn; readonly args: readonly Reg[] }
  /** Numeric conversion: floats truncate, and saturate, to integers; anything but 0 is true. */
  | { readonly k: "cast"; readonly type: RegisterType; readonly a: Reg }
  /** The same 32 bits as another type. */
  | { readonly k: "bits"; readonly type: RegisterType; readonly a: Reg }
  | { readonly k: "select"; readonly type: RegisterType; readonly cond: Reg; readonly a: Reg; readonly b: Reg }
  | { readonly k: "load"; readonly type: RegisterType; readonly buffer: number; readonly at: Reg }
  | { readonly k: "shared"; readonly type: RegisterType; readonly array: number; readonly at: Reg }
  /** What the thread of the subgroup computed whose number differs by xor `by`. */
  | { readonly k: "exchange"; readonly type: RegisterType; readonly a: Reg; readonly by: number };

/** A matrix held by a subgroup together: a (16,16) or b (16,16) of 16-bit floats or of f32, or sums (16,16) of f32. */
export interface Fragment {
  readonly id: number;
  readonly role: "a" | "b" | "sum";
  readonly dtype: "f16" | "bf16" | "f32";
}
/** Rows, columns and depth of what one fragment instruction multiplies. */
export const FRAGMENT = 16;
/** Elements of a sum that each thread of a subgroup of 32 holds, where threads see them. */
export const FRAGMENT_ELEMENTS = 8;

export type SimtStmt =
  /** Declares a register; without a value: to be set. */
  | { readonly k: "let"; readonly v: Register; readonly value: Reg | null; readonly isMutable: boolean }
  | { readonly k: "set"; readonly v: Register; readonly value: Reg }
  | { readonly k: "store"; readonly buffer: number; readonly at: Reg; readonly value: Reg }
  | { readonly k: "storeShared"; readonly array: number; readonly at: Reg; readonly value: Reg }
  /** Neighbouring elements, starting at a multiple of their number, to or from registers at once. */
  | { readonly k: "loadVector"; readonly to: readonly Register[]; readonly from: Source; readonly at: Reg }
  | { readonly k: "storeVector"; readonly values: readonly Reg[]; readonly to: Source; readonly at: Reg }
  /**
   * 4, 8 or 16 bytes of elements (or a single one, where the target holds copies) from a buffer to shared memory of the same type, both at multiples of so many; zeros where `isInside` is not, with
   * `from` still in the buffer. Done after `copiesDone` and a barrier; where the target holds copies, not begun before `copiesDone`.
   */
  | { readonly k: "copy"; readonly array: number; readonly to: Reg; readonly buffer: number; readonly from: Reg; readonly count: number; readonly isInside: Reg | null }
  /** Waits until at most `pending` groups of copies are under way; `commit` closes a group. */
  | { readonly k: "commitCopies" }
  | { readonly k: "copiesDone"; readonly pending: number }
  | { readonly k: "if"; readonly cond: Reg; readonly then: readonly SimtStmt[]; readonly otherwise: readonly SimtStmt[] }
  | { readonly k: "for"; readonly v: Register; readonly from: Reg; readonly to: Reg; readonly step: number; readonly isUnrolled: boolean; readonly body: readonly SimtStmt[] }
  /** All threads of the workgroup meet; shared memory is as all have written it. */
  | { readonly k: "barrier" }
  | { readonly k: "fragment"; readonly fragment: Fragment }
  /** A fragment from shared memory: row r, column c is element at + r·stride + c, or at + c·stride + r where it is transposed. Both are multiples of 16 bytes. */
  | { readonly k: "loadFragment"; readonly fragment: Fragment; readonly array: number; readonly at: Reg; readonly stride: number; readonly isTransposed: boolean }
  /** sum ← a·b + sum. */
  | { readonly k: "multiply"; readonly sum: Fragment; readonly a: Fragment; readonly b: Fragment }
  | { readonly k: "storeFragment"; readonly fragment: Fragment; readonly array: number; readonly at: Reg; readonly stride: number }
  /** The thread's elements of a sum, at the places that `fragmentPlace` tells; only where the target opens fragments. */
  | { readonly k: "readFragment"; readonly fragment: Fragment; readonly to: readonly Register[] }
  /** Sets the thread's elements of a sum, or of an a, whose elements are at the same places. */
  | { readonly k: "writeFragment"; readonly fragment: Fragment; readonly values: readonly Reg[] }; // biome-ignore format: a table

/** A buffer or a shared array by number. */
export interface Source {
  readonly k: "buffer" | "shared";
  readonly number: number;
}

export interface SimtParam {
  readonly name: string;
  readonly dtype: DType;
  readonly elements: number;
  readonly bytes: number;
  readonly access: "read" | "write" | "readwrite";
}

export interface SharedArray {
  readonly type: "f32" | "i32" | "f16" | "bf16";
  readonly elements: number;
  /** An earlier array whose memory it may take: a barrier lies between the last use of the one and the first of the other. */
  readonly over?: number;
}

export interface SimtKernel {
  readonly name: string;
  readonly params: readonly SimtParam[];
  readonly shared: readonly SharedArray[];
  /** Threads of a workgroup, and workgroups, along x, y, z. */
  readonly workgroup: readonly [number, number, number];
  readonly grid: readonly [number, number, number];
  /** Workgroups that a multiprocessor is to hold at once: compilers limit registers for them. */
  readonly residents?: number;
  /** Launches in one: parameters are as many sets of those that the body names by the numbers of the first, and workgroups of number z have set z. */
  readonly sets?: number;
  readonly body: readonly SimtStmt[];
}

/** What a kernel's author must know of a SIMT target. */
export interface SimtTarget {
  readonly name: "cuda" | "wgsl";
  /** Threads that run in step, for subgroup functions; 0: there are none that kernels may rely on. */
  readonly subgroup: number;
  readonly maxThreads: number;
  /** Bytes of shared memory a workgroup may take. */
  readonly sharedBytes: number;
  /** Multiprocessors, where the driver tells: how many workgroups there should be at least. */
  readonly units?: number;
  /** Most workgroups along one axis of the grid. */
  readonly maxGroups: number;
  /** What is copied waits in registers until it is waited for: shared memory keeps what it held until then. */
  readonly holdsCopies?: boolean;
  /** Element types of fragments a and b that it multiplies. */
  readonly fragments: readonly ("f16" | "bf16" | "f32")[];
  /** Whether threads see their elements of fragments. */
  readonly opensFragments?: boolean;
  /** Whether a library multiplies matrices there. */
  readonly hasGemm?: boolean;
  /** Whether that library multiplies float8 numbers. */
  readonly hasFloat8?: boolean;
  /** Whether a library convolves there. */
  readonly hasConvolutions?: boolean;
  /** Most buffers of a kernel. */
  readonly maxBuffers: number;
  /** Whether kernels may have several sets of buffers. */
  readonly hasSets?: boolean;
  /** Bytes of an element in the device's memory; none: the device cannot keep it. */
  readonly storedBytes: Readonly<Partial<Record<DType, number>>>;
}

/** What a register holds of an element of this type; undefined: none does. */
export function registerType(dtype: DType): RegisterType | undefined {
  const moved = asMoved(dtype);
  switch (moved) {
    case "f32":
    case "f16":
    case "bf16":
      return "f32";
    case "i8":
    case "u8":
    case "i16":
    case "u16":
    case "i32":
    case "i64":
      return "i32";
    case "u32":
      return "u32";
    case "bool":
      return "bool";
    case "f64":
    case "u64":
      return undefined;
    default:
      return moved satisfies never;
  }
}

const COMPARISONS: ReadonlySet<RegisterFn> = new Set(["eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf"]);

export const num = (type: RegisterType, value: number): Reg => ({ k: "num", type, value });
export const int = (value: number): Reg => num("i32", value);
export const float = (value: number): Reg => num("f32", value);
const reg = (a: Reg | number, like: RegisterType): Reg => (typeof a === "number" ? num(like, a) : a);

const FOLDED: Readonly<Partial<Record<RegisterFn, (a: number, b: number) => number>>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
};

/** fn of values of one type; numbers are constants of the first value's type. */
export function fn(name: RegisterFn, first: Reg, ...rest: (Reg | number)[]): Reg {
  const args = [first, ...rest.map((a) => reg(a, first.type))];
  const [a, b] = args;
  if (first.type === "i32" && b) {
    const fold = FOLDED[name];
    if (fold && a.k === "num" && b.k === "num") return int(fold(a.value, b.value));
    if (b.k === "num" && b.value === 0 && (name === "add" || name === "sub")) return a;
    if (a.k === "num" && a.value === 0 && name === "add") return b;
    if (b.k === "num" && b.value === 1 && (name === "mul" || name === "div")) return a;
    if (b.k === "num" && b.value === 1 && name === "rem") return int(0);
    if ([a, b].some((x) => x.k === "num" && x.value === 0) && name === "mul") return int(0);
  }
  return { k: "call", type: COMPARISONS.has(name) ? "bool" : first.type, fn: name, args };
}
export const exchange = (a: Reg, by: number): Reg => ({ k: "exchange", type: a.type, a, by });
export const cast = (type: RegisterType, a: Reg): Reg => (a.type === type ? a : { k: "cast", type, a });
export const bits = (type: RegisterType, a: Reg): Reg => (a.type === type ? a : { k: "bits", type, a });
export const select = (cond: Reg, a: Reg, b: Reg): Reg => ({ k: "select", type: a.type, cond, a, b });
export const thread = (axis: 0 | 1 | 2 = 0): Reg => ({ k: "place", type: "i32", of: "thread", axis });
export const group = (axis: 0 | 1 | 2 = 0): Reg => ({ k: "place", type: "i32", of: "group", axis });
/** Σ of integers. */
export const sum = (first: Reg | number, ...rest: (Reg | number)[]): Reg => rest.reduce<Reg>((s, a) => fn("add", s, a), reg(first, "i32"));
export const product = (a: Reg, b: Reg | number): Reg => fn("mul", a, b);

/** Row and column of a thread's element i of a sum. */
export function fragmentPlace(i: number): { readonly row: Reg; readonly column: Reg } {
  const lane = fn("rem", thread(), 32);
  return {
    row: sum(fn("div", lane, 4), i & 2 ? 8 : 0),
    column: sum(product(fn("rem", lane, 4), 2), (i & 1) + (i & 4 ? 8 : 0)),
  };
}

/** Builds a kernel, statement by statement. */
export class SimtBuilder {
  private readonly params: SimtParam[] = [];
  private readonly shared: SharedArray[] = [];
  private body: SimtStmt[] = [];
  private nextId = 0;

  constructor(
    readonly name: string,
    readonly target: SimtTarget,
  ) {}

  /** Number of a new parameter. */
  buffer(name: string, dtype: DType, elements: number, access: SimtParam["access"]): number {
    const bytes = this.target.storedBytes[dtype];
    invariant(bytes, `${this.name}: no ${dtype} on ${this.target.name}`);
    return this.params.push({ name, dtype, elements, bytes: elements * bytes, access }) - 1;
  }
  typeOf(buffer: number): DType {
    return this.params[buffer].dtype;
  }
  elementsOf(buffer: number): number {
    return this.params[buffer].elements;
  }
  /** Number of a new array that the threads of a workgroup share. */
  array(type: SharedArray["type"], elements: number, over?: number): number {
    return this.shared.push({ type, elements, over }) - 1;
  }

  /** Names a value, so that it is computed once here. */
  let(value: Reg): Reg {
    if (value.k === "num" || value.k === "var") return value;
    const v: Register = { id: this.nextId++, type: value.type };
    this.body.push({ k: "let", v, value, isMutable: false });
    return { k: "var", type: v.type, v };
  }
  /** A register that may be set again. */
  variable(type: RegisterType, value: Reg | null = null): Extract<Reg, { k: "var" }> {
    const v: Register = { id: this.nextId++, type };
    this.body.push({ k: "let", v, value, isMutable: true });
    return { k: "var", type, v };
  }
  set(to: Extract<Reg, { k: "var" }>, value: Reg): void {
    this.body.push({ k: "set", v: to.v, value });
  }

  load(buffer: number, at: Reg): Reg {
    const type = registerType(this.params[buffer].dtype);
    invariant(type, `${this.name}: no register holds ${this.params[buffer].dtype}`);
    return { k: "load", type, buffer, at };
  }
  store(buffer: number, at: Reg, value: Reg): void {
    invariant(this.params[buffer].access !== "read", `${this.name}: ${this.params[buffer].name} is read-only`);
    this.body.push({ k: "store", buffer, at, value });
  }
  loadShared(array: number, at: Reg): Reg {
    return { k: "shared", type: this.shared[array].type === "i32" ? "i32" : "f32", array, at };
  }
  storeShared(array: number, at: Reg, value: Reg): void {
    this.body.push({ k: "storeShared", array, at, value });
  }
  /** `count` neighbouring elements; `at` is a multiple of `count`. */
  loadVector(from: Source, at: Reg, count: 2 | 4 | 8): readonly Reg[] {
    const type =
      from.k === "buffer" ? registerType(this.params[from.number].dtype)! : this.shared[from.number].type === "i32" ? "i32" : "f32"; // checked by load's users
    const to = Array.from({ length: count }, (): Register => ({ id: this.nextId++, type }));
    this.body.push({ k: "loadVector", to, from, at });
    return to.map((v) => ({ k: "var", type, v }));
  }
  storeVector(to: Source, at: Reg, values: readonly Reg[]): void {
    this.body.push({ k: "storeVector", values, to, at });
  }
  copy(array: number, to: Reg, buffer: number, from: Reg, count: number, isInside: Reg | null = null): void {
    this.body.push({ k: "copy", array, to, buffer, from, count, isInside });
  }
  commitCopies(): void {
    this.body.push({ k: "commitCopies" });
  }
  copiesDone(pending = 0): void {
    this.body.push({ k: "copiesDone", pending });
  }

  private within(build: () => void): readonly SimtStmt[] {
    const outer = this.body;
    this.body = [];
    build();
    const inner = this.body;
    this.body = outer;
    return inner;
  }
  when(cond: Reg, build: () => void, otherwise: () => void = () => {}): void {
    const then = this.within(build);
    this.body.push({ k: "if", cond, then, otherwise: this.within(otherwise) });
  }
  /** for v = from; v < to; v += step. */
  loop(from: Reg | number, to: Reg | number, step: number, build: (v: Reg) => void, isUnrolled = false): void {
    const v: Register = { id: this.nextId++, type: "i32" };
    const body = this.within(() => build({ k: "var", type: "i32", v }));
    this.body.push({ k: "for", v, from: reg(from, "i32"), to: reg(to, "i32"), step, isUnrolled, body });
  }
  barrier(): void {
    this.body.push({ k: "barrier" });
  }

  fragment(role: Fragment["role"], dtype: Fragment["dtype"]): Fragment {
    const fragment: Fragment = { id: this.nextId++, role, dtype };
    this.body.push({ k: "fragment", fragment });
    return fragment;
  }
  loadFragment(fragment: Fragment, array: number, at: Reg, stride: number, isTransposed = false): void {
    this.body.push({ k: "loadFragment", fragment, array, at, stride, isTransposed });
  }
  multiply(sum: Fragment, a: Fragment, b: Fragment): void {
    this.body.push({ k: "multiply", sum, a, b });
  }
  storeFragment(fragment: Fragment, array: number, at: Reg, stride: number): void {
    this.body.push({ k: "storeFragment", fragment, array, at, stride });
  }
  readFragment(fragment: Fragment): readonly Reg[] {
    const to = Array.from({ length: FRAGMENT_ELEMENTS }, (): Register => ({ id: this.nextId++, type: "f32" }));
    this.body.push({ k: "readFragment", fragment, to });
    return to.map((v) => ({ k: "var", type: "f32", v }));
  }
  writeFragment(fragment: Fragment, values: readonly Reg[]): void {
    this.body.push({ k: "writeFragment", fragment, values });
  }

  build(workgroup: SimtKernel["workgroup"], grid: SimtKernel["grid"], residents?: number): SimtKernel {
    const { name, params, shared, body, target } = this;
    const threads = workgroup[0] * workgroup[1] * workgroup[2];
    invariant(threads <= target.maxThreads, `${name}: ${threads} threads in a workgroup of ${target.maxThreads}`);
    invariant(Math.max(...grid) <= target.maxGroups, `${name}: a grid of ${grid}`);
    return { name, params, shared, workgroup, grid, residents, body };
  }
}
