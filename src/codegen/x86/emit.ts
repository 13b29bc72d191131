// A kernel with lowered addresses to one machine-code function: void kernel(const uint64_t *args, uint64_t tid) of the System V ABI.
import { invariant } from "../../ir/error.ts";
import type { IntVar, Kernel, PointerAddress, SimdTarget, Vec } from "../../ir/kernel.ts";
import { Assembler, CC, I, MEM, RAX, RSP, XMM, YMM, ZMM } from "./assembler.ts";
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
import { emitGather, emitLoad, emitStore, type MemoryContext, presetMask } from "./emit_memory.ts";
import { constantOperand, emitConstant, emitVec, type VectorContext } from "./emit_vector.ts";
import { bitsOf, isInt32 } from "./needs.ts";
import { allocateRegisters, type Frame } from "./registers.ts";
import { type Loop, type Program, planSteps, type Step, type StmtOf, type Variable } from "./steps.ts";

/** Bytes that the heads of innermost loops are aligned to: half a cache line, what decoders fetch at once. */
const LOOP_ALIGNMENT = 32;
/** Frame of a wide division, see emit_integer.ts. */
const DIVISION_BYTES = 24;

/** Assembles the kernel; with a listing when `isListing`. */
export function emitKernel(kernel: Kernel<PointerAddress>, target: SimdTarget, isListing = false): Assembler {
  invariant(
    target.name !== "wasm" && kernel.lanes === target.lanes,
    `${kernel.name}: kernel for ${kernel.lanes} lanes, target ${target.name}`,
  );
  const program = planSteps(kernel, target.name === "avx512");
  const frame = allocateRegisters(program);
  return new Emitter(program, frame, isListing).emit();
}

