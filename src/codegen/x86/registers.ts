// Live intervals to registers by linear scan; what does not fit lives in the stack frame, the cheapest first, and the scan runs again.
import { invariant } from "../../ir/error.ts";
import { READS_OPERAND, ROLE_BITS, ROLE_MASK } from "./lifetimes.ts";
import type { Program, Step } from "./program.ts";
import { planReloads } from "./reloads.ts";
import { INTEGER, type Variable, VECTOR } from "./variables.ts";

export interface Frame {
  /** Bytes below the saved registers, a multiple of 64; 0: none. */
  readonly bytes: number;
  /** Integer registers that the caller wants back. */
  readonly saved: readonly number[];
}

// Free ones first; rsp is never given away. rbp and r13 make longer addresses, so they come last.
const INTEGER_ORDER = [0, 1, 2, 8, 9, 10, 11, 6, 7, 3, 14, 15, 12, 5, 13];
const ALL_INTEGERS = 0xffff & ~(1 << 4);
const CALLEE_SAVED = [3, 5, 12, 13, 14, 15];
/** Where the ABI passes the arguments: rdi, rsi. */
const [ARGS_REGISTER, TID_REGISTER] = [7, 6];
const MAX_ROUNDS = 24;

/** Gives every variable and temporary of the program a register, or a place in the frame. */
export function allocateRegisters(program: Program): Frame {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const scan = new Scan(program);
    const spilled = scan.run();
    if (!spilled.length) return layOut(program, scan.usedIntegers);
    for (const v of spilled) program.variables.isSpilled[v] = 1;
    planReloads(program);
  }
  throw new Error(`${program.kernel.name}: register allocation does not end`);
}

/** One pass over the moments 2·step and 2·step+1. Free registers are bits of a number for each kind. */
class Scan {
  usedIntegers = 0;
  private freeIntegers = ALL_INTEGERS;
  private freeVectors: number;
  /** First variable that begins or ends at a moment, and the next one after a variable; -1: none. */
  private readonly begins: Int32Array;
  private readonly nextToBegin: Int32Array;
  private readonly ends: Int32Array;
  private readonly nextToEnd: Int32Array;
  /** Who has a register of each kind, and in which order they got it. */
  private readonly holders = [new Int32Array(32).fill(-1), new Int32Array(32).fill(-1)];
  private readonly since: Int32Array;
  private placed = 0;
  private readonly spilled: Variable[] = [];

  constructor(private readonly program: Program) {
    this.freeVectors = program.isAvx512 ? -1 : 0xffff;
    const { count, start, end, isSpilled } = program.variables;
    const moments = 2 * program.steps.length;
    this.begins = new Int32Array(moments).fill(-1);
    this.ends = new Int32Array(moments).fill(-1);
    this.nextToBegin = new Int32Array(count);
    this.nextToEnd = new Int32Array(count);
    this.since = new Int32Array(count);
    for (let v = 0; v < count; v++) if (end[v] >= 0 && isSpilled[v] === 0) this.enqueue(v, start[v]);
  }

  /** Heavier ones first. */
  private enqueue(v: Variable, moment: number): void {
    const { begins, nextToBegin } = this;
    const { weight } = this.program.variables;
    let before = -1;
    let after = begins[moment];
    while (after >= 0 && weight[after] >= weight[v]) {
      before = after;
      after = nextToBegin[after];
    }
    nextToBegin[v] = after;
    if (before < 0) begins[moment] = v;
    else nextToBegin[before] = v;
  }

  /** Returns the variables that have to live in memory. */
  run(): readonly Variable[] {
    const { begins, nextToBegin, ends, nextToEnd } = this;
    const { steps } = this.program;
    for (let i = 0; i < steps.length; i++) {
      const step = steps[i];
      const hasTemps = step.vectorTemps + step.integerTemps > 0 || step.reloads !== undefined;
      if (hasTemps) this.takeTemps(step);
      for (let moment = 2 * i; moment <= 2 * i + 1; moment++) {
        for (let v = begins[moment]; v >= 0; v = nextToBegin[v]) this.place(v);
        for (let v = ends[moment]; v >= 0; v = nextToEnd[v]) this.release(v);
      }
      if (hasTemps) this.releaseTemps(step);
    }
    return this.spilled;
  }

  private place(v: Variable): void {
    const { vectors, register, end } = this.program.variables;
    const kind = v < vectors ? VECTOR : INTEGER;
    register[v] = -1;
    if ((kind === VECTOR ? this.freeVectors : this.freeIntegers) === 0 && this.evict(kind, v) === v) return;
    const r = kind === VECTOR ? this.vectorFor(v) : this.integerFor(v);
    this.take(kind, r);
    register[v] = r;
    this.holders[kind][r] = v;
    this.since[v] = this.placed++;
    this.nextToEnd[v] = this.ends[end[v]];
    this.ends[end[v]] = v;
  }
  private take(kind: number, r: number): void {
    if (kind === VECTOR) this.freeVectors &= ~(1 << r);
    else {
      this.freeIntegers &= ~(1 << r);
      this.usedIntegers |= 1 << r;
    }
  }
  private free(kind: number, r: number): void {
    if (kind === VECTOR) this.freeVectors |= 1 << r;
    else this.freeIntegers |= 1 << r;
  }
  private release(v: Variable): void {
    const { vectors, register } = this.program.variables;
    const r = register[v];
    if (r < 0) return; // evicted
    const kind = v < vectors ? VECTOR : INTEGER;
    this.holders[kind][r] = -1;
    this.free(kind, r);
  }

