// Every instruction row in every operand form: what the encoder is held against a real assembler with.
import { Assembler, MEM, NO_REGISTER } from "../../src/codegen/x86/assembler.ts";
import { I, type OperandRow, type Row } from "../../src/codegen/x86/instructions.ts";

export interface EncodingCase {
  /** As the GNU assembler reads it, with a prefix that picks the encoding. */
  readonly text: string;
  readonly hex: string;
}

// [base, index, scale, disp]: rsp and r12 need SIB, rbp and r13 a displacement; then high registers and the edges of 8-bit displacements.
const ADDRESSES: readonly (readonly [number, number, number, number])[] = [
  [0, NO_REGISTER, 1, 0],
  [4, NO_REGISTER, 1, 0],
  [12, NO_REGISTER, 1, 8],
  [5, NO_REGISTER, 1, 0],
  [13, NO_REGISTER, 1, 0],
  [9, NO_REGISTER, 1, -128],
  [9, NO_REGISTER, 1, 127],
  [3, NO_REGISTER, 1, 128],
  [3, NO_REGISTER, 1, 64 * 127],
  [3, NO_REGISTER, 1, 64 * 128],
  [3, NO_REGISTER, 1, -64 * 128],
  [3, NO_REGISTER, 1, -64 * 129],
  [7, NO_REGISTER, 1, 4 * 127],
  [7, NO_REGISTER, 1, 4 * 128],
  [7, NO_REGISTER, 1, 32 * 127],
  [0, 1, 4, 0],
  [5, 13, 8, 0],
  [13, 5, 2, 16],
  [12, 12, 1, 64],
  [4, 9, 8, 0x12345],
  [NO_REGISTER, 2, 4, 100],
];

// The assembler always picks a shorter or different encoding for these.
const NOT_COMPARED: Readonly<Record<string, string>> = {
  mov32_imm: "the form without ModRM is shorter",
  mov_const32: "the assembler cannot be told to pick it",
  movabs: "has its own function",
  cmovcc: "has its own function",
  setcc: "has its own function",
  vmovq: "memory operands have another opcode",
  vmovq_store: "memory operands have another opcode",
};

const MEMORY_ONLY = /^(kmovw_load|vbroadcastf(32x4|128)|vmaskmov|vpmaskmov|vmovs[sd]$|vmov.*_store|vpextrw)/;
const REGISTER_ONLY = /^(vmovhlps|vmovlhps|vmovmskps|vpmov.*2|kmov)/;
const NO_XMM_FORM = /^(vpermq|vperm(d|ps)$|vshuff|vinsertf32x4|vextractf32x4)/;

const isVectorKind = (kind: string) => "VHQEXYK".includes(kind);

function immediates(row: Row): number[] {
  if (row.operands.some((o) => o.slot === "s")) return [3 << 4, 14 << 4];
  return row.immBytes === 1 ? [3, 0x51] : row.immBytes === 4 ? [0x12345, -0x54321] : [0];
}

/** Register numbers to try in an operand: low, high, and (EVEX) above 15. */
function registers(operand: OperandRow | undefined, isWide: boolean): number[] {
  if (!operand) return [0];
  if (operand.kind === "K") return [1, 7];
  if (isVectorKind(operand.kind)) return isWide ? [2, 9, 18, 31] : [2, 9];
  return [1, 5, 12];
}

function integerCases(key: string, row: Row, add: (prefix: string, emit: (asm: Assembler) => void) => void): void {
  const prefix = key.includes("_store") || key.startsWith("test") || key.startsWith("xchg") ? "{store} " : "{load} ";
  const regs = row.operands.some((o) => o.slot !== "m") ? [1, 5, 12] : [0];
  for (const reg of regs) {
    for (const imm of reg === regs[0] ? immediates(row) : immediates(row).slice(0, 1)) {
      const isMemoryOnly = row.lock || key === "lea" || key.startsWith("prefetch");
      if (!isMemoryOnly) for (const rm of row.hasRm ? [2, 6, 15] : [0]) add(prefix, (asm) => asm.op(row, reg, rm, imm));
      if (!row.hasRm) continue;
      for (const [base, index, scale, disp] of ADDRESSES) {
        if (reg === regs[0] || base === 12)
          add(key.startsWith("xchg") ? "" : prefix, (asm) => asm.op(row, reg, asm.at(base, disp, index, scale), imm));
      }
    }
  }
}

