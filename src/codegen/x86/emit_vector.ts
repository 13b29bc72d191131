// Vector arithmetic of the kernel language to instructions, by the form of each operation.
import { invariant } from "../../ir/error.ts";
import type { Vec } from "../../ir/kernel.ts";
import { type Assembler, I, MEM, XMM, YMM, ZMM } from "./assembler.ts";
import type { Census } from "./census.ts";
import { MASK_SCRATCH } from "./emit_memory.ts";
import type { Row } from "./instructions.ts";
import { bitsOf } from "./needs.ts";
import { FMA_FORMS, OPERATIONS, type OperationRow } from "./operations.ts";
import type { Operand, Step, StmtOf } from "./program.ts";

/** Where vector code finds its operands: the emitter. */
export interface VectorContext {
  readonly asm: Assembler;
  readonly isAvx512: boolean;
  readonly step: Step;
  vec(v: Vec): number;
  /** The step's i-th temporary register. */
  temp(i: number): number;
  /** The constant that is all a vector ever holds. */
  constantOf(v: Vec): StmtOf<"const"> | undefined;
  readonly census: Census;
  /** Sets the memory operand for what the step takes from memory; returns MEM. */
  memory(): number;
}

/** A pool constant in every lane as a memory operand. */
export const constantOperand = (asm: Assembler, isAvx512: boolean, bits: number): number =>
  isAvx512 ? asm.repeated(bits, 1, true) : asm.repeated(bits, 8);

export function emitConstant(asm: Assembler, isAvx512: boolean, stmt: StmtOf<"const">, dst: number): void {
  const word = bitsOf(stmt.type, stmt.value);
  if (word === 0) asm.vec(I.vxorps, dst > 15 ? ZMM : XMM, dst, dst, dst);
  else asm.vec(I.vbroadcastss, isAvx512 ? ZMM : YMM, dst, 0, asm.repeated(word, 1));
}

/** Register number of an operand, or MEM: then nothing may set another memory operand before the instruction. */
function operand(c: VectorContext, s: StmtOf<"vec">, o: Operand): number {
  if (c.step.memory === o) return c.memory();
  const v = s[o];
  if (v) return c.vec(v);
  invariant(false, `${s.op} without operand ${o}`);
}

export function emitVec(c: VectorContext, s: StmtOf<"vec">): void {
  const row = OPERATIONS[s.op];
  const dst = c.vec(s.dst);
  const { asm, isAvx512 } = c;
  const len = isAvx512 ? ZMM : YMM;
  const instruction = isAvx512 ? row.avx512 : row.avx2;
  switch (row.form) {
    case "fma":
      fma(c, s, dst, len);
      break;
    case "dot":
      dot(c, s, dst);
      break;
    case "binary":
      if (c.step.memory === "a") asm.vec(instruction, len, dst, operand(c, s, "b"), c.memory());
      else asm.vec(instruction, len, dst, operand(c, s, "a"), operand(c, s, "b"));
      break;
    case "move":
      move(c, s, dst, len);
      break;
    case "unary":
      asm.vec(instruction, len, dst, 0, operand(c, s, "a"), row.imm);
      break;
    case "constant":
      asm.vec(instruction, len, dst, operand(c, s, "a"), constantOperand(asm, isAvx512, row.imm));
      break;
    case "shift":
      asm.vec(instruction, len, 0, dst, operand(c, s, "a"), s.imm ?? 0);
      break;
    case "compare":
      compare(c, s, row, dst);
      break;
    case "select":
      select(c, s, dst);
      break;
    case "shuffle":
      asm.vec(instruction, len, dst, operand(c, s, "a"), operand(c, s, "b"), isAvx512 ? row.imm : (row.avx2Imm ?? row.imm));
      break;
    case "lookup":
      lookup(c, s, dst);
      break;
    case "halves":
      halves(c, s, row, dst);
      break;
    case "lanes":
      lanes(c, instruction, dst, operand(c, s, "a"));
      break;
    default:
      row.form satisfies never;
  }
}

