// Runs SIMT kernels in JavaScript, thread by thread between barriers: for what no GPU of this machine has, such as matrix fragments and late copies.
import { DTYPES } from "../../src/ir/dtype.ts";
import { invariant } from "../../src/ir/error.ts";
import type { Value } from "../../src/ir/graph.ts";
import type { GpuKernel } from "../../src/ir/library_kernel.ts";
import { SCALAR } from "../../src/ir/scalar.ts";
import {
  FRAGMENT,
  fragmentPlace,
  type Reg,
  type RegisterFn,
  type SimtKernel,
  type SimtStmt,
  type SimtTarget,
  type Source,
} from "../../src/ir/simt.ts";
import type { Schedule } from "../../src/run/schedule.ts";

/** When asynchronous copies arrive: as soon as they start, or when they are waited for. Kernels must be right with both. */
export type Arrival = "early" | "late";

type Call = (...args: number[]) => number;
const bool = (b: boolean): number => (b ? 1 : 0);
const FUNCTIONS: Readonly<Partial<Record<RegisterFn, Call>>> = {
  add: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b, div: (a, b) => a / b, rem: (a, b) => a % b,
  min: Math.min, max: Math.max, neg: (a) => -a, fma: (a, b, c) => a * b + c, exp: Math.exp, exp2: (a) => 2 ** a, sqrt: Math.sqrt, log: Math.log,
  eq: (a, b) => bool(a === b), ne: (a, b) => bool(a !== b), lt: (a, b) => bool(a < b), le: (a, b) => bool(a <= b),
  gt: (a, b) => bool(a > b), ge: (a, b) => bool(a >= b), and: (a, b) => a & b, or: (a, b) => a | b, xor: (a, b) => a ^ b,
  tanh: Math.tanh, shl: (a, b) => a << b, shr: (a, b) => (a < 0 ? a >> b : a >>> b), isnan: (a) => bool(Number.isNaN(a)), abs: Math.abs, round: (a) => SCALAR.round.exact(a, 0),
}; // biome-ignore format: a table

const WORD = new DataView(new ArrayBuffer(4));
/** The same 32 bits as another type. */
function reinterpreted(value: number, from: Reg["type"], to: Reg["type"]): number {
  if (from === "f32") WORD.setFloat32(0, value);
  else WORD.setUint32(0, value >>> 0);
  return to === "f32" ? WORD.getFloat32(0) : to === "u32" ? WORD.getUint32(0) : WORD.getInt32(0);
}

interface Workgroup {
  readonly group: readonly number[];
  readonly shared: readonly Float64Array[];
  /** By thread. */
  readonly exchanged: Float64Array;
  /** Of each subgroup, by fragment number. */
  readonly fragments: readonly Map<number, Float64Array>[];
}

class Thread {
  private readonly registers = new Map<number, number>();
  /** Copies of the open group, and groups under way. */
  private open: (() => void)[] = [];
  private groups: (() => void)[][] = [];

  constructor(
    private readonly kernel: SimtKernel,
    private readonly buffers: readonly Float64Array[],
    private readonly place: readonly number[],
    private readonly number: number,
    private readonly own: Workgroup,
    private readonly arrival: Arrival,
  ) {}

  private get fragments(): Map<number, Float64Array> {
    return this.own.fragments[this.number >> 5];
  }

  value(a: Reg): number {
    switch (a.k) {
      case "num":
        return a.value;
      case "var": {
        const value = this.registers.get(a.v.id);
        invariant(value !== undefined, `register ${a.v.id} was never set`);
        return value;
      }
      case "place":
        return (a.of === "thread" ? this.place : this.own.group)[a.axis];
      case "call": {
        const call = a.fn === "mul" && a.type === "u32" ? Math.imul : FUNCTIONS[a.fn]; // 64 bits are more than a number holds
        invariant(call, `no ${a.fn}`);
        const result = call(...a.args.map((x) => this.value(x)));
        return a.type === "i32" ? Math.trunc(result) : a.type === "f32" ? Math.fround(result) : a.type === "u32" ? result >>> 0 : result;
      }
      case "cast":
        return a.type === "i32" ? Math.trunc(this.value(a.a)) : this.value(a.a);
      case "bits":
        return reinterpreted(this.value(a.a), a.a.type, a.type);
      case "select":
        return this.value(this.value(a.cond) ? a.a : a.b);
      case "load":
        return this.element(this.buffers[a.buffer], this.value(a.at));
      case "shared":
        return this.element(this.own.shared[a.array], this.value(a.at));
      default:
        throw new Error(`no ${a.k}`);
    }
  }
  private element(from: Float64Array, at: number): number {
    invariant(at >= 0 && at < from.length, `${this.kernel.name}: element ${at} of ${from.length}`);
    return from[at];
  }
  private put(to: Float64Array, at: number, value: number): void {
    this.element(to, at);
    to[at] = value;
  }
  private memory({ k, number }: Source): Float64Array {
    return k === "buffer" ? this.buffers[number] : this.own.shared[number];
  }

