// Affine expressions, divisions, bounds and pointer arithmetic of the kernel language to integer instructions.
import { invariant } from "../../ir/error.ts";
import { type Affine, type IntVar, plus, rangeOf, times } from "../../ir/kernel.ts";
import { INT_RANGE } from "../../ir/kernel_ops.ts";
import { type Assembler, CC, I, MEM, RAX, RDX, RSP } from "./assembler.ts";
import { divisionPlan, isInt32 } from "./needs.ts";
import type { StmtOf } from "./program.ts";
import type { Variable } from "./variables.ts";

/** Where integer code finds its operands: the emitter. */
export interface IntegerContext {
  readonly asm: Assembler;
  /** The register of each variable, -1: it lives in memory. */
  readonly registers: Int8Array;
  /** The step's i-th temporary register. */
  temp(i: number): number;
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
function moveImmediate(asm: Assembler, reg: number, value: number): void {
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
  const { asm, registers } = c;
  const { terms, base } = a;
  if (terms.length === 0) {
    moveImmediate(asm, dst, base);
    return;
  }
  const first = firstTerm(c, dst, terms);
  const factor = terms[first].c;
  const head = c.intVariable(terms[first].v);
  const register = registers[head];
  if (factor === 1 && terms.length === 1 && base !== 0 && isInt32(base) && register >= 0 && register !== dst) {
    asm.op(I.lea, dst, asm.at(register, base));
    return;
  }
  moveProduct(c, dst, head, factor);
  addTerms(c, dst, terms, scratch, first);
  addImmediate(asm, dst, base, scratch);
}

/** A variable that the result replaces goes first; else one without a factor. */
function firstTerm(c: IntegerContext, dst: number, terms: Affine["terms"]): number {
  const replaced = terms.findIndex((t) => c.registers[c.intVariable(t.v)] === dst);
  if (replaced >= 0) return replaced;
  const plain = terms.findIndex((t) => t.c === 1);
  return Math.max(0, plain);
}

/** dst ← v · factor. */
function moveProduct(c: IntegerContext, dst: number, v: Variable, factor: number): void {
  const { asm } = c;
  const power = Math.log2(factor);
  if (factor === 1 || (factor > 1 && factor <= 2 ** 30 && Number.isInteger(power))) {
    if (c.registers[v] !== dst) asm.op(I.mov, dst, c.place(v));
    if (factor > 1) asm.op(I.shl, 0, dst, power);
  } else if (isInt8(factor)) asm.op(I.imul_imm8, dst, c.place(v), factor);
  else if (isInt32(factor)) asm.op(I.imul_imm, dst, c.place(v), factor);
  else {
    invariant(c.registers[v] !== dst, "a factor beyond 32 bits");
    asm.movabs(dst, factor);
    asm.op(I.imul, dst, c.place(v));
  }
}

/** dst += all terms but one. */
function addTerms(c: IntegerContext, dst: number, terms: Affine["terms"], scratch: number, except = -1): void {
  const { asm } = c;
  for (let i = 0; i < terms.length; i++) {
    if (i === except) continue;
    const factor = terms[i].c;
    const v = c.intVariable(terms[i].v);
    if (factor === 1) asm.op(I.add, dst, c.place(v));
    else if (factor === -1) asm.op(I.sub, dst, c.place(v));
    else if ((factor === 2 || factor === 4 || factor === 8) && c.registers[v] >= 0)
      asm.op(I.lea, dst, asm.at(dst, 0, c.registers[v], factor));
    else {
      moveProduct(c, scratch, v, factor);
      asm.op(I.add, dst, scratch);
    }
  }
}

/** The `pointer` statement: from a parameter's address or another pointer, or a bump in place. */
export function emitPointer(c: IntegerContext, stmt: StmtOf<"pointer">, pointer: Variable, source: Variable): void {
  const { asm } = c;
  const { base, terms } = stmt.add;
  const scratch = c.temp(0);
  if ("pointer" in stmt.from && source === pointer) {
    if (!terms.length && isInt32(base)) {
      addImmediate(asm, c.place(pointer), base, scratch);
      return;
    }
    const dst = c.register(pointer);
    if (c.registers[pointer] < 0) asm.op(I.mov, dst, c.place(pointer));
    addTerms(c, dst, terms, scratch);
    addImmediate(asm, dst, base, scratch);
    return;
  }
  const dst = c.register(pointer);
  const { from } = stmt;
  const isBuffer = "buffer" in from;
  if (terms.length === 1 && !isBuffer && isInt32(base)) {
    const [{ v, c: factor }] = terms;
    const [start, index] = [c.registers[source], c.registers[c.intVariable(v)]];
    if (start >= 0 && index >= 0 && (factor === 1 || factor === 2 || factor === 4 || factor === 8)) {
      asm.op(I.lea, dst, asm.at(start, base, index, factor));
      return;
    }
  }
  if (terms.length) evaluate(c, dst, base === 0 ? stmt.add : { base: 0, terms }, scratch);
  else if (!isBuffer && c.registers[source] >= 0 && base !== 0 && isInt32(base)) {
    asm.op(I.lea, dst, asm.at(c.registers[source], base));
    return;
  }
  if (terms.length || isBuffer || c.registers[source] !== dst)
    asm.op(terms.length ? I.add : I.mov, dst, isBuffer ? asm.at(c.register(source), 8 * from.buffer) : c.place(source));
  addImmediate(asm, dst, base, scratch);
}

/** The `int` statement. */
export function emitInt(c: IntegerContext, stmt: StmtOf<"int">): void {
  const dst = c.register(c.intVariable(stmt.v));
  const [t0, t1] = [c.temp(0), c.temp(1)];
  if (stmt.op === "set") {
    evaluate(c, dst, stmt.a, t0);
    return;
  }
  if (stmt.op === "bits") {
    evaluate(c, dst, stmt.a, t0);
    if (stmt.shift > 0) c.asm.op(I.shr, 0, dst, stmt.shift);
    if (stmt.b.base !== 2 ** (64 - stmt.shift) - 1) c.asm.op(I.and_imm, 0, dst, stmt.b.base);
    return;
  }
  if (stmt.op === "div" || stmt.op === "mod") {
    emitDivision(c, stmt, dst, t0, t1);
    return;
  }
  const { asm } = c;
  const [term] = stmt.a.terms;
  const plain = stmt.a.base === 0 && stmt.a.terms.length === 1 && term.c === 1 ? c.registers[c.intVariable(term.v)] : -1;
  if (plain >= 0 && plain !== dst && stmt.b.terms.length === 0) {
    moveImmediate(asm, dst, stmt.b.base);
    asm.op(I.cmp, dst, plain);
    asm.cmov(stmt.op === "min" ? CC.g : CC.l, dst, plain);
    return;
  }
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
  const temp = c.temp(0);
  const row = { i32: I.movsxd, i64: I.mov, u8: I.movzx8, u16: I.movzx16 }[stmt.type];
  asm.op(row, dst, asm.at(c.register(pointer), stmt.from.disp));
  if (stmt.wrap !== 0) {
    moveImmediate(asm, temp, stmt.wrap);
    asm.op(I.add, temp, dst);
    asm.op(I.test, dst, dst);
    asm.cmov(CC.s, dst, temp);
  }
  const [least, most] = INT_RANGE[stmt.type];
  for (const [limit, cc] of [
    [stmt.v.lo, CC.l],
    [stmt.v.hi, CC.g],
  ]) {
    if (stmt.wrap === 0 && (cc === CC.l ? limit <= least : limit >= most)) continue;
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
  evaluate(c, c.temp(0), d, c.temp(1));
  compareImmediate(asm, c.temp(0), 0);
  return CC.ge;
}