function move(c: VectorContext, s: StmtOf<"vec">, dst: number, len: number): void {
  const constant = c.constantOf(s.a);
  if (constant && bitsOf(constant.type, constant.value) === 0) {
    emitConstant(c.asm, c.isAvx512, constant, dst); // a zero idiom, not a copy
    return;
  }
  const a = operand(c, s, "a");
  if (a === MEM) c.asm.vec(I.vmovups, len, dst, 0, a);
  else if (a !== dst) c.asm.vec(I.vmovaps, len, dst, 0, a);
}

function compareToMask(c: VectorContext, s: StmtOf<"vec">, row: OperationRow, a: number, b: number): void {
  c.asm.vec(row.avx512, ZMM, MASK_SCRATCH, a, s.op === "isnan" ? a : b, row.imm);
}

function compare(c: VectorContext, s: StmtOf<"vec">, row: OperationRow, dst: number): void {
  const a = operand(c, s, "a");
  const b = s.op === "isnan" ? a : operand(c, s, "b");
  if (c.isAvx512) {
    compareToMask(c, s, row, a, b);
    c.asm.vec(I.vpmovm2d, ZMM, dst, 0, MASK_SCRATCH);
    return;
  }
  invariant(s.op !== "iany", "iany without AVX-512");
  if (row.isMirrored) c.asm.vec(row.avx2, YMM, dst, b, a);
  else c.asm.vec(row.avx2, YMM, dst, a, b, row.imm);
}

function select(c: VectorContext, s: StmtOf<"vec">, dst: number): void {
  const { asm } = c;
  if (!c.isAvx512) {
    const mask = operand(c, s, "c");
    asm.vec(I.vblendvps, YMM, dst, operand(c, s, "b"), operand(c, s, "a"), mask << 4);
    return;
  }
  const { comparison } = c.step;
  if (comparison) {
    const a = c.vec(comparison.a);
    compareToMask(c, comparison, OPERATIONS[comparison.op], a, comparison.b ? c.vec(comparison.b) : a);
  } else asm.vec(I.vpmovd2m, ZMM, MASK_SCRATCH, 0, operand(c, s, "c"));
  const other = s.b && c.constantOf(s.b);
  const isZero = other !== undefined && bitsOf(other.type, other.value) === 0;
  const a = operand(c, s, "a");
  // A move takes whole vectors.
  if (isZero && !(a === MEM && asm.isBroadcast)) asm.vec(a === MEM ? I.vmovups : I.vmovaps, ZMM, dst, 0, a, 0, MASK_SCRATCH, true);
  else asm.vec(I.vblendmps, ZMM, dst, operand(c, s, "b"), a, 0, MASK_SCRATCH);
}

/** dst ← ±a·b + c, in whichever of the three forms overwrites an operand that dst already holds. */
function fma(c: VectorContext, s: StmtOf<"vec">, dst: number, len: number): void {
  const form = FMA_FORMS[s.op as "fma" | "fnma"]; // the only operations of this form
  const { asm } = c;
  if (c.step.memory) {
    fmaFromMemory(c, s, dst, len, c.step.memory);
    return;
  }
  const a = c.vec(s.a);
  const b = c.vec(s.b as Vec); // it has three operands
  const addend = c.vec(s.c as Vec);
  if (dst === addend) asm.vec(form.f231, len, dst, a, b);
  else if (dst === a) asm.vec(form.f213, len, dst, b, addend);
  else if (dst === b) asm.vec(form.f213, len, dst, a, addend);
  else {
    asm.vec(I.vmovaps, len, dst, 0, addend);
    asm.vec(form.f231, len, dst, a, b);
  }
}

function fmaFromMemory(c: VectorContext, s: StmtOf<"vec">, dst: number, len: number, memory: Operand): void {
  const form = FMA_FORMS[s.op as "fma" | "fnma"];
  const { asm } = c;
  if (memory === "c") {
    const a = operand(c, s, "a");
    const b = operand(c, s, "b");
    if (dst !== a && dst !== b) asm.vec(I.vmovaps, len, dst, 0, a);
    asm.vec(form.f213, len, dst, dst === b ? a : b, c.memory());
    return;
  }
  const addend = operand(c, s, "c");
  const factor = operand(c, s, memory === "a" ? "b" : "a");
  if (dst === factor && dst !== addend) {
    asm.vec(form.f132, len, dst, addend, c.memory());
    return;
  }
  if (dst !== addend) asm.vec(I.vmovaps, len, dst, 0, addend);
  asm.vec(form.f231, len, dst, factor, c.memory());
}

