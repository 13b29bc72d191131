// SIMT kernels to WGSL: one module a kernel, buffers as bindings 0, 1, … of group 0.
import type { DType } from "../../ir/dtype.ts";
import { invariant } from "../../ir/error.ts";
import { asMoved } from "../../ir/float8.ts";
import type { Reg, Register, RegisterType, SimtKernel, SimtStmt, Source } from "../../ir/simt.ts";
import { type FragmentStmt, OPERATORS, SimtPrinter } from "../simt_printer.ts";
import { copyText, FRAGMENT_DIRECTIVES, fragmentText, homeOf } from "./fragments.ts";
import { type Access, elementOf, mostOf, type Stored, toWord, type Words, wordAt, wordType } from "./words.ts";

export interface WgslOptions {
  /** Whether shaders have 16-bit floats; without, f16 is kept as f32. */
  readonly hasF16: boolean;
  /** Of each parameter the binding that it is, where several are the same memory; default: its own. */
  readonly bindings?: readonly number[];
}

/** How an element is kept in a storage buffer: there are no types narrower than 32 bits but f16. */
export function storedType(dtype: DType, hasF16: boolean): Stored | undefined {
  const moved = asMoved(dtype);
  switch (moved) {
    case "f32":
    case "bf16":
      return "f32";
    case "f16":
      return hasF16 ? "f16" : "f32";
    case "i8":
    case "i16":
    case "i32":
    case "i64":
    case "u8":
    case "u16":
      return "i32";
    case "u32":
    case "bool":
      return "u32";
    case "f64":
    case "u64":
      return undefined;
    default:
      return moved satisfies never;
  }
}

/** The kernel as a module with the entry point `main`. Printing finds how wide words all accesses take: it is done again until they stay. */
export function printWgsl(kernel: SimtKernel, options: WgslOptions): string {
  const words: Words = new Map();
  for (;;) {
    const before = [...words.values()].join();
    const text = new WgslPrinter(kernel, options, words).module();
    if ([...words.values()].join() === before) return text;
  }
}

const TYPES: Readonly<Record<RegisterType, string>> = { f32: "f32", i32: "i32", u32: "u32", bool: "bool" };
const AXES = ["x", "y", "z"] as const;

/** Functions of WGSL's own, by another name where it has one. */
const FUNCTIONS: Readonly<Record<string, string>> = {
  fma: "fma", floor: "floor", ceil: "ceil", round: "round", trunc: "trunc", sqrt: "sqrt",
  exp: "exp", exp2: "exp2", log: "log", sin: "sin", cos: "cos", tan: "tan", asin: "asin", acos: "acos", atan: "atan",
  sinh: "sinh", cosh: "cosh", asinh: "hd_asinh", acosh: "acosh", atanh: "atanh", abs: "abs", min: "min", max: "max",
  div: "hd_div", tanh: "hd_tanh", erf: "hd_erf", pow: "hd_pow", isnan: "hd_isnan", isinf: "hd_isinf",
}; // biome-ignore format: a table