function vectorCases(key: string, row: Row, add: (prefix: string, emit: (asm: Assembler) => void) => void): void {
  const slot = (s: string) => row.operands.find((o) => o.slot === s);
  const lengths = row.length >= 0 ? [row.length] : row.evex ? [0, 1, 2] : [0, 1];
  const imm = immediates(row);
  const rmKind = slot("m")?.kind ?? "";
  const isStore = row.operands[0]?.slot === "m";
  const load = key.startsWith("vmov") ? "{load} " : "";
  const longest = lengths[lengths.length - 1];
  const way = (isWide: boolean) => (isWide ? "{evex} " : "{vex} ");
  for (const len of lengths) {
    if (len === 0 && NO_XMM_FORM.test(row.name) && row.length < 0 && row.name !== "vpermilps") continue;
    for (const isEvex of [false, true]) {
      if (isEvex ? !row.evex : !row.vex || len === 2) continue;
      const prefix = isStore && !isEvex ? "{vex} " : way(isEvex);
      for (const reg of registers(slot("g"), isEvex).slice(len === longest ? 0 : -1)) {
        const v = slot("v") ? (reg + 5) & (slot("v")?.kind === "K" ? 7 : isEvex ? 31 : 15) : 0;
        // To force EVEX where VEX would do, a masked or high-register form is needed.
        const k = isEvex && (row.vectorIndex || (reg < 16 && v < 16 && len < 2)) ? 3 : 0;
        const canMask =
          isEvex && rmKind !== "K" && row.length !== 0 && slot("g")?.kind !== "d" && (slot("g")?.kind !== "K" || row.operands.length > 2);
        if (row.vectorIndex) {
          for (const index of isEvex ? [1, 10, 20, 31] : [1, 10]) {
            for (const [base, , scale, disp] of ADDRESSES) {
              if (index === reg || index === v || (base !== 12 && reg !== 2)) continue;
              add(prefix, (asm) => asm.vec(row, len, reg, v, asm.at(base, disp, index, scale), 0, isEvex ? 3 : 0));
            }
          }
          continue;
        }
        if (isEvex && k && !canMask) continue;
        for (const value of reg === 2 || reg === 1 ? imm : imm.slice(0, 1)) {
          if (MEMORY_ONLY.test(key)) {
            // no register form, or one with another operand
          } else
            for (const rm of registers(slot("m"), isEvex))
              add(prefix + load, (asm) => asm.vec(row, len, reg, v, rm, value, canMask ? k : 0));
          if (canMask && slot("g")?.kind !== "K" && !MEMORY_ONLY.test(key))
            add(prefix + load, (asm) => asm.vec(row, len, reg, v, 3, value, 5, true));
          if (!row.hasRm || rmKind === "K" || (REGISTER_ONLY.test(row.name) && !MEMORY_ONLY.test(key)) || (row.digit >= 0 && !isEvex))
            continue;
          if (row.name.startsWith("vpbroadcastd") && rmKind === "d") continue;
          // All addresses for one form of each length; elsewhere only those with the highest registers.
          for (const [base, index, scale, disp] of ADDRESSES) {
            if (base !== 12 && (len !== longest || value !== imm[0] || reg !== registers(slot("g"), isEvex)[0])) continue;
            add(prefix, (asm) => asm.vec(row, len, reg, v, asm.at(base, disp, index, scale), value, canMask ? k : 0));
            if (isEvex && row.broadcast && scale < 4)
              add(prefix, (asm) => asm.vec(row, len, reg, v, asm.atBroadcast(base, disp, index, scale), value, canMask ? k : 0));
          }
        }
      }
    }
  }
}

/** All cases, in a fixed order; names which the assembler cannot be held to are left out. */
export function encodingCases(): EncodingCase[] {
  const cases = new Map<string, EncodingCase>();
  for (const [key, row] of Object.entries(I)) {
    if (key in NOT_COMPARED) continue;
    const add = (prefix: string, emit: (asm: Assembler) => void) => {
      const asm = new Assembler(true);
      emit(asm);
      const text = prefix + asm.listing[0].text;
      cases.set(`${key} ${text}`, { text, hex: Buffer.from(asm.finish()).toString("hex") });
    };
    if (row.legacy) integerCases(key, row, add);
    else vectorCases(key, row, add);
  }
  return [...cases.values()];
}

export { MEM };