class Emitter implements IntegerContext, MemoryContext, VectorContext {
  readonly asm: Assembler;
  readonly isAvx512: boolean;
  readonly census: Census;
  step: Step;
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
    this.step = program.steps[0];
    const division = usesDivision(program) ? DIVISION_BYTES : 0;
    const bytes = frame.bytes + division;
    // The caller's rsp is kept above the spilled values.
    this.frameBytes = bytes ? (bytes + 8 + 63) & ~63 : 0;
  }

  emit(): Assembler {
    for (const step of this.program.steps) {
      this.step = step;
      this.reload();
      this.emitStep(step);
    }
    this.epilogue();
    return this.asm;
  }

  private emitStep(step: Step): void {
    switch (step.k) {
      case "entry":
        this.prologue();
        break;
      case "stmt":
        this.emitStatement(step);
        this.storeBack();
        break;
      case "loop":
        this.loopHead(step, step.loop as Loop); // loop steps have one
        break;
      case "endloop":
        this.loopEnd(step.loop as Loop);
        break;
      case "if":
      case "else":
      case "endif":
        this.branch(step);
        break;
      default:
        step.k satisfies never;
    }
  }

  // ---- operands

  intVariable(v: IntVar): Variable {
    const x = this.program.ints.get(v.id);
    invariant(x, `integer ${v.id} is read but never written`);
    return x;
  }
  register(v: Variable): number {
    const r = v.isSpilled ? this.step.reloads?.get(v)?.register : v.register;
    invariant(r !== undefined && r >= 0, `${this.program.kernel.name}: a variable without a register in step ${this.step.index}`);
    return r;
  }
  place(v: Variable): number {
    return v.isSpilled ? this.slot(v) : v.register;
  }
  private slot(v: Variable): number {
    return this.asm.at(RSP, v.slot);
  }
  divisionFrame(): number {
    return this.frame.bytes;
  }
  vec(v: Vec): number {
    const x = this.program.vecs.get(v.id);
    invariant(x, `vector ${v.id} is read but never written`);
    return this.register(x);
  }
  constantOf(v: Vec): StmtOf<"const"> | undefined {
    return this.program.vecs.get(v.id)?.constant;
  }
  private pointer(a: PointerAddress): Variable {
    const x = this.program.pointers.get(a.pointer.id);
    invariant(x, `pointer ${a.pointer.id} is never set`);
    return x;
  }
  address(a: PointerAddress, more = 0): number {
    const disp = a.disp + more;
    invariant(isInt32(disp), `${this.program.kernel.name}: displacement ${disp} beyond 2 GB`);
    return this.asm.at(this.register(this.pointer(a)), disp);
  }
  isMemory(operand: "a" | "b" | "c"): boolean {
    return this.step.fold?.operand === operand || this.step.memory?.operand === operand;
  }
  memory(): number {
    const { fold, memory } = this.step;
    if (fold?.load) {
      const { from, mode } = fold.load;
      this.address(from);
      return mode === "splat" ? this.asm.atBroadcast(this.register(this.pointer(from)), from.disp) : MEM;
    }
    invariant(memory, "no memory operand");
    return this.spilledOperand(memory.variable);
  }
  private spilledOperand(v: Variable): number {
    return v.constant ? constantOperand(this.asm, this.isAvx512, bitsOf(v.constant.type, v.constant.value)) : this.slot(v);
  }

  // ---- variables in memory

  private reload(): void {
    const { step, asm } = this;
    if (!step.reloads) return;
    for (const [v, temp] of step.reloads) {
      if (v.isVec && step.vecReads.includes(v)) {
        if (v.constant) emitConstant(asm, this.isAvx512, v.constant, temp.register);
        else asm.vec(I.vmovups, this.isAvx512 ? ZMM : YMM, temp.register, 0, this.slot(v));
      } else if (!v.isVec && step.baseReads.includes(v)) asm.op(I.mov, temp.register, this.slot(v));
    }
  }
  private storeBack(): void {
    const { step, asm } = this;
    if (!step.reloads) return;
    for (const v of step.vecWrites) {
      if (v.isSpilled && !v.constant) asm.vec(I.vmovups_store, this.isAvx512 ? ZMM : YMM, this.register(v), 0, this.slot(v));
    }
    for (const v of step.intWrites) if (v.isSpilled) asm.op(I.mov_store, this.register(v), this.slot(v));
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
    for (const [lanes, k] of this.census.maskRegisters) presetMask(asm, k, lanes, RAX);
    const { args, tid } = this.program;
    for (const v of [args, tid]) {
      if (v.isSpilled) asm.op(I.mov_store, v.fixedWish, this.slot(v));
      else invariant(v.register === v.fixedWish, "the ABI's registers are free at entry");
    }
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

  private loopHead(step: Step, loop: Loop): void {
    const { asm } = this;
    const { stmt, counter, bound } = loop;
    const counterRegister = this.register(counter);
    const scratch = step.temps[0]?.register ?? -1;
    loop.head = asm.label();
    loop.exit = asm.label();
    asm.comment(loopText(loop, this.program.kernel.threads));
    if (stmt.k === "parallel" && this.program.kernel.threads > 1)
      this.share(stmt.extent, counterRegister, this.register(bound as Variable), scratch); // shared loops have a bound
    else {
      const from = stmt.k === "for" ? stmt.from : { base: 0, terms: [] };
      const to = stmt.k === "for" ? stmt.to : { base: stmt.extent, terms: [] };
      if (loop.countsDown) evaluate(this, counterRegister, loop.distance, scratch);
      else {
        evaluate(this, counterRegister, from, scratch);
        if (bound) evaluate(this, this.register(bound), to, scratch);
      }
    }
    this.storeBack();
    if (loop.needsEntryTest) {
      if (loop.countsDown) compareImmediate(asm, counterRegister, 0);
      else if (bound) asm.op(I.cmp, counterRegister, this.register(bound));
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
      if (!bound) compareImmediate(asm, this.place(counter), loop.limit);
      else if (counter.isSpilled) asm.op(I.cmp_store, this.register(bound), this.slot(counter));
      else asm.op(I.cmp, counter.register, this.register(bound));
      asm.jcc(CC.l, loop.head);
    }
    asm.bind(loop.exit);
  }

  // ---- statements

  private emitStatement(step: Step): void {
    const s = step.stmt;
    invariant(s, "a statement step has a statement");
    const { asm } = this;
    switch (s.k) {
      case "const": {
        const v = this.program.vecs.get(s.dst.id);
        if (!v?.isSpilled || !v.constant) emitConstant(asm, this.isAvx512, s, this.vec(s.dst));
        return;
      }
      case "iota":
        this.iota(s);
        break;
      case "load":
        emitLoad(this, s, this.vec(s.dst));
        break;
      case "gather":
        emitGather(this, s, this.vec(s.dst), this.vec(s.index), this.register(this.pointer(s.from)));
        break;
      case "store":
        emitStore(this, s, this.vec(s.src));
        break;
      case "prefetch":
        asm.op(I.prefetcht0, 0, this.address(s.at));
        break;
      case "vec":
        emitVec(this, s);
        break;
      case "int":
        emitInt(this, s);
        break;
      case "loadint":
        emitLoadInt(this, s, this.pointer(s.from));
        break;
      case "pointer":
        this.pointerStatement(s);
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
    const pointer = this.pointer({ pointer: s.pointer, disp: 0 });
    // A bump that nothing reads any more: the last iteration of an unrolled loop.
    if (pointer.end <= 2 * this.step.index + 1) return;
    const source = "buffer" in s.from ? this.program.args : this.pointer({ pointer: s.from.pointer, disp: 0 });
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
    const [value, scratch] = this.step.temps.map((t) => t.register);
    evaluate(this, value, s.a, scratch);
    if (isAvx512) asm.vec(I.vpbroadcastd_r, len, dst, 0, value);
    else {
      asm.vec(I.vmovd, XMM, dst, 0, value);
      asm.vec(I.vpbroadcastd, len, dst, 0, dst);
    }
    asm.vec(I.vpaddd, len, dst, dst, asm.constant(words));
  }
}

const usesDivision = (program: Program): boolean =>
  program.steps.some(({ stmt }) => stmt?.k === "int" && (stmt.op === "div" || stmt.op === "mod"));

function loopText(loop: Loop, threads: number): string {
  const { stmt } = loop;
  if (stmt.k === "parallel") return `parallel v${stmt.v.id} in 0..${stmt.extent} over ${threads}`;
  const text = (a: StmtOf<"for">["from"]): string =>
    [...a.terms.map((t) => (t.c === 1 ? `v${t.v.id}` : `${t.c}·v${t.v.id}`)), ...(a.base || !a.terms.length ? [a.base] : [])].join(" + ");
  return `for v${stmt.v.id} in ${text(stmt.from)}..${text(stmt.to)} step ${stmt.step}`;
}
