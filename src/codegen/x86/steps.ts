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
  type SimdTarget,
  times,
  type Vec,
} from "../../ir/kernel.ts";
import { type Census, takeCensus } from "./census.ts";
import { type Folds, planFolds } from "./fold.ts";
import { type Indexed, planIndexed } from "./indexed.ts";
import {
  Lifetimes,
  READS_BASE,
  READS_INTEGER,
  READS_OPERAND,
  READS_VECTOR,
  UPDATES_INTEGER,
  WRITES_INTEGER,
  WRITES_VECTOR,
} from "./lifetimes.ts";
import { bitsOf, isInt32, loadTemps, maskTemps, needsScratch, operationTemps, pointerTemps, storeTemps } from "./needs.ts";
import type { Loop, PointerStmt, Program, Step, StmtOf } from "./program.ts";
import { type Variable, Variables } from "./variables.ts";

/** Numbers the kernel's statements and finds every variable's interval. */
export function planSteps(kernel: Kernel<PointerAddress>, target: SimdTarget): Program {
  return new Planner(kernel, target).plan();
}

const ZERO: Affine = { base: 0, terms: [] };

class Planner {
  private readonly steps: Step[] = [];
  private usesBegin = 0;
  private temps = 0;
  private readonly isAvx512: boolean;
  private readonly census: Census;
  private readonly folds: Folds;
  private readonly indexed: ReadonlyMap<number, Indexed>;
  private readonly variables: Variables;
  private readonly lifetimes: Lifetimes;
  private readonly pointers: (Variable | undefined)[] = [];
  private readonly ints = new Map<number, Variable>();
  private readonly args: Variable;
  private readonly tid: Variable;
  private innermost: Loop | undefined;
  private usesDivision = false;

  constructor(
    private readonly kernel: Kernel<PointerAddress>,
    target: SimdTarget,
  ) {
    const isAvx512 = target.name === "avx512";
    this.isAvx512 = isAvx512;
    this.census = takeCensus(kernel, isAvx512);
    this.folds = planFolds(kernel, this.census, isAvx512);
    this.indexed = planIndexed(kernel, target);
    this.variables = new Variables(this.census.reads.length, this.census.integers);
    this.lifetimes = new Lifetimes(this.variables);
    this.args = this.variables.add();
    this.tid = this.variables.add();
  }

  plan(): Program {
    this.integerWrite(this.args);
    this.integerWrite(this.tid);
    this.step("entry", undefined);
    this.hoistConstants();
    this.block(this.kernel.body);
    this.lifetimes.finish();
    const { kernel, isAvx512, census, steps, variables, pointers, indexed, ints, args, tid, usesDivision } = this;
    const { uses } = this.lifetimes;
    const temps = new Int8Array(this.temps);
    return { kernel, isAvx512, census, steps, uses, temps, variables, pointers, indexed, ints, args, tid, usesDivision };
  }

  /** Sets each constant once, before everything, in one register for equal ones. Where registers run out they are the cheapest to leave in memory. */
  private hoistConstants(): void {
    const known = new Map<number, Variable>();
    for (const stmt of this.census.constants) {
      const bits = bitsOf(stmt.type, stmt.value);
      const same = known.get(bits);
      if (same !== undefined) {
        this.variables.share(stmt.dst, same);
        continue;
      }
      this.vectorWrite(stmt.dst);
      const v = stmt.dst.id;
      this.variables.constants[v] = stmt;
      known.set(bits, v);
      this.step("stmt", stmt);
    }
  }

  // ---- uses: noted before the step that they belong to

  private pointer(p: Pointer): Variable {
    const v = this.pointers[p.id];
    if (v === undefined) invariant(false, "a pointer is read but never set");
    return v;
  }
  private newPointer(p: Pointer): Variable {
    const known = this.pointers[p.id];
    if (known !== undefined) return known;
    const made = this.variables.add();
    this.pointers[p.id] = made;
    return made;
  }
  private newInteger(v: IntVar): Variable {
    const known = this.ints.get(v.id);
    if (known !== undefined) return known;
    const made = this.variables.add();
    this.ints.set(v.id, made);
    return made;
  }

  private vectorWrite({ id }: Vec): void {
    this.lifetimes.write(id, WRITES_VECTOR); // what is written is not shared
  }
  private baseRead(p: Pointer): void {
    const indexed = this.indexed.get(p.id);
    this.lifetimes.read(this.pointer(indexed?.base ?? p), READS_BASE);
    if (indexed) this.lifetimes.read(this.integerOf(indexed.index), READS_BASE);
  }
  private integerOf({ id }: IntVar): Variable {
    const v = this.ints.get(id);
    invariant(v !== undefined, "an integer is read but never written");
    return v;
  }
  private termReads({ terms }: Affine): void {
    for (let i = 0; i < terms.length; i++) this.lifetimes.read(this.integerOf(terms[i].v), READS_INTEGER);
  }
  private integerWrite(v: Variable): void {
    this.lifetimes.write(v, WRITES_INTEGER);
  }
  private integerUpdate(v: Variable): void {
    this.lifetimes.read(v, UPDATES_INTEGER);
    this.lifetimes.write(v, UPDATES_INTEGER);
  }

