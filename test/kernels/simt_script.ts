// A SIMT kernel to JavaScript: what lies between two meetings of a workgroup is a loop over its threads.
import { invariant } from "../../src/ir/error.ts";
import { SCALAR } from "../../src/ir/scalar.ts";
import {
  FRAGMENT,
  type Fragment,
  fragmentPlace,
  type Reg,
  type RegisterFn,
  type SimtKernel,
  type SimtStmt,
  type Source,
} from "../../src/ir/simt.ts";
import { elementCount } from "../../src/ir/tensor.ts";

/** When asynchronous copies arrive: as soon as they start, or when they are waited for. Kernels must be right with both. */
export type Arrival = "early" | "late";

/** What a script is given for a workgroup. */
export interface Workgroup {
  readonly buffers: readonly Float64Array[];
  /** Its place in the grid. */
  readonly group: readonly number[];
  readonly shared: readonly Float64Array[];
  /** By thread. */
  readonly copies: Copies[];
  readonly arrival: Arrival;
  /** What all threads decide alike, by name. */
  readonly common: Record<string, number>;
  /** Of each subgroup, by fragment number. */
  readonly fragments: readonly Float64Array[][];
}

/** Runs all threads of a workgroup. */
export type Script = (own: Workgroup) => void;

/** A thread's asynchronous copies: those of the open group, and groups under way. */
export class Copies {
  private open: (() => void)[] = [];
  private groups: (() => void)[][] = [];

  constructor(private readonly arrival: Arrival) {}

  add(arrive: () => void): void {
    if (this.arrival === "early") arrive();
    else this.open.push(arrive);
  }
  commit(): void {
    this.groups.push(this.open);
    this.open = [];
  }
  wait(pending: number): void {
    for (const done of this.groups.splice(0, Math.max(0, this.groups.length - pending)).flat()) done();
  }
}

const OPERATORS: Readonly<Partial<Record<RegisterFn, string>>> = {
  add: "+", sub: "-", mul: "*", div: "/", rem: "%", and: "&", or: "|", xor: "^", shl: "<<",
  eq: "===", ne: "!==", lt: "<", le: "<=", gt: ">", ge: ">=",
}; // biome-ignore format: a table
const COMPARISONS: readonly RegisterFn[] = ["eq", "ne", "lt", "le", "gt", "ge"];
/** Integers of integers. */
const WHOLE: readonly RegisterFn[] = ["add", "sub", "mul", "rem", "min", "max", "neg", "and", "or", "xor", "shl"];
const CALLS: Readonly<Partial<Record<RegisterFn, (...args: string[]) => string>>> = {
  min: (a, b) => `Math.min(${a}, ${b})`, max: (a, b) => `Math.max(${a}, ${b})`, neg: (a) => `-${a}`, fma: (a, b, c) => `(${a} * ${b} + ${c})`,
  exp: (a) => `Math.exp(${a})`, exp2: (a) => `2 ** ${a}`, sqrt: (a) => `Math.sqrt(${a})`, log: (a) => `Math.log(${a})`, tanh: (a) => `Math.tanh(${a})`,
  shr: (a, b) => `shr(${a}, ${b})`, isnan: (a) => `(Number.isNaN(${a}) ? 1 : 0)`, abs: (a) => `Math.abs(${a})`, round: (a) => `round(${a})`,
}; // biome-ignore format: a table

const WORD = new DataView(new ArrayBuffer(4));

/** What the scripts call. */
const HELPERS = {
  Copies,
  shr: (a: number, b: number): number => (a < 0 ? a >> b : a >>> b),
  round: (a: number): number => SCALAR.round.exact(a, 0),
  missing(name: string): never {
    throw new Error(`no ${name}`);
  },
  /** The same 32 bits as another type. */
  reinterpreted(value: number, from: Reg["type"], to: Reg["type"]): number {
    if (from === "f32") WORD.setFloat32(0, value);
    else WORD.setUint32(0, value >>> 0);
    return to === "f32" ? WORD.getFloat32(0) : to === "u32" ? WORD.getUint32(0) : WORD.getInt32(0);
  },
  /** `at`: of its first element; `across` and `down`: from one column or row to the next. */
  loadFragment(to: Float64Array, from: Float64Array, at: number, down: number, across: number): void {
    invariant(at >= 0 && at + 15 * (down + across) < from.length, `a fragment at ${at} of ${from.length}`);
    for (let r = 0; r < FRAGMENT; r++) for (let c = 0; c < FRAGMENT; c++) to[r * FRAGMENT + c] = from[at + r * down + c * across];
  },
  storeFragment(from: Float64Array, to: Float64Array, at: number, stride: number): void {
    invariant(at >= 0 && at + 15 * stride + 15 < to.length, `a fragment at ${at} of ${to.length}`);
    for (let r = 0; r < FRAGMENT; r++) for (let c = 0; c < FRAGMENT; c++) to[at + r * stride + c] = from[r * FRAGMENT + c];
  },
  multiply(sum: Float64Array, a: Float64Array, b: Float64Array): void {
    for (let r = 0; r < FRAGMENT; r++)
      for (let c = 0; c < FRAGMENT; c++) {
        let s = sum[r * FRAGMENT + c];
        for (let k = 0; k < FRAGMENT; k++) s += a[r * FRAGMENT + k] * b[k * FRAGMENT + c];
        sum[r * FRAGMENT + c] = s;
      }
  },
  /** Of elements that are read now, and zeros where it is not inside. */
  copy(copies: Copies, to: Float64Array, target: number, from: Float64Array, source: number, count: number, isInside: unknown): void {
    invariant(source % count === 0 && target % count === 0, `a copy of ${count} from ${source} to ${target}`);
    invariant(source >= 0 && source + count <= from.length, `a copy of ${count} at ${source} of ${from.length}`);
    const values = isInside ? from.slice(source, source + count) : new Float64Array(count);
    copies.add(() => to.set(values, target)); // which throws outside of it
  },
};

