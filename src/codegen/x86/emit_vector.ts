// Vector arithmetic of the kernel language to instructions, by the form of each operation.
import { invariant } from "../../ir/error.ts";
import type { Vec } from "../../ir/kernel.ts";
import { type Assembler, I, MEM, XMM, YMM, ZMM } from "./assembler.ts";
import { MASK_SCRATCH } from "./emit_memory.ts";
import { bitsOf } from "./needs.ts";
import { FMA_FORMS, OPERATIONS, type OperationRow } from "./operations.ts";
import type { Step, StmtOf } from "./steps.ts";

/** Where vector code finds its operands: the emitter. */
export interface VectorContext {
  readonly asm: Assembler;
  readonly isAvx512: boolean;
  readonly step: Step;
  vec(v: Vec): number;
  /** The constant that is all a vector ever holds. */
  constantOf(v: Vec): StmtOf<"const"> | undefined;
  /** Whether the instruction takes this operand from memory. */
  isMemory(operand: "a" | "b" | "c"): boolean;
  /** Sets the memory operand for it; returns MEM. */
  memory(): number;
}

const repeat = (value: number, n: number): number[] => new Array<number>(n).fill(value);

/** A pool constant in every lane as a memory operand. */
export function constantOperand(asm: Assembler, isAvx512: boolean, bits: number): number {
  return isAvx512 ? asm.constant([bits], true) : asm.constant(repeat(bits, 8));
}

export function emitConstant(asm: Assembler, isAvx512: boolean, stmt: StmtOf<"const">, dst: number): void {
  const word = bitsOf(stmt.type, stmt.value);
  if (word === 0) asm.vec(I.vxorps, dst > 15 ? ZMM : XMM, dst, dst, dst);
  else asm.vec(I.vbroadcastss, isAvx512 ? ZMM : YMM, dst, 0, asm.constant([word]));
}

export function emitVec(c: VectorContext, s: StmtOf<"vec">): void {
  const row = OPERATIONS[s.op];
  const dst = c.vec(s.dst);
  const len = c.isAvx512 ? ZMM : YMM;
  const operand = (o: "a" | "b" | "c"): number => {
    if (c.isMemory(o)) return c.memory();
    const v = s[o];
    invariant(v, `${s.op} without operand ${o}`);
    return c.vec(v);
  };
  const instruction = c.isAvx512 ? row.avx512 : row.avx2;
  switch (row.form) {
    case "move": {
      const constant = c.constantOf(s.a);
      if (constant && bitsOf(constant.type, constant.value) === 0) {
        emitConstant(c.asm, c.isAvx512, constant, dst); // a zero idiom, not a copy
        return;
      }
      const a = operand("a");
      if (a === MEM) c.asm.vec(I.vmovups, len, dst, 0, a);
      else if (a !== dst) c.asm.vec(I.vmovaps, len, dst, 0, a);
      return;
    }
    case "binary":
      if (c.isMemory("a")) {
        c.asm.vec(instruction, len, dst, operand("b"), operand("a"));
        return;
      }
      c.asm.vec(instruction, len, dst, operand("a"), operand("b"));
      return;
    case "unary":
      c.asm.vec(instruction, len, dst, 0, operand("a"), row.imm);
      break;
    case "constant":
      c.asm.vec(instruction, len, dst, operand("a"), constantOperand(c.asm, c.isAvx512, row.imm));
      break;
    case "shift":
      c.asm.vec(instruction, len, 0, dst, operand("a"), s.imm ?? 0);
      break;
    case "compare":
      compare(c, s, row, dst, operand);
      break;
    case "select":
      select(c, dst, operand);
      break;
    case "fma":
      fma(c, s, dst, operand);
      break;
    case "lanes":
      lanes(c, instruction, dst, operand("a"));
      break;
    default:
      row.form satisfies never;
  }
}

type OperandOf = (o: "a" | "b" | "c") => number;

function compareToMask(c: VectorContext, s: StmtOf<"vec">, row: OperationRow, operand: OperandOf): void {
  const a = operand("a");
  c.asm.vec(row.avx512, ZMM, MASK_SCRATCH, a, s.op === "isnan" ? a : operand("b"), row.imm);
}

function compare(c: VectorContext, s: StmtOf<"vec">, row: OperationRow, dst: number, operand: OperandOf): void {
  if (c.isAvx512) {
    compareToMask(c, s, row, operand);
    c.asm.vec(I.vpmovm2d, ZMM, dst, 0, MASK_SCRATCH);
    return;
  }
  const a = operand("a");
  if (row.isMirrored) c.asm.vec(row.avx2, YMM, dst, operand("b"), a);
  else c.asm.vec(row.avx2, YMM, dst, a, s.op === "isnan" ? a : operand("b"), row.imm);
}

function select(c: VectorContext, dst: number, operand: OperandOf): void {
  if (!c.isAvx512) {
    const mask = operand("c");
    c.asm.vec(I.vblendvps, YMM, dst, operand("b"), operand("a"), mask << 4);
    return;
  }
  const compared = c.step.fold?.compare;
  if (compared) {
    compareToMask(c, compared, OPERATIONS[compared.op], (o) => c.vec(compared[o] as Vec)); // planFolds saw the operands
  } else c.asm.vec(I.vpmovd2m, ZMM, MASK_SCRATCH, 0, operand("c"));
  c.asm.vec(I.vblendmps, ZMM, dst, operand("b"), operand("a"), 0, MASK_SCRATCH);
}

/** dst ← ±a·b + c, in whichever of the three forms overwrites an operand that dst already holds. */
function fma(c: VectorContext, s: StmtOf<"vec">, dst: number, operand: OperandOf): void {
  const [f231, f213, f132] = FMA_FORMS[s.op as "fma" | "fnma"]; // the only operations of this form
  const len = c.isAvx512 ? ZMM : YMM;
  const { asm } = c;
  if (c.isMemory("c")) {
    const [a, b] = [operand("a"), operand("b")];
    if (dst !== a && dst !== b) asm.vec(I.vmovaps, len, dst, 0, a);
    asm.vec(f213, len, dst, dst === b ? a : b, operand("c"));
    return;
  }
  const addend = operand("c");
  const inMemory = c.isMemory("a") ? "a" : c.isMemory("b") ? "b" : undefined;
  if (inMemory) {
    const factor = operand(inMemory === "a" ? "b" : "a");
    if (dst === factor && dst !== addend) {
      asm.vec(f132, len, dst, addend, operand(inMemory));
      return;
    }
    if (dst !== addend) asm.vec(I.vmovaps, len, dst, 0, addend);
    asm.vec(f231, len, dst, factor, operand(inMemory));
    return;
  }
  const [a, b] = [operand("a"), operand("b")];
  if (dst === addend) {
    asm.vec(f231, len, dst, a, b);
    return;
  }
  if (dst === a) {
    asm.vec(f213, len, dst, b, addend);
    return;
  }
  if (dst === b) {
    asm.vec(f213, len, dst, a, addend);
    return;
  }
  asm.vec(I.vmovaps, len, dst, 0, addend);
  asm.vec(f231, len, dst, a, b);
}

/** Horizontal reduction by exchanging halves, quarters and so on: the result is in every lane, in an order that does not depend on data. */
function lanes(c: VectorContext, instruction: OperationRow["avx512"], dst: number, a: number): void {
  const { asm } = c;
  const temp = c.step.temps[0].register;
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
