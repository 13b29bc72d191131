// Affine expressions, divisions, bounds and pointer arithmetic of the kernel language to integer instructions.
import { invariant } from "../../ir/error.ts";
import { type Affine, type IntVar, plus, rangeOf, times } from "../../ir/kernel.ts";
import { type Assembler, CC, I, MEM, RAX, RDX, RSP } from "./assembler.ts";
import { divisionPlan, isInt32 } from "./needs.ts";
import type { Step, StmtOf, Variable } from "./steps.ts";

/** Where integer code finds its operands: the emitter. */
export interface IntegerContext {
  readonly asm: Assembler;
  readonly step: Step;
  /** A register number, or MEM for a variable that lives in the frame. */
  place(v: Variable): number;
  /** The register of a variable in this step. */
  register(v: Variable): number;
  intVariable(v: IntVar): Variable;
  /** Frame offset of 24 bytes for a division by idiv. */
  divisionFrame(): number;
}

const isInt8 = (n: number): boolean => n >= -128 && n <= 127;

/** reg ← value. May change the flags. */
export function moveImmediate(asm: Assembler, reg: number, value: number): void {
  if (value === 0) asm.op(I.xor32, reg, reg);
  else if (value > 0 && value <= 0xffffffff) asm.op(I.mov_const32, reg, 0, value);
  else if (isInt32(value)) asm.op(I.mov_imm, 0, reg, value);
  else asm.movabs(reg, value);
}

/** rm += value, through `scratch` when it does not fit 32 bits. */
export function addImmediate(asm: Assembler, rm: number, value: number, scratch: number): void {
  if (value === 0) return;
  if (isInt8(value)) asm.op(I.add_imm8, 0, rm, value);
  else if (isInt32(value)) asm.op(I.add_imm, 0, rm, value);
  else {
    invariant(rm !== MEM, "an offset beyond 2 GB to a pointer in memory");
    asm.movabs(scratch, value);
    asm.op(I.add, rm, scratch);
  }
}

export function compareImmediate(asm: Assembler, rm: number, value: number): void {
  if (value === 0 && rm !== MEM) asm.op(I.test, rm, rm);
  else if (isInt8(value)) asm.op(I.cmp_imm8, 0, rm, value);
  else asm.op(I.cmp_imm, 0, rm, value);
}

/** dst ← a. `scratch` is another register, used where `needsScratch(a)`. */
export function evaluate(c: IntegerContext, dst: number, a: Affine, scratch: number): void {
  const { asm } = c;
  const terms = a.terms.map((t) => ({ variable: c.intVariable(t.v), c: t.c }));
  if (!terms.length) {
    moveImmediate(asm, dst, a.base);
    return;
  }
  // A variable that the result replaces goes first; else one without a factor.
  let first = terms.findIndex((t) => t.variable.register === dst);
  if (first < 0)
    first = Math.max(
      0,
      terms.findIndex((t) => t.c === 1),
    );
  const [head] = terms.splice(first, 1);
  if (head.c === 1 && !terms.length && a.base !== 0 && isInt32(a.base) && head.variable.register >= 0 && head.variable.register !== dst) {
    asm.op(I.lea, dst, asm.at(head.variable.register, a.base));
    return;
  }
  moveProduct(c, dst, head.variable, head.c);
  addTerms(c, dst, terms, scratch);
  addImmediate(asm, dst, a.base, scratch);
}

/** dst ← v · factor. */
function moveProduct(c: IntegerContext, dst: number, v: Variable, factor: number): void {
  const { asm } = c;
  const power = Math.log2(factor);
  if (factor === 1 || (factor > 1 && factor <= 2 ** 30 && Number.isInteger(power))) {
    if (v.register !== dst) asm.op(I.mov, dst, c.place(v));
    if (factor > 1) asm.op(I.shl, 0, dst, power);
  } else if (isInt8(factor)) asm.op(I.imul_imm8, dst, c.place(v), factor);
  else if (isInt32(factor)) asm.op(I.imul_imm, dst, c.place(v), factor);
  else {
    invariant(v.register !== dst, "a factor beyond 32 bits");
    asm.movabs(dst, factor);
    asm.op(I.imul, dst, c.place(v));
  }
}