  /** Stops at barriers. */
  *run(body: readonly SimtStmt[]): Generator<void> {
    for (const s of body) yield* this.statement(s);
  }

  private *statement(s: SimtStmt): Generator<void> {
    switch (s.k) {
      case "let":
        if (s.value?.k === "exchange") yield* this.exchange(s.v.id, s.value);
        else if (s.value) this.registers.set(s.v.id, this.value(s.value));
        break;
      case "set":
        this.registers.set(s.v.id, this.value(s.value));
        break;
      case "store":
        this.put(this.buffers[s.buffer], this.value(s.at), this.value(s.value));
        break;
      case "storeShared":
        this.put(this.own.shared[s.array], this.value(s.at), this.value(s.value));
        break;
      case "loadVector": {
        const at = this.value(s.at);
        invariant(at % s.to.length === 0, `a vector of ${s.to.length} at ${at}`);
        for (const [i, v] of s.to.entries()) this.registers.set(v.id, this.element(this.memory(s.from), at + i));
        break;
      }
      case "storeVector": {
        const at = this.value(s.at);
        invariant(at % s.values.length === 0, `a vector of ${s.values.length} at ${at}`);
        for (const [i, v] of s.values.entries()) this.put(this.memory(s.to), at + i, this.value(v));
        break;
      }
      case "copy":
        this.copy(s);
        break;
      case "commitCopies":
        this.groups.push(this.open);
        this.open = [];
        break;
      case "copiesDone":
        for (const done of this.groups.splice(0, Math.max(0, this.groups.length - s.pending)).flat()) done();
        break;
      case "if":
        yield* this.run(this.value(s.cond) ? s.then : s.otherwise);
        break;
      case "for":
        for (let i = this.value(s.from); i < this.value(s.to); i += s.step) {
          this.registers.set(s.v.id, i);
          yield* this.run(s.body);
        }
        break;
      case "barrier":
        yield;
        break;
      case "readFragment":
        yield; // all products are done
        for (const [i, v] of s.to.entries()) this.registers.set(v.id, this.fragments.get(s.fragment.id)![this.elementOf(i)]); // declared before
        yield;
        break;
      case "writeFragment":
        for (const [i, v] of s.values.entries()) this.fragments.get(s.fragment.id)![this.elementOf(i)] = this.value(v); // declared before
        yield;
        break;
      default:
        // A subgroup's fragments are worked on by its first thread.
        if (this.number % 32 === 0) this.fragment(s);
    }
  }

  /** Place in a fragment of the thread's element i. */
  private elementOf(i: number): number {
    const { row, column } = fragmentPlace(i);
    return this.value(row) * FRAGMENT + this.value(column);
  }

  /** Meets the others twice: what was computed is there, and has been read. */
  private *exchange(register: number, { a, by }: Extract<Reg, { k: "exchange" }>): Generator<void> {
    this.own.exchanged[this.number] = this.value(a);
    yield;
    this.registers.set(register, this.own.exchanged[this.number ^ by]);
    yield;
  }

  private copy({ array, to, buffer, from, count, isInside }: Extract<SimtStmt, { k: "copy" }>): void {
    const [source, target] = [this.value(from), this.value(to)];
    invariant(source % count === 0 && target % count === 0, `a copy of ${count} from ${source} to ${target}`);
    const inside = !isInside || this.value(isInside);
    const values = Array.from({ length: count }, (_, i) => {
      const value = this.element(this.buffers[buffer], source + i);
      return inside ? value : 0;
    });
    const arrive = (): void => {
      for (const [i, v] of values.entries()) this.put(this.own.shared[array], target + i, v);
    };
    if (this.arrival === "early") arrive();
    else this.open.push(arrive);
  }

