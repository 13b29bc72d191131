// A structured kernel to a linear list of steps, each with the variables it reads and writes, and the interval in which each variable is alive.
import { invariant } from "../../ir/error.ts";
import {
  type Affine,
  type IntVar,
  type Kernel,
  type Pointer,
  type PointerAddress,
  plus,
  rangeOf,
  type Stmt,
  times,
  type Vec,
} from "../../ir/kernel.ts";
import { type Census, takeCensus } from "./census.ts";
import { type Fold, planFolds } from "./fold.ts";
import { bitsOf, intTempsOf, isInt32, needsScratch, vecTempsOf } from "./needs.ts";

export type PointerStmt = Stmt<PointerAddress>;
export type StmtOf<K extends PointerStmt["k"]> = Extract<PointerStmt, { k: K }>;

/** What registers are given to: a vector, an integer or pointer, or a temporary of one step. */
export interface Variable {
  readonly isVec: boolean;
  /** First and last moment of life: 2·step when read, 2·step+1 when written. */
  start: number;
  end: number;
  /** Cost of keeping it in memory: accesses, each loop around one counting tenfold. */
  weight: number;
  /** Register, -1: none. */
  register: number;
  /** Byte offset in the frame when it lives in memory, -1: it does not. */
  slot: number;
  isSpilled: boolean;
  /** Registers it would like: those of variables that die where it is born, or one that the ABI fixes. */
  readonly wishes: Variable[];
  fixedWish: number;
  /** Set when the only write is this constant: then it can be had from the constant pool at any time. */
  constant?: StmtOf<"const">;
}

/** A loop in steps. */
export interface Loop {
  readonly stmt: StmtOf<"for"> | StmtOf<"parallel">;
  /** The loop variable, or a counter that runs down to zero when nothing reads the variable. */
  readonly counter: Variable;
  readonly countsDown: boolean;
  readonly bound: Variable | undefined;
  /** The constant bound where `bound` is not set. */
  readonly limit: number;
  /** What a counter that runs down starts from, and loses in each iteration. */
  readonly distance: Affine;
  readonly stride: number;
  readonly needsEntryTest: boolean;
  isInnermost: boolean;
  /** Labels of the emitter. */
  head: number;
  exit: number;
}

export interface Step {
  readonly k: "entry" | "stmt" | "loop" | "endloop" | "if" | "else" | "endif";
  readonly index: number;
  readonly stmt: PointerStmt | undefined;
  readonly loop: Loop | undefined;
  readonly fold: Fold | undefined;
  readonly vecReads: Variable[];
  readonly vecWrites: Variable[];
  /** Integers needed in a register, as the base of an address. */
  readonly baseReads: Variable[];
  /** Integers that may stay in memory. */
  readonly intReads: Variable[];
  readonly intWrites: Variable[];
  /** Integers changed in place: memory or register. */
  readonly intUpdates: Variable[];
  readonly temps: Variable[];
  /** Registers of this step for variables in memory. */
  reloads: Map<Variable, Variable> | undefined;
  /** The operand that the instruction takes straight from memory, of a variable in memory. */
  memory: { readonly operand: "a" | "b" | "c"; readonly variable: Variable } | undefined;
}

export interface Program {
  readonly kernel: Kernel<PointerAddress>;
  readonly isAvx512: boolean;
  readonly census: Census;
  readonly steps: readonly Step[];
  readonly vecs: ReadonlyMap<number, Variable>;
  readonly ints: ReadonlyMap<number, Variable>;
  readonly pointers: ReadonlyMap<number, Variable>;
  readonly variables: readonly Variable[];
  readonly args: Variable;
  readonly tid: Variable;
}

/** Variables that a block may read before writing them, writes always, writes at all. */
interface Flow {
  readonly exposed: Set<Variable>;
  readonly killed: Set<Variable>;
  readonly written: Set<Variable>;
}
const newFlow = (): Flow => ({ exposed: new Set(), killed: new Set(), written: new Set() });

function append(to: Flow, next: Flow, isDefinite: boolean): void {
  for (const v of next.exposed) if (!to.killed.has(v)) to.exposed.add(v);
  if (isDefinite) for (const v of next.killed) to.killed.add(v);
  for (const v of next.written) to.written.add(v);
}