/** What FUNCTIONS name with hd_, each printed where it is used. NaN and infinity are recognised by their bits: compilers may assume that there are none. */
const HELPERS: Readonly<Record<string, string>> = {
  hd_isnan: "fn hd_isnan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }",
  hd_isinf: "fn hd_isinf(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }",
  // GPUs divide to 2.5 ULP: what is left, exact by halves of 12 bits (fma may round twice), is divided again, but where the quotient is zero or not finite.
  // A bit less of the quotient: NVIDIA's compiler takes a · (1/b), not rounded, for it in sums otherwise.
  hd_div: `fn hd_div(a: f32, b: f32) -> f32 {
  let p = a / b;
  let q = bitcast<f32>(bitcast<u32>(p) & 0xfffffffeu);
  let h = bitcast<vec2<f32>>(bitcast<vec2<u32>>(vec2(q, b)) & vec2(0xfffff000u));
  let l = vec2(q, b) - h;
  let s = q + (a - h.x * h.y - h.x * l.y - l.x * h.y - l.x * l.y) / b;
  return select(p, s, p != 0.0 && (bitcast<u32>(s) & 0x7f800000u) != 0x7f800000u);
}`,
  // Beyond ±15 it is ±1, where some implementations overflow.
  hd_tanh: "fn hd_tanh(x: f32) -> f32 { return tanh(clamp(x, -15.0, 15.0)); }",
  // asinh(x) = sign(x)·log(|x| + √(x²+1)), which cancels near 0: there the series.
  hd_asinh:
    "fn hd_asinh(x: f32) -> f32 { let a = abs(x); let s = a * (1.0 - a * a * (0.16666667 - a * a * 0.075)); return sign(x) * select(log(a + sqrt(fma(a, a, 1.0))), s, a < 0.1); }",
  // Abramowitz and Stegun 7.1.26's form with W. J. Cody's accuracy: a series near 0, a continued exponent elsewhere.
  hd_erf: `fn hd_erf(x: f32) -> f32 {
  let a = abs(x);
  let q = a * a;
  if (a < 1.0) { return x * (1.12837917 + q * (-0.37612639 + q * (0.11283792 + q * (-0.02686617 + q * (0.00522398 + q * (-0.00085483 + q * 0.00012055)))))); }
  let t = 1.0 / fma(0.5, a, 1.0);
  let p = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  return sign(x) * (1.0 - t * exp(clamp(p - q, -80.0, 1.0)));
}`,
  // pow() is for positive bases.
  hd_pow: `fn hd_pow(x: f32, y: f32) -> f32 {
  if (y == 0.0) { return 1.0; }
  if (x == 0.0) { return select(0.0, 1.0 / abs(x), y < 0.0); }
  let r = pow(abs(x), y);
  let isOdd = fract(abs(y) * 0.5) == 0.5;
  if (x < 0.0 && floor(y) != y) { return bitcast<f32>(hd_nan_bits); }
  return select(r, -r, x < 0.0 && isOdd);
}`,
};
/** Infinity and NaN cannot be constants. */
const SPECIALS = "var<private> hd_inf_bits: u32 = 0x7f800000u;\nvar<private> hd_nan_bits: u32 = 0x7fc00000u;";

class WgslPrinter extends SimtPrinter {
  private readonly helpers = new Set<string>();
  private readonly directives = new Set<string>();
  /** Stores to shared memory of copies whose loads are under way. */
  private readonly pending: string[] = [];
  private copies = 0;

  constructor(
    kernel: SimtKernel,
    private readonly options: WgslOptions,
    private readonly words: Words,
  ) {
    super(kernel);
  }

  module(): string {
    const body = this.body();
    const { params, shared, workgroup } = this.kernel;
    const stored = params.map((p) => this.stored(p.dtype));
    if (stored.includes("f16") || shared.some((s) => s.type === "f16")) this.directives.add("enable f16;");
    const bindings = params.map((_, i) => this.options.bindings?.[i] ?? i);
    return [
      ...this.directives,
      // One usage for a buffer in a pass: all are bound for writing, so that parts of one buffer can be read and written.
      ...params.flatMap(({ name }, i) =>
        bindings[i] === i
          ? [
              `@group(0) @binding(${i}) var<storage, read_write> b${i}: array<${wordType(stored[i], this.width(`b${i}`, stored[i]))}>; // ${name}`,
            ]
          : [],
      ),
      ...this.sharedArrays(),
      SPECIALS,
      ...[...this.helpers].map((h) => HELPERS[h]),
      `@compute @workgroup_size(${workgroup.join(", ")})`,
      "fn main(@builtin(local_invocation_id) thread_place: vec3<u32>, @builtin(workgroup_id) group_place: vec3<u32>) {",
      "  let thread = vec3<i32>(thread_place);",
      "  let group = vec3<i32>(group_place);",
      body,
      "}",
      "",
    ].join("\n");
  }

  private stored(dtype: DType): Stored {
    const type = storedType(dtype, this.options.hasF16);
    invariant(type, `${this.kernel.name}: ${dtype} in a WGSL buffer`);
    return type;
  }
  private binding(buffer: number): string {
    return `b${this.options.bindings?.[buffer] ?? buffer}`;
  }
  private sharedType(array: number): Stored {
    const { type } = this.kernel.shared[array];
    return type === "bf16" ? "f32" : type;
  }