  private fragment(s: Extract<SimtStmt, { k: "fragment" | "loadFragment" | "multiply" | "storeFragment" }>): void {
    const { fragments } = this;
    const side = Array.from({ length: FRAGMENT }, (_, i) => i);
    switch (s.k) {
      case "fragment":
        fragments.set(s.fragment.id, new Float64Array(FRAGMENT * FRAGMENT));
        break;
      case "loadFragment": {
        const [to, at] = [fragments.get(s.fragment.id)!, this.value(s.at)]; // declared before
        const unit = s.fragment.dtype === "f32" ? 4 : 8; // elements of 16 bytes
        invariant(at % unit === 0 && s.stride % unit === 0, `a fragment at ${at}, stride ${s.stride}`);
        for (const r of side)
          for (const c of side)
            to[r * FRAGMENT + c] = this.element(this.own.shared[s.array], at + (s.isTransposed ? c * s.stride + r : r * s.stride + c));
        break;
      }
      case "multiply": {
        const [sum, a, b] = [s.sum, s.a, s.b].map((f) => fragments.get(f.id)!); // declared before
        for (const r of side)
          for (const c of side) for (const k of side) sum[r * FRAGMENT + c] += a[r * FRAGMENT + k] * b[k * FRAGMENT + c];
        break;
      }
      case "storeFragment": {
        const [from, at] = [fragments.get(s.fragment.id)!, this.value(s.at)]; // declared before
        for (const r of side) for (const c of side) this.put(this.own.shared[s.array], at + r * s.stride + c, from[r * FRAGMENT + c]);
        break;
      }
      default:
        s satisfies never;
    }
  }
}

/** Runs all workgroups. Shared memory begins as NaN: what is read was written. */
export function runKernel(kernel: SimtKernel, buffers: readonly Float64Array[], arrival: Arrival): void {
  const [w, g] = [kernel.workgroup, kernel.grid];
  const count = w[0] * w[1] * w[2];
  for (let id = 0; id < g[0] * g[1] * g[2]; id++) {
    const own: Workgroup = {
      group: [id % g[0], Math.floor(id / g[0]) % g[1], Math.floor(id / g[0] / g[1])],
      shared: kernel.shared.map((s) => new Float64Array(s.elements).fill(Number.NaN)),
      exchanged: new Float64Array(count),
      fragments: Array.from({ length: Math.ceil(count / 32) }, () => new Map()),
    };
    const perSet = buffers.length / (kernel.sets ?? 1);
    const ofSet = kernel.sets ? buffers.slice(own.group[2] * perSet, (own.group[2] + 1) * perSet) : buffers;
    let threads = Array.from({ length: count }, (_, t) => {
      const place = [t % w[0], Math.floor(t / w[0]) % w[1], Math.floor(t / w[0] / w[1])];
      return new Thread(kernel, ofSet, place, t, own, arrival).run(kernel.body);
    });
    while (threads.length > 0) {
      const waiting = threads.filter((t) => !t.next().done);
      invariant(waiting.length === 0 || waiting.length === threads.length, `${kernel.name}: not all threads meet at a barrier`);
      threads = waiting;
    }
  }
}

/** Runs a program's kernels; values in memory, with what was given. */
export function runSchedule(
  { steps, owners }: Schedule<GpuKernel>,
  given: ReadonlyMap<Value, Float64Array>,
): ReadonlyMap<Value, Float64Array> {
  const values = new Map(given);
  for (const { calls } of steps) {
    const temporaries = new Map<number, Float64Array>();
    for (const { kernel, places } of calls ?? []) {
      const { params } = kernel as SimtKernel; // there is no library
      const buffers = places.map((place, i) => {
        const known =
          place.k === "value"
            ? values.get(owners.get(place.value) ?? place.value)
            : place.k === "temporary"
              ? temporaries.get(place.id)
              : undefined;
        const buffer = known ?? new Float64Array(params[i].elements);
        if (place.k === "value") values.set(owners.get(place.value) ?? place.value, buffer);
        if (place.k === "temporary") temporaries.set(place.id, buffer);
        return buffer;
      });
      runKernel(kernel as SimtKernel, buffers, "late");
    }
  }
  return values;
}

/** What kernels are generated for, without libraries. */
export const H200: SimtTarget = {
  name: "cuda",
  subgroup: 32,
  maxThreads: 1024,
  sharedBytes: 227 << 10,
  units: 132,
  maxGroups: 65535,
  maxBuffers: 64,
  hasSets: true,
  fragments: ["f16", "bf16"],
  opensFragments: true,
  storedBytes: Object.fromEntries(Object.entries(DTYPES).map(([dtype, { bytes }]) => [dtype, bytes])),
};