  /** A register that something ending here leaves behind saves a move. */
  private vectorFor(v: Variable): number {
    const { steps, uses, variables } = this.program;
    const birth = variables.birth[v];
    if (birth < 0) return this.anyVector();
    const { uses: first, usesEnd } = steps[birth];
    for (let i = first; i < usesEnd; i++) {
      const use = uses[i];
      if ((use & ROLE_MASK) !== READS_OPERAND) break; // operands come first
      const r = variables.register[use >> ROLE_BITS];
      if (r >= 0 && (this.freeVectors >> r) & 1) return r;
    }
    return this.anyVector();
  }
  private anyVector(): number {
    return 31 - Math.clz32(this.freeVectors & -this.freeVectors);
  }
  private integerFor(v: Variable): number {
    const { args, tid } = this.program;
    if (v === args) return ARGS_REGISTER;
    return v === tid ? TID_REGISTER : this.anyInteger();
  }
  private anyInteger(): number {
    for (let i = 0; i < INTEGER_ORDER.length; i++) if ((this.freeIntegers >> INTEGER_ORDER[i]) & 1) return INTEGER_ORDER[i];
    throw new Error("no free register");
  }

  /** Sends the cheapest of those that have a register, and of v, to memory. v -1: a temporary, which cannot go. */
  private evict(kind: number, v: Variable): Variable {
    const { register } = this.program.variables;
    let victim = v;
    for (const holder of this.holders[kind]) if (holder >= 0 && (victim < 0 || this.isCheaper(holder, victim))) victim = holder;
    invariant(victim >= 0, "one statement needs more registers than there are");
    this.spilled.push(victim);
    if (victim === v) return v;
    const r = register[victim];
    this.holders[kind][r] = -1;
    this.free(kind, r);
    register[victim] = -1;
    return victim;
  }
  /** Fewer (loop-weighted) accesses for the time it holds a register first; constants cost no store; of equals the longer-lived, then whoever came last or first. */
  private isCheaper(a: Variable, b: Variable): boolean {
    const { end, register } = this.program.variables;
    const costA = this.cost(a);
    const costB = this.cost(b);
    if (costA !== costB) return costA < costB;
    if (end[a] !== end[b]) return end[a] > end[b];
    return register[b] >= 0 && this.since[a] < this.since[b];
  }
  private cost(v: Variable): number {
    const { weight, start, end, constants } = this.program.variables;
    return weight[v] / (constants[v] ? 2 : 1) / (end[v] - start[v] + 1);
  }

  // ---- temporaries: registers during one step

  private takeTemps(step: Step): void {
    const { temps } = this.program;
    for (let i = 0; i < step.vectorTemps; i++) temps[step.temps + i] = this.takeAny(VECTOR);
    for (let i = 0; i < step.integerTemps; i++) temps[step.temps + step.vectorTemps + i] = this.takeAny(INTEGER);
    for (const reload of step.reloads ?? []) reload.register = this.takeAny(this.program.variables.kind(reload.variable));
  }
  private takeAny(kind: number): number {
    if ((kind === VECTOR ? this.freeVectors : this.freeIntegers) === 0) this.evict(kind, -1);
    const r = kind === VECTOR ? this.anyVector() : this.anyInteger();
    this.take(kind, r);
    return r;
  }
  private releaseTemps(step: Step): void {
    const { temps, variables } = this.program;
    for (let i = 0; i < step.vectorTemps; i++) this.free(VECTOR, temps[step.temps + i]);
    for (let i = 0; i < step.integerTemps; i++) this.free(INTEGER, temps[step.temps + step.vectorTemps + i]);
    for (const { variable, register } of step.reloads ?? []) this.free(variables.kind(variable), register);
  }
}

function layOut({ variables, isAvx512 }: Program, usedIntegers: number): Frame {
  const vectorBytes = isAvx512 ? 64 : 32;
  let bytes = 0;
  for (const kind of [VECTOR, INTEGER]) {
    for (let v = 0; v < variables.count; v++) {
      if (!variables.isSpilled[v] || variables.kind(v) !== kind || variables.constants[v]) continue;
      variables.slot[v] = bytes;
      bytes += kind === VECTOR ? vectorBytes : 8;
    }
  }
  return { bytes, saved: CALLEE_SAVED.filter((r) => (usedIntegers >> r) & 1) };
}
