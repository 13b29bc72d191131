// Instructions to x86-64 bytes: operands are plain numbers, so that emitting allocates nothing; labels and a constant pool are patched at the end.
import { invariant } from "../../ir/error.ts";
import { ConstantPool } from "./constant_pool.ts";
import { I, type Row } from "./instructions.ts";
import { alignmentText, conditionName, instructionText } from "./listing.ts";

export { I };
export const [RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI] = [0, 1, 2, 3, 4, 5, 6, 7];
export const [R8, R9, R10, R11, R12, R13, R14, R15] = [8, 9, 10, 11, 12, 13, 14, 15];
/** Vector lengths: 128, 256 and 512 bits. */
export const [XMM, YMM, ZMM] = [0, 1, 2];
/** "The memory operand set last", as a register-or-memory operand. */
export const MEM = -1;
export const NO_REGISTER = -1;

/** Condition codes for jcc, setcc and cmovcc. */
export const CC = { o: 0, no: 1, b: 2, ae: 3, e: 4, ne: 5, be: 6, a: 7, s: 8, ns: 9, l: 12, ge: 13, le: 14, g: 15 } as const;

/** What `at` and its siblings set: the address of the next memory operand. */
export interface MemoryOperand {
  base: number;
  index: number;
  scale: number;
  disp: number;
  /** A label: the operand is RIP-relative. -1: it is not. */
  label: number;
  broadcast: boolean;
}

/** One line of the listing. */
export interface ListingLine {
  readonly offset: number;
  readonly bytes: number;
  readonly text: string;
}