type FragmentStmt = Extract<SimtStmt, { k: "fragment" | "loadFragment" | "multiply" | "storeFragment" }>;

/** Whether threads meet in it. */
function meets(s: SimtStmt): boolean {
  if (s.k === "if") return [...s.then, ...s.otherwise].some(meets);
  if (s.k === "for") return s.body.some(meets);
  if (s.k === "let") return s.value?.k === "exchange";
  return s.k === "barrier" || s.k === "readFragment" || s.k === "writeFragment";
}

/** Stretches of statements between meetings, and what is decided for all threads at once around them. */
class Printer {
  /** Functions of stretches, and the calls of them. */
  private readonly stretches: string[] = [];
  private readonly calls: string[] = [];
  /** Of the stretch that is open. */
  private lines: string[] = [];
  private names = new Map<string, string>();
  /** Loops around it that all threads go through together: their registers. */
  private readonly together: number[] = [];
  /** Registers by the stretch that declares them; those that others use, too, are kept for each thread. */
  private readonly declaredIn = new Map<number, number>();
  private exchanges = 0;

  constructor(
    private readonly kernel: SimtKernel,
    private readonly kept: Set<number>,
  ) {}

  script(): Script {
    this.group(this.kernel.body);
    this.close();
    const [w, h] = this.kernel.workgroup;
    const count = elementCount(this.kernel.workgroup);
    const source = `"use strict";
const { ${Object.keys(HELPERS).join()} } = helpers;
const outside = (i, of) => { throw new Error(name + ": element " + i + " of " + of.length); };
const at = (from, i) => { const v = from[i]; if (v === undefined) outside(i, from); return v; };
const put = (to, i, v) => { if (to[i] === undefined) outside(i, to); to[i] = v; };
const aligned = (i, count) => { if (i % count !== 0) throw new Error(name + ": a vector of " + count + " at " + i); return i; };
const alike = (a, b) => { if (a !== b) throw new Error(name + ": not all threads meet at a barrier"); };
const COUNT = ${count};
const list = () => new Float64Array(COUNT).fill(NaN);
const threads = { x: Int32Array.from(list(), (_, t) => t % ${w}), y: Int32Array.from(list(), (_, t) => Math.floor(t / ${w}) % ${h}), z: Int32Array.from(list(), (_, t) => Math.floor(t / ${w * h})) };
const kept = { ${[...this.kept].map((id) => `r${id}: list()`).join(", ")} };
const exchanged = [${Array.from({ length: this.exchanges }, () => "list()").join(", ")}];
${this.stretches.join("\n")}
return (own) => {
${this.calls.join("\n")}
};`;
    return new Function("helpers", "name", source)(HELPERS, this.kernel.name) as Script;
  }

  private print(line: string): void {
    this.lines.push(line);
  }
  /** Something that the stretch looks up once, by its short name. */
  private named(short: string, long: string): string {
    this.names.set(short, long);
    return short;
  }
  private get stretch(): number {
    return this.stretches.length;
  }
  /** Ends the stretch: all threads meet. */
  private close(): void {
    if (this.lines.length === 0) return;
    const given = this.together.map((id) => `r${id}`).join(", ");
    const names = [...this.names].map(([short, long]) => `const ${short} = ${long};`).join(" ");
    const number = this.stretches.push("") - 1;
    this.stretches[number] = `const f${number} = (own, ${given}) => { ${names}
for (let t = 0; t < COUNT; t++) {
${this.lines.join("\n")}
} };`;
    this.calls.push(`f${number}(own, ${given});`);
    this.lines = [];
    this.names = new Map();
  }

