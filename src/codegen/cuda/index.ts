// SIMT kernels to CUDA C, with no header: one translation unit for all kernels of a program, compiled at run time.
import type { DType } from "../../ir/dtype.ts";
import { DTYPES } from "../../ir/dtype.ts";
import { invariant } from "../../ir/error.ts";
import type { Fragment, Reg, Register, RegisterType, SharedArray, SimtKernel, SimtStmt, Source } from "../../ir/simt.ts";
import { OPERATORS, SimtPrinter } from "../simt_printer.ts";

export interface CudaOptions {
  /** Traps at any access outside of its buffer: for tests. */
  readonly isChecked?: boolean;
}

/** A source with an `extern "C"` function for each kernel, under the kernel's name. */
export const printCuda = (kernels: readonly SimtKernel[], options: CudaOptions = {}): string =>
  [PRELUDE, ...kernels.map((k) => new CudaPrinter(k, options).function())].join("\n");

/** Conversions of half floats by instructions, so that no header is needed; functions that C has under another meaning. */
const PRELUDE = `typedef unsigned short hd_half;
typedef unsigned short hd_bf16;
__device__ inline float hd_from_half(hd_half h) { float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h)); return f; }
__device__ inline hd_half hd_to_half(float f) { hd_half h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f)); return h; }
__device__ inline float hd_from_bf16(hd_bf16 h) { return __uint_as_float((unsigned)h << 16); }
__device__ inline hd_bf16 hd_to_bf16(float f) { hd_bf16 h; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f)); return h; }
__device__ inline float hd_min(float a, float b) { return a < b || a != a ? a : b; }
__device__ inline float hd_max(float a, float b) { return a > b || a != a ? a : b; }
__device__ inline int hd_to_int(float f) { return __float2int_rz(f); }
__device__ inline int hd_check(int at, int count) { if ((unsigned)at >= (unsigned)count) asm volatile("trap;"); return at; }
`;

const TYPES: Readonly<Record<RegisterType, string>> = { f32: "float", i32: "int", u32: "unsigned", bool: "bool" };
const AXES = ["x", "y", "z"] as const;
const HALVES: Readonly<Partial<Record<DType, string>>> = { f16: "half", bf16: "bf16" };

/** Element types in memory. */
function memoryType(dtype: DType): string {
  const types: Readonly<Record<DType, string>> = {
    f32: "float", f64: "double", f16: "hd_half", bf16: "hd_bf16", i8: "signed char", u8: "unsigned char", i16: "short", u16: "unsigned short",
    i32: "int", u32: "unsigned", i64: "long long", u64: "unsigned long long", bool: "unsigned char",
  }; // biome-ignore format: a table
  return types[dtype];
}

const FLOAT_FUNCTIONS: Readonly<Record<string, string>> = {
  fma: "fmaf", floor: "floorf", ceil: "ceilf", round: "rintf", trunc: "truncf", sqrt: "sqrtf", rsqrt: "rsqrtf",
  exp: "expf", log: "logf", pow: "powf", sin: "sinf", cos: "cosf", tan: "tanf", asin: "asinf", acos: "acosf", atan: "atanf",
  sinh: "sinhf", cosh: "coshf", tanh: "tanhf", asinh: "asinhf", acosh: "acoshf", atanh: "atanhf", erf: "erff",
  abs: "fabsf", min: "hd_min", max: "hd_max", isnan: "isnan", isinf: "isinf",
}; // biome-ignore format: a table
const INT_FUNCTIONS: Readonly<Record<string, string>> = { abs: "abs", min: "min", max: "max" };
const BIT_OPERATORS: Readonly<Record<string, string>> = { and: "&", or: "|", xor: "^", shl: "<<", shr: ">>" };

class CudaPrinter extends SimtPrinter {
  constructor(
    kernel: SimtKernel,
    private readonly options: CudaOptions,
  ) {
    super(kernel);
  }

  function(): string {
    const { name, params, shared, workgroup } = this.kernel;
    const threads = workgroup[0] * workgroup[1] * workgroup[2];
    const list = params.map((p, i) => `${p.access === "read" ? "const " : ""}${memoryType(p.dtype)}* b${i}`).join(", ");
    const arrays = shared.map(
      ({ type, elements }, i) => `  __shared__ __align__(16) ${type === "i32" ? "int" : memoryType(type)} s${i}[${elements}];`,
    );
    return [`extern "C" __global__ void __launch_bounds__(${threads}) ${name}(${list}) {`, ...arrays, this.body(), "}", ""].join("\n");
  }