function addTerms(c: IntegerContext, dst: number, terms: readonly { variable: Variable; c: number }[], scratch: number): void {
  const { asm } = c;
  for (const t of terms) {
    if (t.c === 1) asm.op(I.add, dst, c.place(t.variable));
    else if (t.c === -1) asm.op(I.sub, dst, c.place(t.variable));
    else if ((t.c === 2 || t.c === 4 || t.c === 8) && t.variable.register >= 0)
      asm.op(I.lea, dst, asm.at(dst, 0, t.variable.register, t.c));
    else {
      moveProduct(c, scratch, t.variable, t.c);
      asm.op(I.add, dst, scratch);
    }
  }
}

const tempOf = (c: IntegerContext, i: number): number => c.step.temps[i]?.register ?? -1;

/** The `pointer` statement: from a parameter's address or another pointer, or a bump in place. */
export function emitPointer(c: IntegerContext, stmt: StmtOf<"pointer">, pointer: Variable, source: Variable): void {
  const { asm } = c;
  const { base, terms } = stmt.add;
  const scratch = tempOf(c, 0);
  if ("pointer" in stmt.from && source === pointer) {
    if (!terms.length && isInt32(base)) {
      addImmediate(asm, c.place(pointer), base, scratch);
      return;
    }
    const dst = c.register(pointer);
    if (pointer.isSpilled) asm.op(I.mov, dst, c.place(pointer));
    const sum = terms.map((t) => ({ variable: c.intVariable(t.v), c: t.c }));
    addTerms(c, dst, sum, scratch);
    addImmediate(asm, dst, base, scratch);
    return;
  }
  const dst = c.register(pointer);
  const isBuffer = "buffer" in stmt.from;
  const from = (): number => (isBuffer ? asm.at(c.register(source), 8 * (stmt.from as { buffer: number }).buffer) : c.place(source));
  if (terms.length) {
    evaluate(c, dst, { base: 0, terms }, scratch);
    asm.op(I.add, dst, from());
  } else if (!isBuffer && source.register >= 0 && base !== 0 && isInt32(base)) {
    asm.op(I.lea, dst, asm.at(source.register, base));
    return;
  } else if (isBuffer || source.register !== dst) asm.op(I.mov, dst, from());
  addImmediate(asm, dst, base, scratch);
}

/** The `int` statement. */
export function emitInt(c: IntegerContext, stmt: StmtOf<"int">): void {
  const dst = c.register(c.intVariable(stmt.v));
  const [t0, t1] = [tempOf(c, 0), tempOf(c, 1)];
  if (stmt.op === "set") {
    evaluate(c, dst, stmt.a, t0);
    return;
  }
  if (stmt.op === "div" || stmt.op === "mod") {
    emitDivision(c, stmt, dst, t0, t1);
    return;
  }
  const { asm } = c;
  evaluate(c, dst, stmt.a, t0);
  evaluate(c, t0, stmt.b, t1);
  asm.op(I.cmp, dst, t0);
  asm.cmov(stmt.op === "min" ? CC.g : CC.l, dst, t0);
}

