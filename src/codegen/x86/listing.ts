// One instruction and its operands to Intel-syntax text, as the GNU assembler reads it.
import type { MemoryOperand } from "./assembler.ts";
import type { OperandRow, Row } from "./instructions.ts";

const NAMES64 = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"];
const NAMES8 = ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"];
const CONDITIONS = ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];
const VECTORS = ["xmm", "ymm", "zmm"];
const WORDS: Readonly<Record<string, string>> = { q: "qword ptr ", d: "dword ptr ", w: "word ptr ", b: "byte ptr " };

export const conditionName = (cc: number): string => CONDITIONS[cc];
export const alignmentText = (bytes: number): string => `.balign ${bytes}`;

function registerName(kind: string, length: number, n: number): string {
  switch (kind) {
    case "q":
      return n < 8 ? NAMES64[n] : `r${n}`;
    case "d":
      return n < 8 ? `e${NAMES64[n].slice(1)}` : `r${n}d`;
    case "w":
      return n < 8 ? NAMES64[n].slice(1) : `r${n}w`;
    case "b":
      return n < 8 ? NAMES8[n] : `r${n}b`;
    case "K":
      return `k${n}`;
    case "X":
      return `xmm${n}`;
    case "Y":
      return `ymm${n}`;
    case "H":
      return `${VECTORS[Math.max(0, length - 1)]}${n}`;
    case "Q":
    case "E":
      return `xmm${n}`;
    default:
      return `${VECTORS[length]}${n}`;
  }
}

function memoryText(row: Row, operand: OperandRow, length: number, m: MemoryOperand): string {
  const broadcast = m.broadcast ? `{1to${(16 << length) / row.broadcast}}` : "";
  if (m.label >= 0) return `[rip+L${m.label}]${broadcast}`;
  const parts: string[] = [];
  if (m.base >= 0) parts.push(registerName("q", 0, m.base));
  if (m.index >= 0) parts.push(`${registerName(row.vectorIndex ? "V" : "q", length, m.index)}*${m.scale}`);
  const disp = m.disp < 0 ? `-0x${(-m.disp).toString(16)}` : m.disp > 0 || !parts.length ? `+0x${m.disp.toString(16)}` : "";
  const size = row.legacy && row.name !== "lea" ? (WORDS[operand.kind] ?? "") : "";
  return `${size}[${parts.join("+")}${disp}]${broadcast}`;
}

const immediateText = (imm: number | bigint): string => (imm < 0 ? `-0x${(-imm).toString(16)}` : `0x${imm.toString(16)}`);

/** For example `vaddps zmm0{k1}{z}, zmm1, [rax+rcx*4+0x40]`. */
export function instructionText(
  row: Row,
  length: number,
  reg: number,
  vvvv: number,
  rm: number,
  imm: number | bigint,
  k: number,
  zero: boolean,
  m: MemoryOperand,
): string {
  const operands = row.operands.map((o) => {
    if (o.slot === "m" && rm < 0) return memoryText(row, o, length, m);
    const n = o.slot === "m" ? rm : o.slot === "v" ? vvvv : o.slot === "s" ? Number(imm) >> 4 : reg;
    // vpextrb and its like name the whole register where memory would be a byte.
    return registerName(!row.legacy && (o.kind === "b" || o.kind === "w") ? "d" : o.kind, length, n);
  });
  if (k > 0) operands[0] += `{k${k}}${zero ? "{z}" : ""}`;
  if (row.immBytes && !row.operands.some((o) => o.slot === "s")) operands.push(immediateText(imm));
  return `${row.lock ? "lock " : ""}${row.name}${operands.length ? " " : ""}${operands.join(", ")}`;
}
