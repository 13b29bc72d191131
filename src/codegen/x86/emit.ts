// A kernel with lowered addresses to one machine-code function: void kernel(const uint64_t *args, uint64_t tid) of the System V ABI.
import { HeddleError, invariant } from "../../ir/error.ts";
import type { IntVar, Kernel, Pointer, PointerAddress, SimdTarget, Vec } from "../../ir/kernel.ts";
import { Assembler, CC, I, MEM, RAX, RDI, RSI, RSP, XMM, YMM, ZMM } from "./assembler.ts";
import type { Census } from "./census.ts";
import {
  addImmediate,
  compareAffine,
  compareImmediate,
  emitInt,
  emitLoadInt,
  emitPointer,
  evaluate,
  type IntegerContext,
} from "./emit_integer.ts";
import { emitExpand, emitGather, emitLoad, emitStore, type MemoryContext, presetMask } from "./emit_memory.ts";
import { constantOperand, emitConstant, emitVec, type VectorContext } from "./emit_vector.ts";
import { bitsOf, isInt32 } from "./needs.ts";
import type { Loop, PointerStmt, Program, Reload, Step, StmtOf } from "./program.ts";
import { allocateRegisters, type Frame } from "./registers.ts";
import { planSteps } from "./steps.ts";
import { type Variable, type Variables, VECTOR } from "./variables.ts";

/** Bytes that the heads of innermost loops are aligned to: half a cache line, what decoders fetch at once. */
const LOOP_ALIGNMENT = 32;
/** Frame of a wide division, see emit_integer.ts. */
const DIVISION_BYTES = 24;
/** Threads have stacks of some megabytes, and a frame must not reach beyond the page that guards them. */
const MAX_FRAME_BYTES = 256 << 10;

/** Assembles the kernel; with a listing when `isListing`. */
export function emitKernel(kernel: Kernel<PointerAddress>, target: SimdTarget, isListing = false): Assembler {
  invariant(
    target.name !== "wasm" && kernel.lanes === target.lanes,
    `${kernel.name}: kernel for ${kernel.lanes} lanes, target ${target.name}`,
  );
  const program = planSteps(kernel, target);
  const frame = allocateRegisters(program);
  return new Emitter(program, frame, isListing).emit();
}

class Emitter implements IntegerContext, MemoryContext, VectorContext {
  readonly asm: Assembler;
  readonly isAvx512: boolean;
  readonly census: Census;
  readonly registers: Int8Array;
  step: Step;
  /** Number of the step. */
  private now = 0;
  private readonly variables: Variables;
  private readonly branches: { otherwise: number; end: number }[] = [];
  private readonly frameBytes: number;

  constructor(
    private readonly program: Program,
    private readonly frame: Frame,
    isListing: boolean,
  ) {
    this.asm = new Assembler(isListing);
    this.isAvx512 = program.isAvx512;
    this.census = program.census;
    this.variables = program.variables;
    this.registers = program.variables.register;
    this.step = program.steps[0];
    const division = program.usesDivision ? DIVISION_BYTES : 0;
    const bytes = frame.bytes + division;
    // The caller's rsp is kept above the spilled values.
    this.frameBytes = bytes ? (bytes + 8 + 63) & ~63 : 0;
    if (this.frameBytes > MAX_FRAME_BYTES)
      throw new HeddleError(
        "limit",
        `kernel ${program.kernel.name}: it needs ${this.frameBytes} bytes of stack, the limit is ${MAX_FRAME_BYTES}`,
      );
  }

  emit(): Assembler {
    const { steps } = this.program;
    for (this.now = 0; this.now < steps.length; this.now++) {
      const step = steps[this.now];
      this.step = step;
      if (step.reloads) this.reload(step.reloads);
      if (step.k === "stmt") {
        this.emitStatement(step.stmt as PointerStmt); // such a step has one
        if (step.reloads) this.storeBack(step.reloads);
      } else this.emitStructure(step);
    }
    this.epilogue();
    return this.asm;
  }