  /** Elements of a word, of `count` at most, which one access takes from a multiple of them on. */
  private width(name: string, type: Stored, count = mostOf(type)): number {
    const width = Math.min(this.words.get(name) ?? count, count);
    this.words.set(name, width);
    return width;
  }
  private access({ k, number }: Source, count: number): Access {
    const dtype = k === "buffer" ? this.kernel.params[number].dtype : undefined;
    const type = dtype ? this.stored(dtype) : this.sharedType(number);
    const own = dtype ? this.binding(number) : `s${number}`;
    const width = this.width(own, type, Math.min(count, mostOf(type)));
    const home = dtype ? number : this.home(number);
    return { name: home === number ? own : `s${home}`, type, isBool: dtype === "bool", width, isForeign: home !== number };
  }
  /** The array of halves whose memory an array takes: where both are accessed by 16 bytes. Otherwise it has its own. */
  private home(array: number): number {
    return homeOf(this.kernel.shared, array, (i) => this.width(`s${i}`, this.sharedType(i)) * 2);
  }
  private sharedArrays(): string[] {
    const { shared } = this.kernel;
    const words = shared.map(({ elements }, i) => elements / this.width(`s${i}`, this.sharedType(i)));
    return shared.flatMap((_, i) => {
      if (this.home(i) !== i) return [];
      const count = Math.max(...words.filter((_, j) => this.home(j) === i));
      const type = this.sharedType(i);
      return [`var<workgroup> s${i}: array<${wordType(type, this.width(`s${i}`, type))}, ${Math.ceil(count)}>;`];
    });
  }

  protected declare(v: Register, value: Reg | null, isMutable: boolean): string {
    const init = value ? ` = ${this.text(value)}` : "";
    return `${isMutable ? "var" : "let"} ${this.name(v)}: ${TYPES[v.type]}${init};`;
  }
  protected literal(type: RegisterType, value: number): string {
    switch (type) {
      case "bool":
        return value ? "true" : "false";
      case "i32":
        return value === -(2 ** 31) ? "bitcast<i32>(0x80000000u)" : `${value}i`;
      case "u32":
        return `${value}u`;
      case "f32":
        return floatLiteral(value);
      default:
        return type satisfies never;
    }
  }
  protected place(of: "thread" | "group", axis: 0 | 1 | 2): string {
    return `${of}.${AXES[axis]}`;
  }
  protected call({ fn, type, args: given }: Extract<Reg, { k: "call" }>, args: readonly string[]): string {
    const [a, b] = args;
    const operator = fn === "div" && type === "f32" ? undefined : OPERATORS[fn];
    if (operator) return `(${a} ${operator} ${b})`;
    switch (fn) {
      case "neg":
        return `(-${a})`;
      case "not":
        return type === "bool" ? `(!${a})` : `(~${a})`;
      case "and":
        return type === "bool" ? `(${a} && ${b})` : `(${a} & ${b})`;
      case "or":
        return type === "bool" ? `(${a} || ${b})` : `(${a} | ${b})`;
      case "xor":
        return type === "bool" ? `(${a} != ${b})` : `(${a} ^ ${b})`;
      case "shl":
        return `(${a} << u32(${b}))`;
      case "shr":
        return `(${a} >> u32(${b}))`;
      case "fma":
        if (given[0].type !== "f32") return `(${a} * ${b} + ${args[2]})`;
        break;
      default:
    }
    const name = FUNCTIONS[fn];
    invariant(name, `${this.kernel.name}: ${fn} has no WGSL`);
    if (HELPERS[name]) this.helpers.add(name);
    return `${name}(${args.join(", ")})`;
  }
  protected cast(to: RegisterType, from: RegisterType, a: string): string {
    if (to === "bool") return from === "f32" ? `(${a} != 0.0)` : `(${a} != ${from === "u32" ? "0u" : "0i"})`;
    return `${TYPES[to]}(${a})`;
  }
  protected bits(to: RegisterType, _from: RegisterType, a: string): string {
    return `bitcast<${TYPES[to]}>(${a})`;
  }
  protected select(cond: string, a: string, b: string): string {
    return `select(${b}, ${a}, ${cond})`;
  }
  protected exchange(a: string, by: number): string {
    this.directives.add("enable subgroups;");
    return `subgroupShuffleXor(${a}, ${by}u)`;
  }