  protected declare(v: Register, value: Reg | null, isMutable: boolean): string {
    const init = value ? ` = ${this.text(value)}` : "";
    return `${isMutable ? "" : "const "}${TYPES[v.type]} ${this.name(v)}${init};`;
  }
  protected literal(type: RegisterType, value: number): string {
    switch (type) {
      case "bool":
        return value ? "true" : "false";
      case "i32":
        return value === -(2 ** 31) ? "(-2147483647 - 1)" : value < 0 ? `(${value})` : `${value}`;
      case "u32":
        return `${value}u`;
      case "f32":
        return floatLiteral(value);
      default:
        return type satisfies never;
    }
  }
  protected place(of: "thread" | "group", axis: 0 | 1 | 2): string {
    return `(int)${of === "thread" ? "threadIdx" : "blockIdx"}.${AXES[axis]}`;
  }
  protected call({ fn, args: given }: Extract<Reg, { k: "call" }>, args: readonly string[]): string {
    const [a, b] = args;
    const from = given[0].type;
    const operator = OPERATORS[fn];
    if (operator) return `(${a} ${operator} ${b})`;
    if (fn === "neg") return `(-${a})`;
    if (fn === "not") return from === "bool" ? `(!${a})` : `(~${a})`;
    const bit = BIT_OPERATORS[fn];
    if (bit) return `(${a} ${bit} ${b})`;
    if (fn === "fma" && from !== "f32") return `(${a} * ${b} + ${args[2]})`;
    const name = (from === "f32" ? FLOAT_FUNCTIONS : INT_FUNCTIONS)[fn];
    invariant(name, `${this.kernel.name}: ${fn} of ${from} has no CUDA C`);
    return `${name}(${args.join(", ")})`;
  }
  protected cast(to: RegisterType, from: RegisterType, a: string): string {
    if (to === "bool") return `(${a} != 0)`;
    if (to === "i32" && from === "f32") return `hd_to_int(${a})`;
    return `(${TYPES[to]})(${a})`;
  }
  protected bits(to: RegisterType, from: RegisterType, a: string): string {
    if (to === "f32") return `__int_as_float((int)${a})`;
    return from === "f32" ? `(${TYPES[to]})__float_as_int(${a})` : `(${TYPES[to]})${a}`;
  }
  protected select(cond: string, a: string, b: string): string {
    return `(${cond} ? ${a} : ${b})`;
  }
  protected exchange(a: string, by: number): string {
    return `__shfl_xor_sync(0xffffffffu, ${a}, ${by})`;
  }

  private at(buffer: number, at: string): string {
    return this.options.isChecked ? `hd_check(${at}, ${this.kernel.params[buffer].elements})` : at;
  }
  private sharedAt(array: number, at: string): string {
    return this.options.isChecked ? `hd_check(${at}, ${this.kernel.shared[array].elements})` : at;
  }
  protected load(buffer: number, at: string): string {
    const { dtype } = this.kernel.params[buffer];
    return fromMemory(dtype, `b${buffer}[${this.at(buffer, at)}]`);
  }
  protected store(buffer: number, at: string, value: string): string {
    return `b${buffer}[${this.at(buffer, at)}] = ${toMemory(this.kernel.params[buffer].dtype, value)};`;
  }
  private sharedType(array: number): SharedArray["type"] {
    return this.kernel.shared[array].type;
  }
  protected loadShared(array: number, at: string): string {
    return fromMemory(this.sharedType(array), `s${array}[${this.sharedAt(array, at)}]`);
  }
  protected storeShared(array: number, at: string, value: string): string {
    return `s${array}[${this.sharedAt(array, at)}] = ${toMemory(this.sharedType(array), value)};`;
  }
  protected barrier(): string {
    return "__syncthreads();";
  }
  protected forHead(v: string, from: string, to: string, step: number): string {
    return `for (int ${v} = ${from}; ${v} < ${to}; ${v} += ${step})`;
  }

  private pointer({ k, number }: Source): { readonly name: string; readonly dtype: DType } {
    return k === "buffer"
      ? { name: `b${number}`, dtype: this.kernel.params[number].dtype }
      : { name: `s${number}`, dtype: this.sharedType(number) };
  }
  protected override vectorLoad(to: readonly Register[], from: Source, at: Reg): string[] {
    const { name, dtype } = this.pointer(from);
    if (dtype !== "f32" && dtype !== "i32") return super.vectorLoad(to, from, at);
    const type = `${dtype === "f32" ? "float" : "int"}${to.length}`;
    const whole = `w${to[0].id}`;
    return [
      `const ${type} ${whole} = *reinterpret_cast<const ${type}*>(${name} + ${this.text(at)});`,
      ...to.map((v, i) => `const ${TYPES[v.type]} ${this.name(v)} = ${whole}.${"xyzw"[i]};`),
    ];
  }
  protected override vectorStore(values: readonly Reg[], to: Source, at: Reg): string[] {
    const { name, dtype } = this.pointer(to);
    if (dtype !== "f32" && dtype !== "i32") return super.vectorStore(values, to, at);
    const type = `${dtype === "f32" ? "float" : "int"}${values.length}`;
    return [`*reinterpret_cast<${type}*>(${name} + ${this.text(at)}) = make_${type}(${values.map((v) => this.text(v)).join(", ")});`];
  }