  private emitStructure(step: Step): void {
    switch (step.k) {
      case "entry":
        this.prologue();
        break;
      case "loop":
        this.loopHead(step.loop as Loop); // loop steps have one
        break;
      case "endloop":
        this.loopEnd(step.loop as Loop);
        break;
      default:
        this.branch(step);
    }
  }

  // ---- operands

  intVariable(v: IntVar): Variable {
    const x = this.program.ints.get(v.id);
    invariant(x !== undefined, "an integer is read but never written");
    return x;
  }
  register(v: Variable): number {
    const r = this.registers[v];
    return r >= 0 ? r : this.reloaded(v);
  }
  private reloaded(v: Variable): number {
    const reload = this.step.reloads?.find((r) => r.variable === v);
    invariant(reload, `${this.program.kernel.name}: a variable without a register in step ${this.now}`);
    return reload.register;
  }
  temp(i: number): number {
    const { temps, vectorTemps, integerTemps } = this.step;
    return i < vectorTemps + integerTemps ? this.program.temps[temps + i] : -1;
  }
  place(v: Variable): number {
    const r = this.registers[v];
    return r >= 0 ? r : this.slot(v);
  }
  private slot(v: Variable): number {
    return this.asm.at(RSP, this.variables.slot[v]);
  }
  divisionFrame(): number {
    return this.frame.bytes;
  }
  vec(v: Vec): number {
    const r = this.registers[v.id];
    return r >= 0 ? r : this.register(this.variables.ofVector(v));
  }
  constantOf(v: Vec): StmtOf<"const"> | undefined {
    return this.variables.constants[this.variables.ofVector(v)];
  }
  private pointer(p: Pointer): Variable {
    const x = this.program.pointers[p.id];
    invariant(x !== undefined, "a pointer is never set");
    return x;
  }
  address({ pointer, disp }: PointerAddress, more = 0): number {
    const at = disp + more;
    if (!isInt32(at)) invariant(false, `${this.program.kernel.name}: displacement ${at} beyond 2 GB`);
    const indexed = this.program.indexed.get(pointer.id);
    if (!indexed) return this.asm.at(this.register(this.pointer(pointer)), at);
    return this.asm.at(this.register(this.pointer(indexed.base)), at, this.register(this.intVariable(indexed.index)), indexed.factor);
  }
  memory(): number {
    const { load, memoryVariable } = this.step;
    if (!load) return this.spilledOperand(memoryVariable);
    this.address(load.from);
    return load.mode === "splat" ? this.asm.broadcast() : MEM;
  }
  private spilledOperand(v: Variable): number {
    const constant = this.variables.constants[v];
    return constant ? constantOperand(this.asm, this.isAvx512, bitsOf(constant.type, constant.value)) : this.slot(v);
  }

  // ---- variables in memory

  private reload(reloads: readonly Reload[]): void {
    const { asm, variables } = this;
    for (const { variable, register, isRead } of reloads) {
      if (!isRead) continue;
      const constant = variables.constants[variable];
      if (constant) emitConstant(asm, this.isAvx512, constant, register);
      else if (variables.kind(variable) === VECTOR) asm.vec(I.vmovups, this.isAvx512 ? ZMM : YMM, register, 0, this.slot(variable));
      else asm.op(I.mov, register, this.slot(variable));
    }
  }
  private storeBack(reloads: readonly Reload[]): void {
    const { asm, variables } = this;
    for (const { variable, register, isWritten } of reloads) {
      if (!isWritten) continue;
      if (variables.kind(variable) === VECTOR) asm.vec(I.vmovups_store, this.isAvx512 ? ZMM : YMM, register, 0, this.slot(variable));
      else asm.op(I.mov_store, register, this.slot(variable));
    }
  }

  // ---- the function around the body