export function newVariable(isVec: boolean): Variable {
  return { isVec, start: Number.MAX_SAFE_INTEGER, end: -1, weight: 0, register: -1, slot: -1, isSpilled: false, wishes: [], fixedWish: -1 };
}

function lookUp(variables: Map<number, Variable>, id: number, isVec: boolean): Variable {
  let v = variables.get(id);
  if (!v) {
    v = newVariable(isVec);
    variables.set(id, v);
  }
  return v;
}

/** Numbers the kernel's statements and finds every variable's interval. */
export function planSteps(kernel: Kernel<PointerAddress>, isAvx512: boolean): Program {
  return new Planner(kernel, isAvx512).plan();
}

class Planner {
  private readonly steps: Step[] = [];
  private readonly vecs = new Map<number, Variable>();
  private readonly ints = new Map<number, Variable>();
  private readonly pointers = new Map<number, Variable>();
  private readonly hidden: Variable[] = [];
  private readonly loops: { readonly begin: number; readonly end: number; readonly flow: Flow }[] = [];
  private readonly census: Census;
  private readonly args = newVariable(false);
  private readonly tid = newVariable(false);
  private weight = 1;
  private innermost: Loop | undefined;

  constructor(
    private readonly kernel: Kernel<PointerAddress>,
    private readonly isAvx512: boolean,
  ) {
    this.census = takeCensus(kernel, isAvx512);
  }

  plan(): Program {
    const flow = newFlow();
    this.hidden.push(this.args, this.tid);
    this.finish(this.step("entry", { intWrites: [this.args, this.tid] }), flow);
    this.hoistConstants(flow);
    this.block(this.kernel.body, flow);
    this.extendOverLoops();
    const { kernel, isAvx512, census, steps, vecs, ints, pointers, args, tid } = this;
    const variables = [...this.hidden, ...pointers.values(), ...ints.values(), ...new Set(vecs.values())];
    return { kernel, isAvx512, census, steps, vecs, ints, pointers, variables, args, tid };
  }

  /** Sets each constant once, before everything, in one register for equal ones. Where registers run out they are the cheapest to leave in memory. */
  private hoistConstants(flow: Flow): void {
    const known = new Map<number, Variable>();
    for (const stmt of this.census.constants) {
      const bits = bitsOf(stmt.type, stmt.value);
      const same = known.get(bits);
      if (same) {
        this.vecs.set(stmt.dst.id, same);
        continue;
      }
      const v = this.vec(stmt.dst);
      v.constant = stmt;
      known.set(bits, v);
      this.finish(this.step("stmt", { stmt, vecWrites: [v] }), flow);
    }
  }

  // ---- variables

  private vec(v: Vec): Variable {
    return lookUp(this.vecs, v.id, true);
  }
  private int(v: IntVar): Variable {
    return lookUp(this.ints, v.id, false);
  }
  private pointer(p: Pointer): Variable {
    return lookUp(this.pointers, p.id, false);
  }
  private terms(...affines: Affine[]): Variable[] {
    return affines.flatMap((a) => a.terms.map((t) => this.int(t.v)));
  }

  // ---- steps

  private step(k: Step["k"], parts: Partial<Step> = {}, temps: readonly [vec: number, int: number] = [0, 0]): Step {
    const none: Variable[] = [];
    const step: Step = {
      k,
      index: this.steps.length,
      stmt: undefined,
      loop: undefined,
      fold: undefined,
      vecReads: none,
      vecWrites: none,
      baseReads: none,
      intReads: none,
      intWrites: none,
      intUpdates: none,
      temps: none,
      reloads: undefined,
      memory: undefined,
      ...parts,
    };
    if (temps[0] + temps[1] > 0) Object.assign(step, { temps: this.temporaries(temps) });
    this.steps.push(step);
    return step;
  }
  private temporaries([vec, int]: readonly [number, number]): Variable[] {
    const at = 2 * this.steps.length;
    return Array.from({ length: vec + int }, (_, i) => ({
      ...newVariable(i < vec),
      start: at,
      end: at + 1,
      weight: Number.POSITIVE_INFINITY,
    }));
  }