/** No instruction has more bytes, alignment included. */
const LONGEST = 32;
const LEGACY_PREFIX = [0, 0x66, 0xf3, 0xf2];
const SCALE_BITS = [0, 0, 1, 0, 2, 0, 0, 0, 3];
const NOPS = [
  [],
  [0x90],
  [0x66, 0x90],
  [0x0f, 0x1f, 0x00],
  [0x0f, 0x1f, 0x40, 0x00],
  [0x0f, 0x1f, 0x44, 0x00, 0x00],
  [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
  [0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
  [0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
  [0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/**
 * Owns the growing code buffer. A register-or-memory operand is a register number, or what `at`, `atBroadcast`, `atLabel` or `constant` returns
 * (the operand itself is kept aside until the instruction is emitted).
 *
 *     asm.op(I.add, RAX, asm.at(RDI, 8))                         add rax, [rdi+8]
 *     asm.vec(I.vaddps, ZMM, 0, 1, asm.at(RDI, 64, RCX, 4))      vaddps zmm0, zmm1, [rdi+rcx*4+64]
 */
export class Assembler {
  private buffer = new Uint8Array(4096);
  private length = 0;
  private readonly memory: MemoryOperand = { base: 0, index: NO_REGISTER, scale: 1, disp: 0, label: -1, broadcast: false };
  /** Label → offset in the code, -1 while unknown. */
  private readonly labels: number[] = [];
  /** Triples: position of a 32-bit displacement, its label, end of its instruction. */
  private readonly fixups: number[] = [];
  private readonly pool = new ConstantPool();
  private readonly newLabel = (): number => this.label();
  /** Filled only in listing mode. */
  readonly listing: ListingLine[] = [];

  constructor(readonly isListing = false) {}

  /** Bytes emitted so far. */
  get offset(): number {
    return this.length;
  }

  // ---- operands

  /** [base + index·scale + disp]; base may be NO_REGISTER. */
  at(base: number, disp = 0, index = NO_REGISTER, scale = 1): number {
    const m = this.memory;
    m.base = base;
    m.disp = disp;
    m.index = index;
    m.scale = scale;
    m.label = -1;
    m.broadcast = false;
    return MEM;
  }
  /** One element at [base + index·scale + disp], repeated over all lanes (EVEX). */
  atBroadcast(base: number, disp = 0, index = NO_REGISTER, scale = 1): number {
    this.at(base, disp, index, scale);
    this.memory.broadcast = true;
    return MEM;
  }
  /** Memory at a label in the code, RIP-relative. */
  atLabel(label: number): number {
    this.at(NO_REGISTER);
    this.memory.label = label;
    return MEM;
  }
  /** Repeats the memory operand set last over all lanes. */
  broadcast(): number {
    this.memory.broadcast = true;
    return MEM;
  }
  /** Whether the memory operand set last is one element for all lanes. */
  get isBroadcast(): boolean {
    return this.memory.broadcast;
  }
  /** A constant of the pool: 32-bit words, aligned to their size. */
  constant(words: readonly number[]): number {
    return this.atLabel(this.pool.of(words, this.newLabel));
  }
  /** A constant of the pool: `count` times (at most 16) the same word. */
  repeated(word: number, count: number, broadcast = false): number {
    this.atLabel(this.pool.repeated(word, count, this.newLabel));
    this.memory.broadcast = broadcast;
    return MEM;
  }

  // ---- labels and jumps

  /** A new label, to be bound later. */
  label(): number {
    return this.labels.push(-1) - 1;
  }
  bind(label: number): void {
    this.labels[label] = this.length;
    if (this.isListing) this.listing.push({ offset: this.length, bytes: 0, text: `L${label}:` });
  }
  /** A new label at this place. */
  here(): number {
    const label = this.label();
    this.bind(label);
    return label;
  }
  jmp(label: number): void {
    this.branch(0xeb, -1, 0xe9, label, "jmp");
  }
  jcc(cc: number, label: number): void {
    this.branch(0x70 | cc, 0x0f, 0x80 | cc, label, this.isListing ? `j${conditionName(cc)}` : "");
  }
  callLabel(label: number): void {
    this.branch(-1, -1, 0xe8, label, "call");
  }
  /** A short form, where there is one and the target is known to be near, or the one with 32 bits. */
  private branch(short: number, prefix: number, long: number, label: number, name: string): void {
    const start = this.length;
    this.reserve();
    const target = this.labels[label];
    const distance = target - (start + 2);
    if (short >= 0 && target >= 0 && distance >= -128) {
      this.buffer[this.length++] = short;
      this.buffer[this.length++] = distance;
    } else {
      if (prefix >= 0) this.buffer[this.length++] = prefix;
      this.buffer[this.length++] = long;
      this.fixups.push(this.length, label, this.length + 4);
      this.length += 4;
    }
    if (this.isListing) this.list(start, `${name} L${label}`);
  }

  // ---- instructions

  /** An integer instruction: `reg` in ModRM.reg (or in the opcode), `rm` register or MEM. */
  op(row: Row, reg = 0, rm = 0, imm = 0): void {
    this.reserve();
    const start = this.length;
    if (row.lock) this.buffer[this.length++] = 0xf0;
    this.legacy(row, row.opcode, reg, rm, imm);
    if (this.isListing) this.list(start, instructionText(row, 0, reg, 0, rm, imm, 0, false, this.memory));
  }
  /** An integer instruction of one operand that is an opcode digit's r/m. */
  unary(row: Row, rm: number, imm = 0): void {
    this.op(row, 0, rm, imm);
  }
  cmov(cc: number, reg: number, rm: number): void {
    this.conditional(I.cmovcc, cc, reg, rm);
  }
  /** Sets the low byte of a register or a byte in memory to the condition. */
  setcc(cc: number, rm: number): void {
    this.conditional(I.setcc, cc, 0, rm);
  }
  private conditional(row: Row, cc: number, reg: number, rm: number): void {
    this.reserve();
    const start = this.length;
    this.legacy(row, row.opcode | cc, reg, rm, 0);
    if (this.isListing) {
      this.list(start, instructionText(row, 0, reg, 0, rm, 0, 0, false, this.memory).replace(/cc(?= )/, conditionName(cc)));
    }
  }
  movabs(reg: number, value: bigint | number): void {
    const big = BigInt.asUintN(64, BigInt(value));
    this.reserve();
    const start = this.length;
    this.buffer[this.length++] = 0x48 | (reg >> 3);
    this.buffer[this.length++] = 0xb8 | (reg & 7);
    this.u32(Number(big & 0xffffffffn));
    this.u32(Number(big >> 32n));
    if (this.isListing) this.list(start, instructionText(I.movabs, 0, reg, 0, 0, big, 0, false, this.memory));
  }
  mfence(): void {
    this.raw([0x0f, 0xae, 0xf0], "mfence");
  }
  lfence(): void {
    this.raw([0x0f, 0xae, 0xe8], "lfence");
  }
  xgetbv(): void {
    this.raw([0x0f, 0x01, 0xd0], "xgetbv");
  }

  /** A vector or mask instruction. `len` XMM YMM ZMM; operands by encoding slot; `k` 1–7 masks (zeroing if `zero`), 0 does not; for a fourth register pass reg << 4 as imm. */
  vec(row: Row, len: number, reg: number, vvvv: number, rm: number, imm = 0, k = 0, zero = false): void {
    if (this.length + LONGEST > this.buffer.length) this.grow(LONGEST);
    const start = this.length;
    const l = row.length >= 0 ? row.length : len;
    const m = this.memory;
    const isMem = rm === MEM;
    const isWide = l === 2 || k !== 0 || (reg | vvvv) > 15 || (isMem ? m.broadcast || (row.vectorIndex && m.index > 15) : rm > 15);
    if (row.vex && !isWide) this.vex(row, l, reg, vvvv, rm, imm);
    else this.evex(row, l, reg, vvvv, rm, imm, k, zero);
    if (this.isListing) this.list(start, instructionText(row, l, reg, vvvv, rm, imm, k, zero, m));
  }

  private legacy(row: Row, opcode: number, reg: number, rm: number, imm: number): void {
    const b = this.buffer;
    const m = this.memory;
    const isMem = row.hasRm && rm === MEM;
    if (row.pp) b[this.length++] = LEGACY_PREFIX[row.pp];
    let rex = row.w << 3;
    const field = row.digit >= 0 ? row.digit : reg;
    if (row.hasRm) {
      rex |= (field & 8) >> 1;
      if (!isMem) rex |= rm >> 3;
      else {
        if (m.index > 7) rex |= 2;
        if (m.base > 7) rex |= 1;
      }
    } else rex |= reg >> 3;
    const isByteRegister = (row.byteRegisters & 1 && reg > 3) || (row.byteRegisters & 2 && !isMem && rm > 3);
    if (rex || isByteRegister) b[this.length++] = 0x40 | rex;
    if (row.map) b[this.length++] = 0x0f;
    if (!row.hasRm) {
      b[this.length++] = opcode | (row.operands.length ? reg & 7 : 0);
    } else {
      b[this.length++] = opcode;
      this.modrm(field, rm, 1, row.immBytes);
    }
    this.immediate(row.immBytes, imm);
  }

  private vex(row: Row, l: number, reg: number, vvvv: number, rm: number, imm: number): void {
    const b = this.buffer;
    const m = this.memory;
    const field = row.digit >= 0 ? row.digit : reg;
    const isMem = rm === MEM;
    const x = isMem && m.index > 7 ? 1 : 0;
    const base = isMem ? (m.base > 7 ? 1 : 0) : rm >> 3;
    const tail = ((~vvvv & 15) << 3) | (l << 2) | row.pp;
    if (x | base | row.w || row.map !== 1) {
      b[this.length++] = 0xc4;
      b[this.length++] = ((~field & 8) << 4) | ((x ^ 1) << 6) | ((base ^ 1) << 5) | row.map;
      b[this.length++] = (row.w << 7) | tail;
    } else {
      b[this.length++] = 0xc5;
      b[this.length++] = ((~field & 8) << 4) | tail;
    }
    b[this.length++] = row.opcode;
    if (row.hasRm) this.modrm(field, rm, 1, row.immBytes);
    this.immediate(row.immBytes, imm);
  }

  private evex(row: Row, l: number, reg: number, vvvv: number, rm: number, imm: number, k: number, zero: boolean): void {
    if (!row.evex) invariant(false, `${row.name} has no EVEX form`);
    const b = this.buffer;
    const n = this.length;
    const m = this.memory;
    const field = row.digit >= 0 ? row.digit : reg;
    const isMem = rm === MEM;
    const x = isMem ? (m.index >= 0 ? (m.index >> 3) & 1 : 0) : rm >> 4;
    const base = isMem ? (m.base > 7 ? 1 : 0) : (rm >> 3) & 1;
    const high = row.vectorIndex ? m.index : vvvv;
    const broadcast = isMem && m.broadcast;
    b[n] = 0x62;
    b[n + 1] = ((~field & 8) << 4) | ((x ^ 1) << 6) | ((base ^ 1) << 5) | (~field & 16) | row.map;
    b[n + 2] = (row.evexW << 7) | ((~vvvv & 15) << 3) | 4 | row.pp;
    b[n + 3] = (zero ? 0x80 : 0) | (l << 5) | (broadcast ? 0x10 : 0) | ((~high & 16) >> 1) | k;
    b[n + 4] = row.opcode;
    this.length = n + 5;
    this.modrm(field, rm, broadcast ? row.broadcast : row.memBytes || (16 << l) >> row.memShift, row.immBytes);
    if (row.immBytes) this.immediate(row.immBytes, imm);
  }

  /** `scale`: what an 8-bit displacement counts in; `after`: bytes of immediate that follow, for RIP-relative operands. */
  private modrm(field: number, rm: number, scale: number, after: number): void {
    const b = this.buffer;
    const reg = (field & 7) << 3;
    if (rm !== MEM) {
      b[this.length++] = 0xc0 | reg | (rm & 7);
      return;
    }
    const { base, index, disp, label } = this.memory;
    if (label >= 0) {
      b[this.length++] = reg | 5;
      this.fixups.push(this.length, label, this.length + 4 + after);
      this.length += 4;
      return;
    }
    const isShort = disp % scale === 0 && disp / scale >= -128 && disp / scale <= 127;
    // Without a base, mod 0 with base 101 means a 32-bit displacement; rbp and r13 as base need a displacement.
    const mod = base < 0 ? 0 : disp === 0 && (base & 7) !== 5 ? 0 : isShort ? 0x40 : 0x80;
    if (index >= 0 || base < 0 || (base & 7) === 4) {
      b[this.length++] = mod | reg | 4;
      b[this.length++] = (SCALE_BITS[this.memory.scale] << 6) | ((index < 0 ? 4 : index & 7) << 3) | (base < 0 ? 5 : base & 7);
    } else b[this.length++] = mod | reg | (base & 7);
    if (mod === 0x40) b[this.length++] = disp / scale;
    else if (mod === 0x80 || base < 0) this.u32(disp);
  }

  private immediate(bytes: number, imm: number): void {
    if (bytes === 1) this.buffer[this.length++] = imm;
    else if (bytes === 4) this.u32(imm);
  }
  private u32(value: number): void {
    const b = this.buffer;
    const n = this.length;
    b[n] = value;
    b[n + 1] = value >> 8;
    b[n + 2] = value >> 16;
    b[n + 3] = value >> 24;
    this.length = n + 4;
  }
  /** Makes room for one instruction. */
  private reserve(bytes = LONGEST): void {
    if (this.length + bytes > this.buffer.length) this.grow(bytes);
  }
  private grow(bytes: number): void {
    const larger = new Uint8Array(Math.max(this.buffer.length * 2, this.length + bytes));
    larger.set(this.buffer);
    this.buffer = larger;
  }
  private raw(bytes: readonly number[], text: string): void {
    this.reserve();
    const start = this.length;
    for (const byte of bytes) this.buffer[this.length++] = byte;
    if (this.isListing) this.list(start, text);
  }

  // ---- layout

  /** Pads with long NOPs to a multiple of `bytes` (a power of two). */
  align(bytes: number): void {
    let left = -this.length & (bytes - 1);
    const start = this.length;
    this.reserve(bytes + 32);
    while (left > 0) {
      const nop = NOPS[Math.min(left, 9)];
      for (const byte of nop) this.buffer[this.length++] = byte;
      left -= nop.length;
    }
    if (this.isListing && this.length > start) this.list(start, alignmentText(bytes));
  }
  /** A comment in the listing. */
  comment(text: string): void {
    if (this.isListing) this.listing.push({ offset: this.length, bytes: 0, text: `; ${text}` });
  }
  private list(start: number, text: string): void {
    this.listing.push({ offset: start, bytes: this.length - start, text });
  }

  /** The finished code: instructions, then the constants, 64-byte aligned, larger first. */
  finish(): Uint8Array {
    const pool = this.pool.inOrder();
    if (pool.length) {
      this.reserve(128);
      this.length = (this.length + 63) & ~63;
    }
    for (const { label, words } of pool) {
      const bytes = words.byteLength;
      this.reserve(bytes + 64);
      this.length = (this.length + bytes - 1) & -bytes;
      this.labels[label] = this.length;
      this.buffer.set(new Uint8Array(words.buffer), this.length);
      this.length += bytes;
      if (this.isListing) this.listing.push({ offset: this.labels[label], bytes, text: `L${label}: data` });
    }
    const end = this.length;
    for (let i = 0; i < this.fixups.length; i += 3) {
      const target = this.labels[this.fixups[i + 1]];
      invariant(target >= 0, `label L${this.fixups[i + 1]} was never bound`);
      this.length = this.fixups[i];
      this.u32(target - this.fixups[i + 2]);
    }
    this.length = end;
    return this.buffer.slice(0, end);
  }
}