  private prologue(): void {
    const { asm } = this;
    asm.comment(`${this.program.kernel.name}: rdi addresses of ${this.program.kernel.params.map((p) => p.name).join(", ")}; rsi thread`);
    for (const r of this.frame.saved) asm.op(I.push, r);
    if (this.frameBytes) {
      asm.op(I.mov, RAX, RSP);
      asm.op(I.sub_imm, 0, RSP, this.frameBytes);
      asm.op(I.and_imm8, 0, RSP, -64);
      asm.op(I.mov_store, RAX, asm.at(RSP, this.frameBytes - 8));
    }
    for (const [bits, k] of this.census.maskRegisters) presetMask(asm, k, bits, RAX);
    const { args, tid } = this.program;
    if (this.registers[args] < 0) asm.op(I.mov_store, RDI, this.slot(args));
    if (this.registers[tid] < 0) asm.op(I.mov_store, RSI, this.slot(tid));
  }
  private epilogue(): void {
    const { asm } = this;
    if (this.frameBytes) asm.op(I.mov, RSP, asm.at(RSP, this.frameBytes - 8));
    for (const r of [...this.frame.saved].reverse()) asm.op(I.pop, r);
    asm.vec(I.vzeroupper, XMM, 0, 0, 0);
    asm.op(I.ret);
  }

  // ---- structure

  private branch(step: Step): void {
    const { asm } = this;
    const stmt = step.stmt as StmtOf<"if">; // the planner made it so
    if (step.k === "if") {
      const otherwise = asm.label();
      this.branches.push({ otherwise, end: asm.label() });
      asm.jcc(compareAffine(this, stmt.a, stmt.b), otherwise);
      return;
    }
    const labels = this.branches[this.branches.length - 1];
    if (step.k === "else") {
      if (stmt.otherwise.length) asm.jmp(labels.end);
      asm.bind(labels.otherwise);
    } else {
      asm.bind(labels.end);
      this.branches.pop();
    }
  }

  private loopHead(loop: Loop): void {
    const { asm } = this;
    const { stmt, counter, bound } = loop;
    const counterRegister = this.register(counter);
    const scratch = this.temp(0);
    loop.head = asm.label();
    loop.exit = asm.label();
    if (asm.isListing) asm.comment(loopText(loop, this.program.kernel.threads));
    if (stmt.k === "parallel" && this.program.kernel.threads > 1) this.share(stmt.extent, counterRegister, this.register(bound), scratch);
    else {
      const from = stmt.k === "for" ? stmt.from : { base: 0, terms: [] };
      const to = stmt.k === "for" ? stmt.to : { base: stmt.extent, terms: [] };
      if (loop.countsDown) evaluate(this, counterRegister, loop.distance, scratch);
      else {
        evaluate(this, counterRegister, from, scratch);
        if (bound >= 0) evaluate(this, this.register(bound), to, scratch);
      }
    }
    if (this.step.reloads) this.storeBack(this.step.reloads);
    if (loop.needsEntryTest) {
      if (loop.countsDown) compareImmediate(asm, counterRegister, 0);
      else if (bound >= 0) asm.op(I.cmp, counterRegister, this.register(bound));
      else compareImmediate(asm, counterRegister, loop.limit);
      asm.jcc(loop.countsDown ? CC.le : CC.ge, loop.exit);
    }
    if (loop.isInnermost) asm.align(LOOP_ALIGNMENT);
    asm.bind(loop.head);
  }

  /** This thread's part of [0, extent). */
  private share(extent: number, from: number, to: number, scratch: number): void {
    const { asm } = this;
    const { threads } = this.program.kernel;
    const chunk = Math.ceil(extent / threads);
    asm.op(I.imul_imm, from, this.place(this.program.tid), chunk);
    asm.op(I.mov, to, from);
    addImmediate(asm, to, chunk, scratch);
    if (chunk * threads === extent) return;
    asm.op(I.mov_const32, scratch, 0, extent);
    asm.op(I.cmp, to, scratch);
    asm.cmov(CC.g, to, scratch);
  }