  protected copy(s: Extract<SimtStmt, { k: "copy" }>): string[] {
    const { dtype, elements } = this.kernel.params[s.buffer];
    const count = 16 / DTYPES[dtype].bytes;
    const from = this.options.isChecked ? `hd_check(${this.text(s.from)}, ${elements - count + 1})` : this.text(s.from);
    return [
      `asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"((unsigned)__cvta_generic_to_shared(&s${s.array}[${this.text(s.to)}])), "l"(b${s.buffer} + ${from}));`,
    ];
  }
  protected commitCopies(): string[] {
    return [`asm volatile("cp.async.commit_group;");`];
  }
  protected copiesDone(pending: number): string[] {
    return [`asm volatile("cp.async.wait_group ${pending};");`];
  }

  /** Fragments by PTX's wmma instructions, m16n16k16. */
  protected fragment(s: Extract<SimtStmt, { k: "fragment" | "loadFragment" | "multiply" | "storeFragment" }>): string[] {
    switch (s.k) {
      case "fragment": {
        const { role } = s.fragment;
        const count = registersOf(s.fragment);
        return [
          role === "sum" ? `float ${this.fragmentName(s.fragment)}[8] = {};` : `unsigned ${this.fragmentName(s.fragment)}[${count}];`,
        ];
      }
      case "loadFragment": {
        const f = this.fragmentName(s.fragment);
        const count = registersOf(s.fragment);
        const outs = upTo(count).map((i) => `"=r"(${f}[${i}])`);
        const slots = upTo(count).map((i) => `%${i}`);
        return [
          `asm volatile("wmma.load.${s.fragment.role}.sync.aligned.${s.isTransposed ? "col" : "row"}.m16n16k16.shared.${s.fragment.dtype} {${slots.join(", ")}}, [%${count}], %${count + 1};" : ${outs.join(", ")} : "r"((unsigned)__cvta_generic_to_shared(&s${s.array}[${this.text(s.at)}])), "r"(${s.stride}));`,
        ];
      }
      case "multiply": {
        const [sum, a, b] = [s.sum, s.a, s.b].map((f) => this.fragmentName(f));
        const count = registersOf(s.a);
        const slots = (from: number, n: number): string =>
          `{${upTo(n)
            .map((i) => `%${from + i}`)
            .join(", ")}}`;
        const types = s.a.dtype === "f16" ? "f32.f32" : "f32.bf16.bf16.f32";
        const sums = upTo(8).map((i) => `"+f"(${sum}[${i}])`);
        const factors = [a, b].flatMap((f) => upTo(count).map((i) => `"r"(${f}[${i}])`));
        return [
          `asm volatile("wmma.mma.sync.aligned.row.row.m16n16k16.${types} ${slots(0, 8)}, ${slots(8, count)}, ${slots(8 + count, count)}, ${slots(0, 8)};" : ${sums.join(", ")} : ${factors.join(", ")});`,
        ];
      }
      case "storeFragment": {
        const f = this.fragmentName(s.fragment);
        return [
          `asm volatile("wmma.store.d.sync.aligned.row.m16n16k16.shared.f32 [%0], {${upTo(8)
            .map((i) => `%${i + 1}`)
            .join(", ")}}, %9;" :: "r"((unsigned)__cvta_generic_to_shared(&s${s.array}[${this.text(s.at)}])), ${upTo(8)
            .map((i) => `"f"(${f}[${i}])`)
            .join(", ")}, "r"(${s.stride}) : "memory");`,
        ];
      }
      default:
        return s satisfies never;
    }
  }
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
/** 32-bit registers of a thread that hold a fragment. */
const registersOf = ({ role, dtype }: Fragment): number => (role === "sum" || dtype === "f16" ? 8 : 4);

function fromMemory(dtype: DType, element: string): string {
  const half = HALVES[dtype];
  if (half) return `hd_from_${half}(${element})`;
  if (dtype === "bool") return `(${element} != 0)`;
  return dtype === "f32" || dtype === "i32" || dtype === "u32" ? element : `(int)${element}`;
}
function toMemory(dtype: DType, value: string): string {
  const half = HALVES[dtype];
  if (half) return `hd_to_${half}(${value})`;
  return dtype === "f32" || dtype === "i32" || dtype === "u32" ? value : `(${memoryType(dtype)})(${value})`;
}

function floatLiteral(value: number): string {
  if (Number.isNaN(value)) return "__int_as_float(0x7fc00000)";
  if (!Number.isFinite(value) || Math.abs(value) > 3.4028234663852886e38) return `__int_as_float(0x${value < 0 ? "ff" : "7f"}800000)`;
  const rounded = Math.fround(value);
  if (Object.is(rounded, -0)) return "(-0.0f)";
  const text = String(rounded);
  const float = /[.e]/.test(text) ? `${text}f` : `${text}.0f`;
  return rounded < 0 ? `(${float})` : float;
}