  /** Notes the step's accesses in the variables' intervals and in the block's flow. */
  private finish(step: Step, flow: Flow): void {
    const read = 2 * step.index;
    for (const list of [step.vecReads, step.baseReads, step.intReads, step.intUpdates]) {
      for (const v of list) {
        this.touch(v, read, read);
        if (!flow.killed.has(v)) flow.exposed.add(v);
      }
    }
    for (const list of [step.vecWrites, step.intWrites, step.intUpdates]) {
      for (const v of list) {
        // Integers are computed in several instructions: the result must not share a register with what is still read.
        this.touch(v, v.isVec ? read + 1 : read, read + 1);
        flow.killed.add(v);
        flow.written.add(v);
      }
    }
  }
  private touch(v: Variable, from: number, to: number): void {
    if (from < v.start) v.start = from;
    if (to > v.end) v.end = to;
    v.weight += this.weight;
  }

  private block(stmts: readonly PointerStmt[], flow: Flow): void {
    const folds = planFolds(stmts, this.census, this.isAvx512);
    for (const stmt of stmts) {
      if (folds.absorbed.has(stmt) || (stmt.k === "const" && this.census.vec(stmt.dst).writes === 1)) continue;
      if (stmt.k === "for" || stmt.k === "parallel") this.loopStmt(stmt, flow);
      else if (stmt.k === "if") this.branch(stmt, flow);
      else this.straight(stmt, folds.into.get(stmt), flow);
    }
  }

  private straight(stmt: PointerStmt, fold: Fold | undefined, flow: Flow): void {
    const parts = this.accesses(stmt, fold);
    const temps = [vecTempsOf(stmt, this.isAvx512), intTempsOf(stmt, this.census, this.isAvx512)] as const;
    this.finish(this.step("stmt", { stmt, fold, ...parts }, temps), flow);
  }

  private accesses(stmt: PointerStmt, fold: Fold | undefined): Partial<Step> {
    switch (stmt.k) {
      case "const":
        return { vecWrites: [this.vec(stmt.dst)] };
      case "iota":
        return { intReads: this.terms(stmt.a), vecWrites: [this.vec(stmt.dst)] };
      case "load":
        return { baseReads: [this.pointer(stmt.from.pointer)], vecWrites: [this.vec(stmt.dst)] };
      case "gather":
        return { baseReads: [this.pointer(stmt.from.pointer)], vecReads: [this.vec(stmt.index)], vecWrites: [this.vec(stmt.dst)] };
      case "store":
        return { baseReads: [this.pointer(stmt.to.pointer)], vecReads: [this.vec(stmt.src)] };
      case "prefetch":
        return { baseReads: [this.pointer(stmt.at.pointer)] };
      case "loadint":
        return { baseReads: [this.pointer(stmt.from.pointer)], intWrites: [this.int(stmt.v)] };
      case "int":
        return { intReads: this.terms(stmt.a, stmt.b), intWrites: [this.int(stmt.v)] };
      case "pointer":
        return this.pointerAccesses(stmt);
      case "vec":
        return this.vecAccesses(stmt, fold);
      case "for":
      case "parallel":
      case "if":
        throw new Error("structured statement");
      default:
        return stmt satisfies never;
    }
  }

  private pointerAccesses(stmt: StmtOf<"pointer">): Partial<Step> {
    const p = this.pointer(stmt.pointer);
    const intReads = this.terms(stmt.add);
    if ("buffer" in stmt.from) return { baseReads: [this.args], intReads, intWrites: [p] };
    const q = this.pointer(stmt.from.pointer);
    if (q === p)
      return stmt.add.terms.length || !isInt32(stmt.add.base) ? { intReads: [...intReads, p], intWrites: [p] } : { intUpdates: [p] };
    return { intReads: [...intReads, q], intWrites: [p] };
  }

  private vecAccesses(stmt: StmtOf<"vec">, fold: Fold | undefined): Partial<Step> {
    const dst = this.vec(stmt.dst);
    const vecReads: Variable[] = [];
    for (const operand of ["c", "a", "b"] as const) {
      const v = stmt[operand];
      if (!v || fold?.operand === operand || (fold?.compare && operand === "c")) continue;
      const x = this.vec(v);
      vecReads.push(x);
      if (x !== dst) dst.wishes.push(x);
    }
    if (fold?.compare) for (const v of [fold.compare.a, fold.compare.b]) if (v) vecReads.push(this.vec(v));
    return { vecReads, vecWrites: [dst], baseReads: fold?.load ? [this.pointer(fold.load.from.pointer)] : [] };
  }

  // ---- structure

