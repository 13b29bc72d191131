// SIMT kernels to CUDA C, with no header: one translation unit for all kernels of a program, compiled at run time.
import { DTYPES, type DType, type PlainDType } from "../../ir/dtype.ts";
import { invariant } from "../../ir/error.ts";
import { asMoved } from "../../ir/float8.ts";
import type { Reg, Register, RegisterType, SharedArray, SimtKernel, SimtStmt, Source } from "../../ir/simt.ts";
import { type FragmentStmt, OPERATORS, SimtPrinter } from "../simt_printer.ts";
import { loadSplit, multiplySplit, SPLIT_PRELUDE, SPLIT_REGISTERS } from "./f32_fragments.ts";

export interface CudaOptions {
  /** Traps at any access outside of its buffer: for tests. */
  readonly isChecked?: boolean;
  /** Kernels may start while the one before ends, and wait for it before they touch memory: from sm_90 on. */
  readonly isOverlapped?: boolean;
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
__device__ inline unsigned hd_pair_half(float a, float b) { unsigned h; asm("cvt.rn.f16x2.f32 %0, %2, %1;" : "=r"(h) : "f"(a), "f"(b)); return h; }
__device__ inline unsigned hd_pair_bf16(float a, float b) { unsigned h; asm("cvt.rn.bf16x2.f32 %0, %2, %1;" : "=r"(h) : "f"(a), "f"(b)); return h; }
__device__ inline float hd_exp2(float a) { float f; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(f) : "f"(a)); return f; }
__device__ inline float hd_min(float a, float b) { return a < b || a != a ? a : b; }
__device__ inline float hd_max(float a, float b) { return a > b || a != a ? a : b; }
__device__ inline int hd_to_int(float f) { return __float2int_rz(f); }
__device__ inline int hd_check(int at, int count) { if ((unsigned)at >= (unsigned)count) asm volatile("trap;"); return at; }
${SPLIT_PRELUDE}`;

/** More workgroups than a GPU runs at a time begin after others have ended anyway, and each would wait for a while. */
const MOST_EARLY = 1024;
/** Whether a kernel, where the device lets it, starts before the one before it has ended. */
export const startsEarly = ({ grid: [x, y, z] }: SimtKernel): boolean => x * y * z <= MOST_EARLY;

/** What was computed before is there when the wait is over. */
const OVERLAP = [`  asm volatile("griddepcontrol.wait;" ::: "memory");`];

/** What a kernel declares by itself. */
const STATIC_BYTES = 48 << 10;

/** Where the shared arrays of a kernel lie, and whether their memory is given when it is launched: there is more of it so, and arrays may share places. */
export function sharedPlaces({ shared }: SimtKernel): {
  readonly offsets: readonly number[];
  readonly bytes: number;
  readonly isDynamic: boolean;
} {
  const offsets: number[] = [];
  let bytes = 0;
  for (const { type, elements, over } of shared) {
    const from = over === undefined ? Math.ceil(bytes / 128) * 128 : offsets[over];
    offsets.push(from);
    bytes = Math.max(bytes, from + elements * DTYPES[type].bytes);
  }
  return { offsets, bytes, isDynamic: bytes > STATIC_BYTES || shared.some((s) => s.over !== undefined) };
}

const TYPES: Readonly<Record<RegisterType, string>> = { f32: "float", i32: "int", u32: "unsigned", bool: "bool" };
const AXES = ["x", "y", "z"] as const;
/** What vectors are of, besides 16-bit floats. */
const VECTOR_ELEMENTS: Readonly<Partial<Record<PlainDType, string>>> = { f32: "float", i32: "int", i8: "char", u8: "uchar" };
const HALVES: Readonly<Partial<Record<DType, string>>> = { f16: "half", bf16: "bf16" };

/** Element types in memory. */
function memoryType(dtype: DType): string {
  const types: Readonly<Record<PlainDType, string>> = {
    f32: "float", f64: "double", f16: "hd_half", bf16: "hd_bf16", i8: "signed char", u8: "unsigned char", i16: "short", u16: "unsigned short",
    i32: "int", u32: "unsigned", i64: "long long", u64: "unsigned long long", bool: "unsigned char",
  }; // biome-ignore format: a table
  return types[asMoved(dtype)];
}

const FLOAT_FUNCTIONS: Readonly<Record<string, string>> = {
  fma: "fmaf", floor: "floorf", ceil: "ceilf", round: "rintf", trunc: "truncf", sqrt: "sqrtf",
  exp: "expf", exp2: "hd_exp2", log: "logf", pow: "powf", sin: "sinf", cos: "cosf", tan: "tanf", asin: "asinf", acos: "acosf", atan: "atanf",
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
    const { name, params, shared, workgroup, residents, sets } = this.kernel;
    const threads = workgroup[0] * workgroup[1] * workgroup[2];
    const pointers = params.map((p) => `${p.access === "read" ? "const " : ""}${memoryType(p.dtype)}*`);
    const list = sets ? `const __grid_constant__ ${name}_sets sets` : pointers.map((type, i) => `${type} b${i}`).join(", ");
    const arrays = sharedPlaces(this.kernel).isDynamic
      ? this.dynamicArrays()
      : shared.map(({ type, elements }, i) => `  __shared__ __align__(16) ${memoryType(type)} s${i}[${elements}];`);
    return [
      ...(sets ? [`struct ${name}_sets { void* of[${sets}][${params.length / sets}]; };`] : []),
      `extern "C" __global__ void __launch_bounds__(${threads}${residents ? `, ${residents}` : ""}) ${name}(${list}) {`,
      ...pointers.slice(0, sets ? params.length / sets : 0).map((type, i) => `  ${type} const b${i} = (${type})sets.of[blockIdx.z][${i}];`),
      ...arrays,
      ...(this.options.isOverlapped && startsEarly(this.kernel) ? OVERLAP : []),
      this.body(),
      "}",
      "",
    ].join("\n");
  }

  private dynamicArrays(): string[] {
    const { offsets } = sharedPlaces(this.kernel);
    return [
      "  extern __shared__ __align__(128) unsigned char shared_bytes[];",
      ...this.kernel.shared.map(
        ({ type }, i) => `  ${memoryType(type)}* const s${i} = reinterpret_cast<${memoryType(type)}*>(shared_bytes + ${offsets[i]});`,
      ),
    ];
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

  protected override unrolled(): string[] {
    return ["#pragma unroll"];
  }

  private pointer({ k, number }: Source): { readonly name: string; readonly dtype: DType } {
    return k === "buffer"
      ? { name: `b${number}`, dtype: this.kernel.params[number].dtype }
      : { name: `s${number}`, dtype: this.sharedType(number) };
  }
  protected override vectorLoad(to: readonly Register[], from: Source, at: Reg): string[] {
    const { name, dtype } = this.pointer(from);
    if (HALVES[dtype]) return this.halfVectorLoad(to, name, dtype, at);
    const element = VECTOR_ELEMENTS[asMoved(dtype)];
    if (!element || to.length > 4) return super.vectorLoad(to, from, at);
    const type = `${element}${to.length}`;
    const whole = `w${to[0].id}`;
    return [
      `const ${type} ${whole} = *reinterpret_cast<const ${type}*>(${name} + ${this.text(at)});`,
      ...to.map((v, i) => `const ${TYPES[v.type]} ${this.name(v)} = ${whole}.${"xyzw"[i]};`),
    ];
  }
  /** Pairs of 16-bit floats as words. */
  private halfVectorLoad(to: readonly Register[], name: string, dtype: DType, at: Reg): string[] {
    const words = to.length / 2;
    const whole = `w${to[0].id}`;
    const type = words === 1 ? "unsigned" : `uint${words}`;
    const word = (i: number): string => (words === 1 ? whole : `${whole}.${"xyzw"[i]}`);
    return [
      `const ${type} ${whole} = *reinterpret_cast<const ${type}*>(${name} + ${this.text(at)});`,
      ...to.map((v, i) => {
        const half = `(unsigned short)(${word(i >> 1)}${i & 1 ? " >> 16" : ""})`;
        return `const float ${this.name(v)} = ${fromMemory(dtype, half)};`;
      }),
    ];
  }
  private halfVectorStore(values: readonly Reg[], name: string, dtype: DType, at: Reg): string[] {
    const words = upTo(values.length / 2).map((i) => {
      const [low, high] = [values[2 * i], values[2 * i + 1]].map((v) => this.text(v));
      return `hd_pair_${HALVES[dtype]}(${low}, ${high})`;
    });
    const type = words.length === 1 ? "unsigned" : `uint${words.length}`;
    const whole = words.length === 1 ? words[0] : `make_${type}(${words.join(", ")})`;
    return [`*reinterpret_cast<${type}*>(${name} + ${this.text(at)}) = ${whole};`];
  }
  protected override vectorStore(values: readonly Reg[], to: Source, at: Reg): string[] {
    const { name, dtype } = this.pointer(to);
    if (HALVES[dtype]) return this.halfVectorStore(values, name, dtype, at);
    const element = VECTOR_ELEMENTS[asMoved(dtype)];
    if (!element || values.length > 4) return super.vectorStore(values, to, at);
    const type = `${element}${values.length}`;
    return [`*reinterpret_cast<${type}*>(${name} + ${this.text(at)}) = make_${type}(${values.map((v) => this.text(v)).join(", ")});`];
  }

  protected copy(s: Extract<SimtStmt, { k: "copy" }>): string[] {
    const { dtype, elements } = this.kernel.params[s.buffer];
    const bytes = s.count * DTYPES[dtype].bytes;
    const from = this.options.isChecked ? `hd_check(${this.text(s.from)}, ${elements - s.count + 1})` : this.text(s.from);
    // Only copies of 16 bytes can go past the first cache.
    const [by, count] = [bytes === 16 ? "cg" : "ca", s.isInside ? `, "r"(${this.text(s.isInside)} ? ${bytes} : 0)` : ""];
    return [
      `asm volatile("cp.async.${by}.shared.global [%0], [%1], ${bytes}${s.isInside ? ", %2" : ""};" :: "r"(${this.sharedAddress(s.array, s.to)}), "l"(b${s.buffer} + ${from})${count});`,
    ];
  }
  private sharedAddress(array: number, at: Reg): string {
    return `(unsigned)__cvta_generic_to_shared(&s${array}[${this.text(at)}])`;
  }
  protected commitCopies(): string[] {
    return [`asm volatile("cp.async.commit_group;");`];
  }
  protected copiesDone(pending: number): string[] {
    return [`asm volatile("cp.async.wait_group ${pending};");`];
  }

  /** Fragments by PTX's ldmatrix and mma.m16n8k16: a sum is two of its results side by side. */
  protected fragment(s: FragmentStmt): string[] {
    switch (s.k) {
      case "fragment": {
        const name = this.fragmentName(s.fragment);
        if (s.fragment.role === "sum") return [`float ${name}[8] = {};`];
        return [`unsigned ${name}[${s.fragment.dtype === "f32" ? SPLIT_REGISTERS : 4}];`];
      }
      case "loadFragment": {
        const f = this.fragmentName(s.fragment);
        if (s.fragment.dtype === "f32") return ["{", ...loadSplit(f, s, this.text(s.at), `s${s.array}`, this.sharedAddress(s.array, s.at)), "}"]; // biome-ignore format: one idea
        const outs = upTo(4).map((i) => `"=r"(${f}[${i}])`);
        // Eight threads each name the rows of one matrix of 8×8. Registers hold pairs along the depth: matrices whose rows in memory run across it are turned.
        const isTurned = (s.fragment.role === "a") === s.isTransposed;
        const place = s.isTransposed ? secondAside(s.stride) : secondBelow(s.stride);
        return [
          `asm volatile("ldmatrix.sync.aligned.m8n8.x4${isTurned ? ".trans" : ""}.shared.b16 {%0, %1, %2, %3}, [%4];" : ${outs.join(", ")} : "r"(${this.sharedAddress(s.array, s.at)} + 2u * (${place})) : "memory");`,
        ];
      }
      case "multiply": {
        const [sum, a, b] = [s.sum, s.a, s.b].map((f) => this.fragmentName(f));
        const type = s.a.dtype;
        if (type === "f32") return multiplySplit(sum, a, b);
        return [0, 1].map((half) => {
          const sums = upTo(4).map((i) => `"+f"(${sum}[${4 * half + i}])`);
          const factors = [...upTo(4).map((i) => `"r"(${a}[${i}])`), ...upTo(2).map((i) => `"r"(${b}[${2 * half + i}])`)];
          return `asm("mma.sync.aligned.m16n8k16.row.col.f32.${type}.${type}.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" : ${sums.join(", ")} : ${factors.join(", ")});`;
        });
      }
      case "storeFragment": {
        const f = this.fragmentName(s.fragment);
        const place = `${this.text(s.at)} + (${LANE} >> 2) * ${s.stride} + (${LANE} & 3) * 2`;
        return upTo(4).map((i) => {
          const offset = (i & 1 ? 8 * s.stride : 0) + (i & 2 ? 8 : 0);
          return `*reinterpret_cast<float2*>(&s${s.array}[${place} + ${offset}]) = make_float2(${f}[${2 * i}], ${f}[${2 * i + 1}]);`;
        });
      }
      case "readFragment":
        return s.to.map((v, i) => `const float ${this.name(v)} = ${this.fragmentName(s.fragment)}[${i}];`);
      case "writeFragment": {
        const f = this.fragmentName(s.fragment);
        const values = s.values.map((v) => this.text(v));
        if (s.fragment.role === "sum") return values.map((v, i) => `${f}[${i}] = ${v};`);
        return upTo(4).map((i) => `${f}[${i}] = hd_pair_${HALVES[s.fragment.dtype]}(${values[2 * i]}, ${values[2 * i + 1]});`);
      }
      default:
        return s satisfies never;
    }
  }
}

const LANE = "(int)(threadIdx.x & 31u)";
/** Where a thread's row of 8 begins when the second matrix of four lies below the first, and when it lies beside it. */
const secondBelow = (stride: number): string => `(${LANE} & 15) * ${stride} + (${LANE} >> 4) * 8`;
const secondAside = (stride: number): string => `((${LANE} & 7) + (${LANE} >> 4) * 8) * ${stride} + (${LANE} >> 3 & 1) * 8`;

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

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