  protected load(buffer: number, at: string): string {
    return this.take({ k: "buffer", number: buffer }, at);
  }
  protected store(buffer: number, at: string, value: string): string {
    return this.put({ k: "buffer", number: buffer }, at, value);
  }
  protected loadShared(array: number, at: string): string {
    return this.take({ k: "shared", number: array }, at);
  }
  protected storeShared(array: number, at: string, value: string): string {
    return this.put({ k: "shared", number: array }, at, value);
  }
  private take(from: Source, at: string): string {
    const { name, type, isBool } = this.access(from, 1);
    return elementOf(`${name}[${at}]`, type, isBool, 1, 0);
  }
  private put(to: Source, at: string, value: string): string {
    const { name, type, isBool } = this.access(to, 1);
    return `${name}[${at}] = ${toWord(type, isBool, [value])};`;
  }
  protected barrier(): string {
    return "workgroupBarrier();";
  }
  protected forHead(v: string, from: string, to: string, step: number): string {
    return `for (var ${v}: i32 = ${from}; ${v} < ${to}; ${v} += ${step})`;
  }

  protected override vectorLoad(to: readonly Register[], from: Source, at: Reg): string[] {
    const { name, type, isBool, width, isForeign } = this.access(from, to.length);
    if (width === 1) return super.vectorLoad(to, from, at);
    return to.flatMap((v, i) => {
      const word = `w${to[i - (i % width)].id}`;
      const value = `let ${this.name(v)}: ${TYPES[v.type]} = ${elementOf(word, type, isBool, width, i % width)};`;
      const element = `${name}[${wordAt(this.text(at), width, i / width)}]`;
      return i % width === 0 ? [`let ${word} = ${isForeign ? `bitcast<vec4<${type}>>(${element})` : element};`, value] : [value];
    });
  }
  protected override vectorStore(values: readonly Reg[], to: Source, at: Reg): string[] {
    const { name, type, isBool, width, isForeign } = this.access(to, values.length);
    if (width === 1) return super.vectorStore(values, to, at);
    return values.flatMap((_, i) => {
      const word = toWord(type, isBool, values.slice(i, i + width).map((v) => this.text(v))); // biome-ignore format: short
      const given = isForeign ? `bitcast<vec4<u32>>(${word})` : word;
      return i % width === 0 ? [`${name}[${wordAt(this.text(at), width, i / width)}] = ${given};`] : [];
    });
  }

  /** Loads at once; what is loaded goes to shared memory when copies are waited for, so that threads need not wait for memory before. */
  protected copy(s: Extract<SimtStmt, { k: "copy" }>): string[] {
    const [source, target] = [{ k: "buffer", number: s.buffer } as const, { k: "shared", number: s.array } as const];
    const count = Math.min(this.access(source, s.count).width, this.access(target, s.count).width);
    const [from, to] = [this.access(source, count), this.access(target, count)];
    const { loads, stores } = copyText(this.copies++, from, to, s, (a) => this.text(a));
    this.pending.push(...stores);
    return loads;
  }
  protected copiesDone(): string[] {
    return this.pending.splice(0);
  }
  protected override leaveBlock(): string[] {
    return this.pending.splice(0);
  }
  protected commitCopies(): string[] {
    return [];
  }

  protected fragment(s: FragmentStmt): string[] {
    for (const d of FRAGMENT_DIRECTIVES) this.directives.add(d);
    if (!("array" in s)) return [fragmentText(s, null)];
    const { name, width } = this.access({ k: "shared", number: s.array }, 8);
    return [fragmentText(s, { name, at: this.text(s.at), width })];
  }
}

function floatLiteral(value: number): string {
  if (Number.isNaN(value)) return "bitcast<f32>(hd_nan_bits)";
  if (!Number.isFinite(value) || Math.abs(value) > 3.4028234663852886e38) return `(${value < 0 ? "-" : ""}bitcast<f32>(hd_inf_bits))`;
  const rounded = Math.fround(value);
  if (Object.is(rounded, -0)) return "(-0.0f)";
  if (Math.abs(rounded) < 2 ** -126) return "0.0f"; // WGSL may flush them
  const text = String(rounded);
  return rounded < 0 ? `(${text}f)` : `${text}f`;
}
