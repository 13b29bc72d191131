// Live intervals to registers by linear scan; what does not fit lives in the stack frame, the cheapest first, and the scan runs again.
import { invariant } from "../../ir/error.ts";
import { OPERATIONS } from "./operations.ts";
import { newVariable, type Program, type Step, type Variable } from "./steps.ts";

export interface Frame {
  /** Bytes below the saved registers, a multiple of 64; 0: none. */
  readonly bytes: number;
  /** Integer registers that the caller wants back. */
  readonly saved: readonly number[];
}

// Free ones first; rsp is never given away. rbp and r13 make longer addresses, so they come last.
const INTEGER_ORDER = [0, 1, 2, 8, 9, 10, 11, 6, 7, 3, 14, 15, 12, 5, 13];
const CALLEE_SAVED = [3, 5, 12, 13, 14, 15];
const VECTOR_ORDER = Array.from({ length: 32 }, (_, i) => i);
const MAX_ROUNDS = 24;

/** Gives every variable and temporary of the program a register, or a place in the frame. */
export function allocateRegisters(program: Program): Frame {
  const vectorOrder = program.isAvx512 ? VECTOR_ORDER : VECTOR_ORDER.slice(0, 16);
  program.args.fixedWish = 7; // rdi
  program.tid.fixedWish = 6; // rsi
  const alive = program.variables.filter((v) => v.end >= 0);
  for (let round = 0; ; round++) {
    invariant(round < MAX_ROUNDS, `${program.kernel.name}: register allocation does not end`);
    const intervals = alive.filter((v) => !v.isSpilled);
    for (const { temps, reloads } of program.steps) {
      if (temps.length) intervals.push(...temps);
      if (reloads) intervals.push(...reloads.values());
    }
    intervals.sort((a, b) => a.start - b.start || b.weight - a.weight);
    const spilled = [
      ...scan(
        intervals.filter((v) => v.isVec),
        vectorOrder,
      ),
      ...scan(
        intervals.filter((v) => !v.isVec),
        INTEGER_ORDER,
      ),
    ];
    if (!spilled.length) return layOut(alive, intervals, program.isAvx512);
    for (const v of spilled) v.isSpilled = true;
    for (const step of program.steps) planReloads(step, program.isAvx512);
  }
}

/** One pass. Returns the variables that have to live in memory. */
function scan(intervals: readonly Variable[], order: readonly number[]): Variable[] {
  let free = order.reduce((set, r) => set | (1 << r), 0);
  let active: Variable[] = [];
  const spilled: Variable[] = [];
  let nextEnd = Number.POSITIVE_INFINITY;
  for (const v of intervals) {
    v.register = -1;
    if (nextEnd < v.start) {
      nextEnd = Number.POSITIVE_INFINITY;
      active = active.filter((a) => {
        if (a.end < v.start) {
          free |= 1 << a.register;
          return false;
        }
        if (a.end < nextEnd) nextEnd = a.end;
        return true;
      });
    }
    if (free === 0) {
      const victim = active.reduce((worst, a) => (isCheaper(a, worst) ? a : worst), v);
      invariant(victim.weight !== Number.POSITIVE_INFINITY, "one statement needs more registers than there are");
      spilled.push(victim);
      if (victim === v) continue;
      free |= 1 << victim.register;
      victim.register = -1;
      active.splice(active.indexOf(victim), 1);
    }
    v.register = choose(v, free, order);
    free &= ~(1 << v.register);
    active.push(v);
    if (v.end < nextEnd) nextEnd = v.end;
  }
  return spilled;
}

/** Fewer (loop-weighted) accesses first; constants cost no store; of equals the longer-lived. */
function isCheaper(a: Variable, b: Variable): boolean {
  const costA = a.constant ? a.weight / 2 : a.weight;
  const costB = b.constant ? b.weight / 2 : b.weight;
  return costA < costB || (costA === costB && a.end > b.end);
}

function choose(v: Variable, free: number, order: readonly number[]): number {
  if (v.fixedWish >= 0 && (free >> v.fixedWish) & 1) return v.fixedWish;
  for (const wish of v.wishes) if (wish.register >= 0 && (free >> wish.register) & 1) return wish.register;
  for (const r of order) if ((free >> r) & 1) return r;
  throw new Error("no free register");
}

/** Decides which variables in memory a step must have in a register, and which operand its instruction takes from memory. */
function planReloads(step: Step, isAvx512: boolean): void {
  const reloads = new Map<Variable, Variable>();
  const at = 2 * step.index;
  const need = (v: Variable): void => {
    if (!v.isSpilled || reloads.has(v)) return;
    reloads.set(v, { ...newVariable(v.isVec), start: at, end: at + 1, weight: Number.POSITIVE_INFINITY });
  };
  step.memory = memoryOperand(step, isAvx512);
  for (const v of step.vecReads) if (v !== step.memory?.variable) need(v);
  // Spilled variables with a single constant write are never written: they come from the constant pool.
  for (const v of step.vecWrites) if (!v.constant) need(v);
  for (const v of step.baseReads) need(v);
  for (const v of step.intWrites) if (step.k !== "entry") need(v);
  step.reloads = reloads.size ? reloads : undefined;
}

function memoryOperand(step: Step, isAvx512: boolean): Step["memory"] {
  const { stmt } = step;
  if (stmt?.k !== "vec" || step.fold?.operand) return undefined;
  const row = OPERATIONS[stmt.op];
  for (const operand of row.memory) {
    const at = (["c", "a", "b"] as const).filter((o) => stmt[o] && !(o === "c" && step.fold?.compare)).indexOf(operand);
    const variable = step.vecReads[at];
    if (!variable?.isSpilled) continue;
    if (step.vecReads.filter((v) => v === variable).length > 1 || step.vecWrites.includes(variable)) continue;
    if (variable.constant && isAvx512 && row.avx512.broadcast !== 4) continue;
    return { operand, variable };
  }
  return undefined;
}

function layOut(variables: readonly Variable[], intervals: readonly Variable[], isAvx512: boolean): Frame {
  const vectorBytes = isAvx512 ? 64 : 32;
  let bytes = 0;
  for (const isVec of [true, false]) {
    for (const v of variables) {
      if (!v.isSpilled || v.isVec !== isVec || v.constant) continue;
      v.slot = bytes;
      bytes += isVec ? vectorBytes : 8;
    }
  }
  const used = new Set(intervals.filter((v) => !v.isVec).map((v) => v.register));
  return { bytes, saved: CALLEE_SAVED.filter((r) => used.has(r)) };
}