  // ---- steps

  /** Ends a step: what was read and written since the one before is its. */
  private step(k: Step["k"], stmt: PointerStmt | undefined, vectorTemps = 0, integerTemps = 0): Step {
    const { lifetimes, usesBegin, temps } = this;
    const usesEnd = lifetimes.uses.length;
    const step: Step = {
      k,
      stmt,
      uses: usesBegin,
      usesEnd,
      temps,
      vectorTemps,
      integerTemps,
      loop: undefined,
      comparison: undefined,
      load: undefined,
      memory: undefined,
      memoryVariable: -1,
      reloads: undefined,
    };
    this.steps.push(step);
    this.usesBegin = usesEnd;
    this.temps = temps + vectorTemps + integerTemps;
    lifetimes.step++;
    return step;
  }

  private block(stmts: readonly PointerStmt[]): void {
    for (let i = 0; i < stmts.length; i++) {
      const s = stmts[i];
      if (s.k !== "vec") this.statement(s);
      else if (this.folds[s.dst.id] !== s) this.operation(s);
    }
  }

  private statement(s: Exclude<PointerStmt, { k: "vec" }>): void {
    switch (s.k) {
      case "load":
        if (this.folds[s.dst.id] === s) break;
        this.baseRead(s.from.pointer);
        this.vectorWrite(s.dst);
        this.step("stmt", s, loadTemps(s), maskTemps(s, this.census, this.isAvx512));
        break;
      case "store":
        this.lifetimes.read(this.variables.ofVector(s.src), READS_VECTOR);
        this.baseRead(s.to.pointer);
        this.step("stmt", s, storeTemps(s, this.isAvx512), maskTemps(s, this.census, this.isAvx512));
        break;
      case "const":
        if (this.census.writes[s.dst.id] === 1) break; // hoisted, or never read
        this.vectorWrite(s.dst);
        this.step("stmt", s);
        break;
      case "gather":
        this.lifetimes.read(this.variables.ofVector(s.index), READS_VECTOR);
        this.baseRead(s.from.pointer);
        this.vectorWrite(s.dst);
        this.step("stmt", s, this.isAvx512 ? 1 : 2, maskTemps(s, this.census, this.isAvx512));
        break;
      case "expand":
        this.baseRead(s.from.pointer);
        this.baseRead(s.bits.pointer);
        this.vectorWrite(s.dst);
        this.step("stmt", s);
        break;
      case "iota":
        this.termReads(s.a);
        this.vectorWrite(s.dst);
        this.step("stmt", s, 0, s.a.terms.length === 0 ? 0 : 2);
        break;
      case "prefetch":
        this.baseRead(s.at.pointer);
        this.step("stmt", s);
        break;
      case "loadint":
        this.baseRead(s.from.pointer);
        this.integerWrite(this.newInteger(s.v));
        this.step("stmt", s, 0, 1);
        break;
      case "int":
        this.integer(s);
        break;
      case "pointer":
        this.pointerStatement(s);
        break;
      case "for":
      case "parallel":
        this.loopStatement(s);
        break;
      case "if":
        this.branch(s);
        break;
      default:
        s satisfies never;
    }
  }

  private operation(s: StmtOf<"vec">): void {
    const { lifetimes, variables, folds } = this;
    const { a, b, c, dst } = s;
    const foldedA = folds[a.id];
    const foldedB = b && folds[b.id];
    const foldedC = c && folds[c.id];
    // The result takes over an operand's register where it can: of c rather than of a or b.
    if (c && !foldedC) lifetimes.read(variables.ofVector(c), READS_OPERAND);
    if (!foldedA) lifetimes.read(variables.ofVector(a), READS_OPERAND);
    if (b && !foldedB) lifetimes.read(variables.ofVector(b), READS_OPERAND);
    const comparison = foldedC?.k === "vec" ? foldedC : undefined;
    const load = comparison ? (foldedA ?? foldedB) : (foldedC ?? foldedA ?? foldedB);
    if (comparison) {
      lifetimes.read(variables.ofVector(comparison.a), READS_VECTOR);
      if (comparison.b) lifetimes.read(variables.ofVector(comparison.b), READS_VECTOR);
    }
    if (load?.k === "load") this.baseRead(load.from.pointer);
    if (variables.end[dst.id] < 0) variables.birth[dst.id] = lifetimes.step;
    lifetimes.write(dst.id, WRITES_VECTOR);
    const step = this.step("stmt", s, operationTemps(s));
    step.comparison = comparison;
    if (load?.k !== "load") return;
    step.load = load;
    step.memory = load === foldedA ? "a" : load === foldedB ? "b" : "c";
  }