  private loopEnd(loop: Loop): void {
    const { asm } = this;
    const { counter, bound, stmt } = loop;
    const step = stmt.k === "for" ? stmt.step : 1;
    if (loop.countsDown) {
      addImmediate(asm, this.place(counter), -loop.stride, -1);
      asm.jcc(CC.g, loop.head);
    } else {
      addImmediate(asm, this.place(counter), step, -1);
      if (bound < 0) compareImmediate(asm, this.place(counter), loop.limit);
      else if (this.registers[counter] < 0) asm.op(I.cmp_store, this.register(bound), this.slot(counter));
      else asm.op(I.cmp, this.registers[counter], this.register(bound));
      asm.jcc(CC.l, loop.head);
    }
    asm.bind(loop.exit);
  }

  // ---- statements

  private emitStatement(s: PointerStmt): void {
    const { asm } = this;
    switch (s.k) {
      case "vec":
        emitVec(this, s);
        break;
      case "load":
        emitLoad(this, s, this.vec(s.dst));
        break;
      case "store":
        emitStore(this, s, this.vec(s.src));
        break;
      case "pointer":
        this.pointerStatement(s);
        break;
      case "const": {
        const isInPool = this.registers[s.dst.id] < 0 && this.variables.constants[s.dst.id];
        if (!isInPool) emitConstant(asm, this.isAvx512, s, this.vec(s.dst));
        break;
      }
      case "iota":
        this.iota(s);
        break;
      case "gather":
        emitGather(this, s, this.vec(s.dst), this.vec(s.index), this.register(this.pointer(s.from.pointer)));
        break;
      case "expand":
        emitExpand(this, s, this.vec(s.dst));
        break;
      case "prefetch":
        asm.op(s.level === 1 ? I.prefetcht0 : I.prefetcht1, 0, this.address(s.at));
        break;
      case "int":
        emitInt(this, s);
        break;
      case "loadint":
        emitLoadInt(this, s, this.pointer(s.from.pointer));
        break;
      case "for":
      case "parallel":
      case "if":
        throw new Error("structured statements are steps of their own");
      default:
        s satisfies never;
    }
  }

  private pointerStatement(s: StmtOf<"pointer">): void {
    const pointer = this.pointer(s.pointer);
    // A bump that nothing reads any more: the last iteration of an unrolled loop.
    if (this.variables.end[pointer] <= 2 * this.now + 1) return;
    const source = "buffer" in s.from ? this.program.args : this.pointer(s.from.pointer);
    emitPointer(this, s, pointer, source);
  }

  private iota(s: StmtOf<"iota">): void {
    const { asm, isAvx512 } = this;
    const dst = this.vec(s.dst);
    const lanes = isAvx512 ? 16 : 8;
    const len = isAvx512 ? ZMM : YMM;
    const base = s.a.terms.length ? 0 : s.a.base;
    const words = Array.from({ length: lanes }, (_, i) => (base + i * s.step) | 0);
    if (!s.a.terms.length) {
      asm.vec(I.vmovups, len, dst, 0, asm.constant(words));
      return;
    }
    const value = this.temp(0);
    evaluate(this, value, s.a, this.temp(1));
    if (isAvx512) asm.vec(I.vpbroadcastd_r, len, dst, 0, value);
    else {
      asm.vec(I.vmovd, XMM, dst, 0, value);
      asm.vec(I.vpbroadcastd, len, dst, 0, dst);
    }
    asm.vec(I.vpaddd, len, dst, dst, asm.constant(words));
  }
}

function loopText(loop: Loop, threads: number): string {
  const { stmt } = loop;
  if (stmt.k === "parallel") return `parallel v${stmt.v.id} in 0..${stmt.extent} over ${threads}`;
  const text = (a: StmtOf<"for">["from"]): string =>
    [...a.terms.map((t) => (t.c === 1 ? `v${t.v.id}` : `${t.c}·v${t.v.id}`)), ...(a.base || !a.terms.length ? [a.base] : [])].join(" + ");
  return `for v${stmt.v.id} in ${text(stmt.from)}..${text(stmt.to)} step ${stmt.step}`;
}