/** Floor division and modulo by a positive constant: shifts, a multiplication by the reciprocal, or idiv. */
function emitDivision(c: IntegerContext, stmt: StmtOf<"int">, dst: number, t0: number, t1: number): void {
  const { asm } = c;
  const by = stmt.b.base;
  const isDiv = stmt.op === "div";
  invariant(!stmt.b.terms.length && by > 0 && isInt32(by), `division by ${by}`);
  const power = Math.log2(by);
  if (Number.isInteger(power)) {
    evaluate(c, dst, stmt.a, t0);
    if (isDiv && power > 0) asm.op(I.sar, 0, dst, power);
    if (!isDiv) asm.op(I.and_imm, 0, dst, by - 1);
    return;
  }
  const { shift, isNarrow } = divisionPlan(stmt.a, by);
  evaluate(c, dst, plus(stmt.a, shift), t0);
  if (rangeOf(stmt.a)[1] + shift < by) {
    if (isDiv) moveImmediate(asm, dst, -shift / by);
    return;
  }
  if (!isNarrow) {
    wideDivision(c, dst, by, isDiv, shift);
    return;
  }
  // n·m >> s with m = ⌈2^s / by⌉, s = 31 + ⌈log2 by⌉, is exact for n < 2^31 (Granlund and Montgomery 1994).
  const s = 31 + Math.ceil(power);
  const m = Number((2n ** BigInt(s) + BigInt(by) - 1n) / BigInt(by));
  const quotient = isDiv ? dst : t0;
  if (m <= 0x7fffffff) asm.op(I.imul_imm, quotient, dst, m);
  else {
    moveImmediate(asm, t1, m);
    if (!isDiv) asm.op(I.mov, t0, dst);
    asm.op(I.imul, quotient, t1);
  }
  asm.op(I.shr, 0, quotient, s);
  if (isDiv) addImmediate(asm, dst, -shift / by, t1);
  else {
    asm.op(I.imul_imm, t0, t0, by);
    asm.op(I.sub, dst, t0);
  }
}

/** Dividends beyond 31 bits, which no index of a network reaches: idiv, with rax and rdx put aside. */
function wideDivision(c: IntegerContext, dst: number, by: number, isDiv: boolean, shift: number): void {
  const { asm } = c;
  const frame = c.divisionFrame();
  invariant(isInt32(shift / by), `quotient beyond 32 bits`);
  asm.op(I.mov_store, RAX, asm.at(RSP, frame));
  asm.op(I.mov_store, RDX, asm.at(RSP, frame + 8));
  asm.op(I.mov_imm, 0, asm.at(RSP, frame + 16), by);
  if (dst !== RAX) asm.op(I.mov, RAX, dst);
  asm.op(I.cqo);
  asm.unary(I.idiv, asm.at(RSP, frame + 16));
  asm.op(I.mov_store, isDiv ? RAX : RDX, asm.at(RSP, frame + 16));
  asm.op(I.mov, RAX, asm.at(RSP, frame));
  asm.op(I.mov, RDX, asm.at(RSP, frame + 8));
  asm.op(I.mov, dst, asm.at(RSP, frame + 16));
  if (isDiv) addImmediate(asm, dst, -shift / by, dst);
}

/** The `loadint` statement: wrapped when negative, then clamped, so that no data can lead out of a buffer. */
export function emitLoadInt(c: IntegerContext, stmt: StmtOf<"loadint">, pointer: Variable): void {
  const { asm } = c;
  const dst = c.register(c.intVariable(stmt.v));
  const temp = tempOf(c, 0);
  const row = stmt.type === "i32" ? I.movsxd : stmt.type === "i64" ? I.mov : I.movzx8;
  asm.op(row, dst, asm.at(c.register(pointer), stmt.from.disp));
  if (stmt.wrap !== 0) {
    moveImmediate(asm, temp, stmt.wrap);
    asm.op(I.add, temp, dst);
    asm.op(I.test, dst, dst);
    asm.cmov(CC.s, dst, temp);
  }
  for (const [limit, cc] of [
    [stmt.v.lo, CC.l],
    [stmt.v.hi, CC.g],
  ]) {
    moveImmediate(asm, temp, limit);
    asm.op(I.cmp, dst, temp);
    asm.cmov(cc, dst, temp);
  }
}

/** Sets the flags from a − b; returns the condition under which a < b does not hold. */
export function compareAffine(c: IntegerContext, a: Affine, b: Affine): number {
  const { asm } = c;
  const d = plus(a, times(b, -1));
  const [t] = d.terms;
  if (d.terms.length === 1 && (t.c === 1 || t.c === -1) && isInt32(d.base) && isInt32(-d.base)) {
    compareImmediate(asm, c.place(c.intVariable(t.v)), t.c === 1 ? -d.base : d.base);
    return t.c === 1 ? CC.ge : CC.le;
  }
  evaluate(c, tempOf(c, 0), d, tempOf(c, 1));
  compareImmediate(asm, tempOf(c, 0), 0);
  return CC.ge;
}