  private integer(s: StmtOf<"int">): void {
    this.termReads(s.a);
    this.termReads(s.b);
    this.integerWrite(this.newInteger(s.v));
    if (s.op === "div" || s.op === "mod") this.usesDivision = true;
    this.step("stmt", s, 0, s.op !== "set" ? 2 : needsScratch(s.a) ? 1 : 0);
  }

  private pointerStatement(s: StmtOf<"pointer">): void {
    const { from, add } = s;
    if (this.indexed.has(s.pointer.id)) return;
    const p = this.newPointer(s.pointer);
    if ("buffer" in from) this.lifetimes.read(this.args, READS_BASE);
    this.termReads(add);
    if ("pointer" in from && from.pointer.id === s.pointer.id && add.terms.length === 0 && isInt32(add.base)) this.integerUpdate(p);
    else {
      if ("pointer" in from) this.lifetimes.read(this.pointer(from.pointer), READS_INTEGER);
      this.integerWrite(p);
    }
    this.step("stmt", s, 0, pointerTemps(s));
  }

  // ---- structure

  private branch(stmt: StmtOf<"if">): void {
    const difference = plus(stmt.a, times(stmt.b, -1));
    if (!difference.terms.length) {
      this.block(difference.base < 0 ? stmt.body : stmt.otherwise);
      return;
    }
    const { lifetimes } = this;
    this.termReads(difference);
    lifetimes.openCondition();
    this.step("if", stmt, 0, 2);
    this.block(stmt.body);
    lifetimes.otherwise();
    this.step("else", stmt);
    this.block(stmt.otherwise);
    lifetimes.closeCondition();
    this.step("endif", stmt);
  }

  private loopStatement(stmt: StmtOf<"for"> | StmtOf<"parallel">): void {
    const isShared = stmt.k === "parallel" && this.kernel.threads > 1;
    const from = stmt.k === "for" ? stmt.from : ZERO;
    const to = stmt.k === "for" ? stmt.to : { base: stmt.extent, terms: [] };
    const step = stmt.k === "for" ? stmt.step : 1;
    const isUsed = this.census.isIntUsed(stmt.v);
    const isConstant = !isShared && !from.terms.length && !to.terms.length;
    if (isConstant && to.base <= from.base) return;
    if (isConstant && from.base + step >= to.base) {
      if (isUsed) this.integer({ k: "int", v: stmt.v, op: "set", a: from, b: ZERO, shift: 0 });
      this.block(stmt.body);
      return;
    }
    const countsDown = !isUsed && !isShared;
    const hasBound = !countsDown && !(isConstant && isInt32(to.base));
    const loop: Loop = {
      stmt,
      bound: hasBound ? this.variables.add() : -1,
      counter: isUsed ? this.newInteger(stmt.v) : this.variables.add(),
      countsDown,
      limit: to.base,
      distance: isConstant ? { base: Math.ceil((to.base - from.base) / step), terms: [] } : plus(to, times(from, -1)),
      stride: isConstant ? 1 : step,
      needsEntryTest: !isConstant && (isShared || rangeOf(to)[0] <= rangeOf(from)[1]),
      isInnermost: true,
      head: -1,
      exit: -1,
    };
    const needsTemp = isShared || needsScratch(loop.distance) || needsScratch(from) || needsScratch(to);
    if (isShared) this.lifetimes.read(this.tid, READS_INTEGER);
    else {
      this.termReads(from);
      this.termReads(to);
    }
    this.loopSteps(loop, needsTemp ? 1 : 0);
  }

  private loopSteps(loop: Loop, temps: number): void {
    const { lifetimes } = this;
    const { stmt, counter, bound, needsEntryTest } = loop;
    this.integerWrite(counter);
    if (bound >= 0) this.integerWrite(bound);
    lifetimes.openLoop(needsEntryTest);
    this.step("loop", stmt, 0, temps).loop = loop;
    this.innermost = loop;
    this.block(stmt.body);
    if (this.innermost !== loop) loop.isInnermost = false;
    if (bound >= 0) this.lifetimes.read(bound, READS_BASE);
    this.integerUpdate(counter);
    lifetimes.closeLoop(needsEntryTest);
    this.step("endloop", stmt).loop = loop;
  }
}