  /** Statements among which threads may meet. */
  private group(body: readonly SimtStmt[]): void {
    for (const s of body) {
      if (!meets(s)) this.statement(s);
      else this.meeting(s);
    }
    this.close();
  }

  private meeting(s: SimtStmt): void {
    switch (s.k) {
      case "let":
        this.exchange(s.v.id, s.value as Extract<Reg, { k: "exchange" }>); // no other meets
        break;
      case "if":
        this.calls.push(`if (${this.common(s.cond)}) {`);
        this.group(s.then);
        this.calls.push("} else {");
        this.group(s.otherwise);
        this.calls.push("}");
        break;
      case "for": {
        const [from, i] = [this.common(s.from), `r${s.v.id}`];
        this.calls.push(`for (let ${i} = ${from}; ; ${i} += ${s.step}) {`);
        this.together.push(s.v.id);
        this.calls.push(`if (!(${i} < ${this.common(s.to)})) break;`);
        this.group(s.body);
        this.together.pop();
        this.calls.push("}");
        break;
      }
      case "readFragment":
        this.close(); // all products are done
        for (const [i, v] of s.to.entries()) this.declare(v.id, `${this.fragmentOf(s.fragment)}[${this.elementOf(i)}]`);
        this.close();
        break;
      case "writeFragment":
        for (const [i, v] of s.values.entries()) this.print(`${this.fragmentOf(s.fragment)}[${this.elementOf(i)}] = ${this.value(v)};`);
        this.close();
        break;
      default:
        this.close(); // a barrier
    }
  }

  /** A value that is the same for all threads, in a variable of the group. */
  private common(a: Reg): string {
    this.close();
    if (a.k === "num") return this.value(a);
    const name = `c${this.stretch}`;
    this.print(`const v = ${this.value(a)}; if (t === 0) own.common.${name} = v; else alike(own.common.${name}, v);`);
    this.close();
    return `own.common.${name}`;
  }

  private declare(id: number, value: string): void {
    this.declaredIn.set(id, this.stretch);
    this.print(this.kept.has(id) ? `${this.register(id)} = ${value};` : `let r${id} = ${value};`);
  }
  private register(id: number): string {
    if (this.together.includes(id)) return `r${id}`;
    if (this.declaredIn.get(id) !== this.stretch) this.kept.add(id);
    return this.kept.has(id) ? `${this.named(`k${id}`, `kept.r${id}`)}[t]` : `r${id}`;
  }
  private buffer({ k, number }: Source): string {
    return k === "buffer" ? this.named(`b${number}`, `own.buffers[${number}]`) : this.named(`s${number}`, `own.shared[${number}]`);
  }
  private copies(): string {
    return "(own.copies[t] ??= new Copies(own.arrival))";
  }
  private fragmentOf({ id }: Fragment): string {
    return `${this.named("fragments", "own.fragments")}[t >> 5][${id}]`;
  }

  private value(a: Reg): string {
    switch (a.k) {
      case "num":
        return Object.is(a.value, -0) || a.value < 0 ? `(${Object.is(a.value, -0) ? "-0" : a.value})` : `${a.value}`;
      case "var":
        return this.register(a.v.id);
      case "place":
        return a.of === "group"
          ? this.named(`group_${a.axis}`, `own.group[${a.axis}]`)
          : `${this.named(`thread_${a.axis}`, `threads.${"xyz"[a.axis]}`)}[t]`;
      case "call":
        return this.call(a);
      case "cast":
        return a.type === "i32" ? `Math.trunc(${this.value(a.a)})` : this.value(a.a);
      case "bits":
        return `reinterpreted(${this.value(a.a)}, "${a.a.type}", "${a.type}")`;
      case "select":
        return `(${this.value(a.cond)} ? ${this.value(a.a)} : ${this.value(a.b)})`;
      case "load":
        return `at(${this.buffer({ k: "buffer", number: a.buffer })}, ${this.value(a.at)})`;
      case "shared":
        return `at(${this.buffer({ k: "shared", number: a.array })}, ${this.value(a.at)})`;
      default:
        throw new Error(`no ${a.k}`);
    }
  }

  private call({ fn, type, args }: Extract<Reg, { k: "call" }>): string {
    const [a, b, c] = args.map((arg) => this.value(arg));
    if (fn === "mul" && type === "u32") return `(Math.imul(${a}, ${b}) >>> 0)`; // 64 bits are more than a number holds
    const operator = OPERATORS[fn];
    const text = operator ? `(${a} ${operator} ${b})` : (CALLS[fn]?.(a, b, c) ?? `missing("${fn}")`);
    if (COMPARISONS.includes(fn)) return `(${text} ? 1 : 0)`;
    if (type === "f32") return `Math.fround(${text})`;
    if (type === "u32") return `(${text} >>> 0)`;
    return type === "i32" && !WHOLE.includes(fn) ? `Math.trunc(${text})` : text;
  }