  private branch(stmt: StmtOf<"if">, flow: Flow): void {
    const difference = plus(stmt.a, times(stmt.b, -1));
    if (!difference.terms.length) {
      this.block(difference.base < 0 ? stmt.body : stmt.otherwise, flow);
      return;
    }
    this.finish(this.step("if", { stmt, intReads: this.terms(difference) }, [0, 2]), flow);
    const then = newFlow();
    this.block(stmt.body, then);
    this.step("else", { stmt });
    const otherwise = newFlow();
    this.block(stmt.otherwise, otherwise);
    this.step("endif", { stmt });
    const merged: Flow = {
      exposed: new Set([...then.exposed, ...otherwise.exposed]),
      killed: new Set([...then.killed].filter((v) => otherwise.killed.has(v))),
      written: new Set([...then.written, ...otherwise.written]),
    };
    append(flow, merged, true);
  }

  private loopStmt(stmt: StmtOf<"for"> | StmtOf<"parallel">, flow: Flow): void {
    const isShared = stmt.k === "parallel" && this.kernel.threads > 1;
    const from = stmt.k === "for" ? stmt.from : { base: 0, terms: [] };
    const to = stmt.k === "for" ? stmt.to : { base: stmt.extent, terms: [] };
    const step = stmt.k === "for" ? stmt.step : 1;
    const isUsed = this.census.isIntUsed(stmt.v);
    const isConstant = !isShared && !from.terms.length && !to.terms.length;
    if (isConstant && to.base <= from.base) return;
    if (isConstant && from.base + step >= to.base) {
      if (isUsed) this.straight({ k: "int", v: stmt.v, op: "set", a: from, b: { base: 0, terms: [] } }, undefined, flow);
      this.block(stmt.body, flow);
      return;
    }
    const countsDown = !isUsed && !isShared;
    const counter = isUsed ? this.int(stmt.v) : this.hide();
    const bound = countsDown || (isConstant && isInt32(to.base)) ? undefined : this.hide();
    const mayBeEmpty = !isConstant && (isShared || rangeOf(to)[0] <= rangeOf(from)[1]);
    const loop: Loop = {
      stmt,
      counter,
      countsDown,
      bound,
      limit: to.base,
      distance: isConstant ? { base: Math.ceil((to.base - from.base) / step), terms: [] } : plus(to, times(from, -1)),
      stride: isConstant ? 1 : step,
      needsEntryTest: mayBeEmpty,
      isInnermost: true,
      head: -1,
      exit: -1,
    };
    const scratch = isShared || needsScratch(loop.distance) || needsScratch(from) || needsScratch(to) ? 1 : 0;
    const reads = isShared ? [this.tid] : this.terms(from, to);
    const begin = this.step("loop", { stmt, loop, intReads: reads, intWrites: bound ? [counter, bound] : [counter] }, [0, scratch]);
    this.finish(begin, flow);
    const body = newFlow();
    this.weight *= 10;
    this.innermost = loop;
    this.block(stmt.body, body);
    if (this.innermost !== loop) loop.isInnermost = false;
    const end = this.step("endloop", { stmt, loop, intUpdates: [counter], baseReads: bound ? [bound] : [] });
    this.finish(end, body);
    this.weight /= 10;
    this.loops.push({ begin: begin.index, end: end.index, flow: body });
    append(flow, body, !loop.needsEntryTest);
  }

  private hide(): Variable {
    const v = newVariable(false);
    this.hidden.push(v);
    return v;
  }

  /** What a loop's body may read from the previous iteration, or may leave as it was for what follows the loop, is alive in all of the loop. */
  private extendOverLoops(): void {
    const cover = (v: Variable, begin: number, end: number): void => {
      v.start = Math.min(v.start, 2 * begin + 1);
      v.end = Math.max(v.end, 2 * end + 1);
    };
    for (const { begin, end, flow } of this.loops) for (const v of flow.exposed) cover(v, begin, end);
    for (const { begin, end, flow } of this.loops) {
      for (const v of flow.written) if (!flow.killed.has(v) && v.end > 2 * end + 1) cover(v, begin, end);
    }
    for (const v of [...this.ints.values(), ...this.vecs.values(), ...this.pointers.values()])
      invariant(v.end >= v.start || v.end === -1, `${this.kernel.name}: interval`);
  }
}