/** dst ← c + pairs of a · pairs of b: there is only the form that overwrites c. */
function dot(c: VectorContext, s: StmtOf<"vec">, dst: number): void {
  invariant(c.isAvx512, "dotbf16 without AVX-512");
  const { asm } = c;
  const { memory } = c.step;
  const isAccumulator = s.c?.id === s.dst.id;
  const sum = isAccumulator ? dst : c.temp(0); // dst may be a register of a factor
  if (!isAccumulator) asm.vec(I.vmovaps, ZMM, sum, 0, operand(c, s, "c"));
  const [factor, other] = memory === "a" ? (["b", "a"] as const) : (["a", "b"] as const);
  asm.vec(I.vdpbf16ps, ZMM, sum, operand(c, s, factor), operand(c, s, other));
  if (!isAccumulator) asm.vec(I.vmovaps, ZMM, dst, 0, sum);
}

/** AVX-512's instruction overwrites the index. AVX2 looks in both tables, and picks by the bit above those that name a lane. In one table twice both look once. */
function lookup(c: VectorContext, s: StmtOf<"vec">, dst: number): void {
  const { asm } = c;
  const index = operand(c, s, "c");
  if (s.a.id === s.b?.id) {
    asm.vec(I.vpermps, c.isAvx512 ? ZMM : YMM, dst, index, operand(c, s, "a"));
    return;
  }
  if (c.isAvx512) {
    const result = s.c?.id === s.dst.id ? dst : c.temp(0); // dst may be a register of a table
    if (result !== index) asm.vec(I.vmovaps, ZMM, result, 0, index);
    asm.vec(I.vpermi2ps, ZMM, result, operand(c, s, "a"), operand(c, s, "b"));
    if (result !== dst) asm.vec(I.vmovaps, ZMM, dst, 0, result);
    return;
  }
  const [low, high] = [c.temp(0), c.temp(1)];
  asm.vec(I.vpermps, YMM, low, index, operand(c, s, "a"));
  asm.vec(I.vpermps, YMM, high, index, operand(c, s, "b"));
  asm.vec(I.vpslld, YMM, 0, dst, index, 28);
  asm.vec(I.vblendvps, YMM, dst, low, high, dst << 4);
}

/** The instruction overwrites the index, where the mask is set: so the other half stays. */
function halves(c: VectorContext, s: StmtOf<"vec">, row: OperationRow, dst: number): void {
  invariant(c.isAvx512, `${s.op} without AVX-512`);
  const { asm } = c;
  const isInPlace = s.c?.id === s.dst.id;
  const result = isInPlace ? dst : c.temp(0); // dst may be a register of a table
  if (!isInPlace) asm.vec(I.vmovaps, ZMM, result, 0, operand(c, s, "c"));
  asm.vec(row.avx512, ZMM, result, operand(c, s, "a"), operand(c, s, "b"), 0, c.census.maskRegister(row.imm));
  if (!isInPlace) asm.vec(I.vmovaps, ZMM, dst, 0, result);
}

/** Horizontal reduction by exchanging halves, quarters and so on: the result is in every lane, in an order that does not depend on data. */
function lanes(c: VectorContext, instruction: Row, dst: number, a: number): void {
  const { asm } = c;
  const temp = c.temp(0);
  const len = c.isAvx512 ? ZMM : YMM;
  let from = a;
  const combine = (): void => {
    asm.vec(instruction, len, dst, from, temp);
    from = dst;
  };
  if (c.isAvx512) {
    asm.vec(I.vshuff64x2, len, temp, from, from, 0x4e);
    combine();
    asm.vec(I.vshuff64x2, len, temp, from, from, 0xb1);
    combine();
  } else {
    asm.vec(I.vperm2f128, len, temp, from, from, 1);
    combine();
  }
  asm.vec(I.vpermilps, len, temp, 0, from, 0x4e);
  combine();
  asm.vec(I.vpermilps, len, temp, 0, from, 0xb1);
  combine();
}