  private block(body: readonly SimtStmt[]): void {
    for (const s of body) this.statement(s);
  }

  /** One that each thread goes through by itself. */
  private statement(s: SimtStmt): void {
    switch (s.k) {
      case "let":
        this.declare(s.v.id, s.value ? this.value(s.value) : "NaN");
        break;
      case "set":
        this.print(`${this.register(s.v.id)} = ${this.value(s.value)};`);
        break;
      case "store":
        this.print(`put(${this.buffer({ k: "buffer", number: s.buffer })}, ${this.value(s.at)}, ${this.value(s.value)});`);
        break;
      case "storeShared":
        this.print(`put(${this.buffer({ k: "shared", number: s.array })}, ${this.value(s.at)}, ${this.value(s.value)});`);
        break;
      case "loadVector": {
        const first = `v${s.to[0].id}`;
        this.print(`const ${first} = aligned(${this.value(s.at)}, ${s.to.length});`);
        for (const [i, v] of s.to.entries()) this.declare(v.id, `at(${this.buffer(s.from)}, ${first} + ${i})`);
        break;
      }
      case "storeVector":
        this.print(`{ const v = aligned(${this.value(s.at)}, ${s.values.length});`);
        for (const [i, v] of s.values.entries()) this.print(`put(${this.buffer(s.to)}, v + ${i}, ${this.value(v)});`);
        this.print("}");
        break;
      case "copy": {
        const [to, from] = [this.buffer({ k: "shared", number: s.array }), this.buffer({ k: "buffer", number: s.buffer })];
        const isInside = s.isInside ? this.value(s.isInside) : "true";
        this.print(`copy(${this.copies()}, ${to}, ${this.value(s.to)}, ${from}, ${this.value(s.from)}, ${s.count}, ${isInside});`);
        break;
      }
      case "commitCopies":
        this.print(`${this.copies()}.commit();`);
        break;
      case "copiesDone":
        this.print(`${this.copies()}.wait(${s.pending});`);
        break;
      case "if":
        this.print(`if (${this.value(s.cond)}) {`);
        this.block(s.then);
        this.print("} else {");
        this.block(s.otherwise);
        this.print("}");
        break;
      case "for": {
        this.print(`for (let i${s.v.id} = ${this.value(s.from)}; i${s.v.id} < ${this.value(s.to)}; i${s.v.id} += ${s.step}) {`);
        this.declare(s.v.id, `i${s.v.id}`);
        this.block(s.body);
        this.print("}");
        break;
      }
      default:
        // A subgroup's fragments are worked on by its first thread.
        this.print(`if (t % 32 === 0) ${this.fragment(s as FragmentStmt)};`); // the others meet
    }
  }

  /** Place in a fragment of the thread's element i. */
  private elementOf(i: number): string {
    const { row, column } = fragmentPlace(i);
    return `${this.value(row)} * ${FRAGMENT} + ${this.value(column)}`;
  }

  /** What was computed is there when all have met. No other exchange uses the same list, so that they need not meet again. */
  private exchange(register: number, { a, by }: Extract<Reg, { k: "exchange" }>): void {
    const list = `exchanged[${this.exchanges++}]`;
    this.print(`${list}[t] = ${this.value(a)};`);
    this.close();
    this.declare(register, `${list}[t ^ ${by}]`);
  }

  private fragment(s: FragmentStmt): string {
    const of = this.fragmentOf(s.k === "multiply" ? s.sum : s.fragment);
    switch (s.k) {
      case "fragment":
        return `${of} = new Float64Array(${FRAGMENT * FRAGMENT})`;
      case "loadFragment": {
        const unit = s.fragment.dtype === "f32" ? 4 : 8; // elements of 16 bytes
        invariant(s.stride % unit === 0, `${this.kernel.name}: a fragment of stride ${s.stride}`);
        const from = this.buffer({ k: "shared", number: s.array });
        return `loadFragment(${of}, ${from}, aligned(${this.value(s.at)}, ${unit}), ${s.isTransposed ? `1, ${s.stride}` : `${s.stride}, 1`})`;
      }
      case "multiply":
        return `multiply(${of}, ${this.fragmentOf(s.a)}, ${this.fragmentOf(s.b)})`;
      case "storeFragment":
        return `storeFragment(${of}, ${this.buffer({ k: "shared", number: s.array })}, ${this.value(s.at)}, ${s.stride})`;
      default:
        return s satisfies never;
    }
  }
}

const scripts = new WeakMap<SimtKernel, Script>();

/** The kernel's script. */
export function scriptOf(kernel: SimtKernel): Script {
  const known = scripts.get(kernel);
  if (known) return known;
  const kept = new Set<number>();
  new Printer(kernel, kept).script(); // finds what is to be kept
  const script = new Printer(kernel, kept).script();
  scripts.set(kernel, script);
  return script;
}
