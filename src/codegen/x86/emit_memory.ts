// Loads, stores and gathers of every memory type and lane count to instructions that touch exactly the bytes asked for.
import { invariant } from "../../ir/error.ts";
import type { PointerAddress } from "../../ir/kernel.ts";
import { MEMORY_BYTES } from "../../ir/kernel_ops.ts";
import { type Assembler, I, XMM, YMM, ZMM } from "./assembler.ts";
import { type Census, laneBits } from "./census.ts";
import type { Row } from "./instructions.ts";
import type { Step, StmtOf } from "./program.ts";

/** Where memory code finds its operands: the emitter. */
export interface MemoryContext {
  readonly asm: Assembler;
  readonly isAvx512: boolean;
  readonly census: Census;
  readonly step: Step;
  /** The step's i-th temporary register: vectors, then integers. */
  temp(i: number): number;
  /** Sets the memory operand to an address, `more` bytes further; returns MEM. */
  address(a: PointerAddress, more?: number): number;
}

/** The mask register of comparisons, gathers, and masks that are set where they are needed. */
export const MASK_SCRATCH = 1;

/** Length of the shortest vector with at least this many lanes of 32 bits. */
const lengthFor = (lanes: number): number => (lanes <= 4 ? XMM : lanes <= 8 ? YMM : ZMM);
/** An integer in every lane as a memory operand. */
const words = (c: MemoryContext, value: number): number => (c.isAvx512 ? c.asm.repeated(value, 1, true) : c.asm.repeated(value, 8));

/** Words of a mask vector: the first `lanes` of `width` set, each `words` words of 32 bits. */
const maskWords = (lanes: number, width: number, words = 1): number[] =>
  Array.from({ length: width * words }, (_, i) => (i < lanes * words ? -1 : 0));

/** The mask register with the first `lanes` lanes, set from an integer register when the kernel keeps none. */
function maskOf(c: MemoryContext, lanes: number): number {
  const k = c.census.maskRegister(laneBits(lanes));
  if (k) return k;
  const temp = c.temp(c.step.vectorTemps);
  c.asm.op(I.mov_const32, temp, 0, laneBits(lanes));
  c.asm.vec(I.kmovw, XMM, MASK_SCRATCH, 0, temp);
  return MASK_SCRATCH;
}

// ---- loads

const WIDEN: Readonly<Record<string, Row>> = {
  u8: I.vpmovzxbd,
  i8: I.vpmovsxbd,
  u16: I.vpmovzxwd,
  i16: I.vpmovsxwd,
  f16: I.vcvtph2ps,
  bf16: I.vpmovzxwd,
};

export function emitLoad(c: MemoryContext, s: StmtOf<"load">, dst: number): void {
  if (s.mode === "splat") {
    splat(c, s, dst);
    return;
  }
  if (s.mode === "quad") {
    c.isAvx512 ? c.asm.vec(I.vbroadcastf32x4, ZMM, dst, 0, c.address(s.from)) : c.asm.vec(I.vbroadcastf128, YMM, dst, 0, c.address(s.from));
    return;
  }
  if (s.mode === "strided") {
    strided(c, s, dst);
    return;
  }
  if (s.type === "i64") {
    c.isAvx512 ? loadI64(c, s, dst) : loadI64Avx2(c, s, dst);
    return;
  }
  if (s.type === "f32" || s.type === "i32") {
    load32(c, s, dst);
    return;
  }
  const { asm } = c;
  const len = lengthFor(s.lanes);
  const isWhole = s.lanes === 4 << len;
  if (isWhole) asm.vec(WIDEN[s.type], len, dst, 0, c.address(s.from));
  else if (c.isAvx512) {
    const k = maskOf(c, s.lanes);
    asm.vec(WIDEN[s.type], len, dst, 0, c.address(s.from), 0, k, true);
  } else {
    loadBytes(c, dst, s.from, s.lanes * MEMORY_BYTES[s.type]);
    asm.vec(WIDEN[s.type], YMM, dst, 0, dst);
  }
  if (s.type === "bf16") asm.vec(I.vpslld, c.isAvx512 ? ZMM : YMM, 0, dst, dst, 16);
}

/** Shorter moves clear the lanes above what they load. */
function load32(c: MemoryContext, s: StmtOf<"load">, dst: number): void {
  const { asm } = c;
  const { lanes } = s;
  if (lanes === 1) asm.vec(I.vmovss, XMM, dst, 0, c.address(s.from));
  else if (lanes === 2) asm.vec(I.vmovsd, XMM, dst, 0, c.address(s.from));
  else if (lanes === 4 || lanes === 8 || lanes === 16) asm.vec(I.vmovups, lengthFor(lanes), dst, 0, c.address(s.from));
  else if (c.isAvx512) {
    const k = maskOf(c, lanes);
    asm.vec(I.vmovups, lengthFor(lanes), dst, 0, c.address(s.from), 0, k, true);
  } else {
    const len = lengthFor(lanes);
    asm.vec(I.vmovups, len, dst, 0, asm.constant(maskWords(lanes, 4 << len)));
    asm.vec(I.vmaskmovps, len, dst, dst, c.address(s.from));
  }
}

/** Low halves of 64-bit integers. */
function loadI64(c: MemoryContext, s: StmtOf<"load">, dst: number): void {
  const { asm } = c;
  const k = s.lanes % 8 ? maskOf(c, s.lanes % 8) : 0;
  const high = s.lanes - 8;
  asm.vec(I.vmovdqu64, ZMM, dst, 0, c.address(s.from), 0, high < 0 ? k : 0, high < 0);
  asm.vec(I.vpmovqd, ZMM, dst, 0, dst);
  if (high <= 0) return;
  const temp = c.temp(0);
  asm.vec(I.vmovdqu64, ZMM, temp, 0, c.address(s.from, 64), 0, k, k > 0);
  asm.vec(I.vpmovqd, ZMM, temp, 0, temp);
  asm.vec(I.vinsertf64x4, ZMM, dst, dst, temp, 1);
}

function loadI64Avx2(c: MemoryContext, s: StmtOf<"load">, dst: number): void {
  const { asm } = c;
  const temp = c.temp(0);
  const half = (reg: number, lanes: number, at: number): void => {
    if (lanes >= 4) asm.vec(I.vmovdqu, YMM, reg, 0, c.address(s.from, at));
    else if (lanes <= 0) asm.vec(I.vxorps, XMM, reg, reg, reg);
    else {
      asm.vec(I.vmovdqu, YMM, reg, 0, asm.constant(maskWords(lanes, 4, 2)));
      asm.vec(I.vpmaskmovq, YMM, reg, reg, c.address(s.from, at));
    }
  };
  half(dst, s.lanes, 0);
  half(temp, s.lanes - 4, 32);
  // Even words of both: [l0 l1 h0 h1 | l2 l3 h2 h3], then the quarters in order.
  asm.vec(I.vshufps, YMM, dst, dst, temp, 0x88);
  asm.vec(I.vpermq, YMM, dst, 0, dst, 0xd8);
}

/** Exactly `bytes` (at most 16) into the low end of an xmm register, zeros above. */
function loadBytes(c: MemoryContext, dst: number, from: PointerAddress, bytes: number): void {
  const { asm } = c;
  let at = 0;
  if (bytes >= 8) {
    asm.vec(I.vmovsd, XMM, dst, 0, c.address(from));
    at = 8;
  } else if (bytes >= 4) {
    asm.vec(I.vmovss, XMM, dst, 0, c.address(from));
    at = 4;
  } else asm.vec(I.vxorps, XMM, dst, dst, dst);
  for (const [size, row] of [
    [4, I.vpinsrd],
    [2, I.vpinsrw],
    [1, I.vpinsrb],
  ] as const) {
    if (bytes - at < size) continue;
    asm.vec(row, XMM, dst, dst, c.address(from, at), at / size);
    at += size;
  }
}

function splat(c: MemoryContext, s: StmtOf<"load">, dst: number): void {
  const { asm } = c;
  const len = c.isAvx512 ? ZMM : YMM;
  const bytes = MEMORY_BYTES[s.type];
  if (bytes >= 4) asm.vec(I.vbroadcastss, len, dst, 0, c.address(s.from));
  else {
    asm.vec(bytes === 1 ? I.vpbroadcastb : I.vpbroadcastw, len, dst, 0, c.address(s.from));
    // Each word now holds its 16 bits twice: shifting leaves them in the upper half.
    if (s.type === "bf16") asm.vec(I.vpslld, len, 0, dst, dst, 16);
    else asm.vec(WIDEN[s.type], len, dst, 0, dst);
  }
}

/** Four elements at a time; gather instructions are no faster and need masks. */
function strided(c: MemoryContext, s: StmtOf<"load">, dst: number): void {
  const { asm } = c;
  const temp = c.temp(0);
  for (let quarter = 0; quarter * 4 < s.lanes; quarter++) {
    const reg = quarter ? temp : dst;
    for (let i = 0; i < Math.min(4, s.lanes - quarter * 4); i++) {
      const at = (quarter * 4 + i) * s.stride;
      if (i === 0) asm.vec(I.vmovss, XMM, reg, 0, c.address(s.from, at));
      else asm.vec(I.vinsertps, XMM, reg, reg, c.address(s.from, at), i << 4);
    }
    if (quarter === 0) continue;
    if (c.isAvx512) asm.vec(I.vinsertf32x4, ZMM, dst, dst, temp, quarter);
    else asm.vec(I.vinsertf128, YMM, dst, dst, temp, 1);
  }
}

export function emitGather(c: MemoryContext, s: StmtOf<"gather">, dst: number, index: number, pointer: number): void {
  const { asm } = c;
  const at = c.temp(0);
  const len = c.isAvx512 ? ZMM : YMM;
  asm.vec(I.vpmaxsd, len, at, index, words(c, 0));
  asm.vec(I.vpminsd, len, at, at, words(c, s.count - 1));
  asm.vec(I.vxorps, len, dst, dst, dst);
  if (c.isAvx512) {
    // The instruction clears its mask as it goes, so it gets a copy.
    if (s.lanes === 16) asm.vec(I.kxnorw, XMM, MASK_SCRATCH, MASK_SCRATCH, MASK_SCRATCH);
    else {
      const k = maskOf(c, s.lanes);
      if (k !== MASK_SCRATCH) asm.vec(I.kmovw_k, XMM, MASK_SCRATCH, 0, k);
    }
    asm.vec(I.vgatherdps_k, len, dst, 0, asm.at(pointer, s.from.disp, at, 4), 0, MASK_SCRATCH);
  } else {
    const mask = c.temp(1);
    asm.vec(I.vmovups, len, mask, 0, asm.constant(maskWords(s.lanes, 8)));
    asm.vec(I.vgatherdps, len, dst, mask, asm.at(pointer, s.from.disp, at, 4));
  }
}

/** From a register: straight from memory the instruction waits for what its destination held, even where it sets all lanes. */
export function emitExpand(c: MemoryContext, s: StmtOf<"expand">, dst: number): void {
  invariant(c.isAvx512, "an expanding load without AVX-512");
  c.asm.vec(I.kmovw_load, XMM, MASK_SCRATCH, 0, c.address(s.bits));
  c.asm.vec(I.vmovups, ZMM, dst, 0, c.address(s.from));
  c.asm.vec(I.vexpandps, ZMM, dst, 0, dst, 0, MASK_SCRATCH, true);
}

// ---- stores

export function emitStore(c: MemoryContext, s: StmtOf<"store">, src: number): void {
  switch (s.type) {
    case "f32":
    case "i32":
      store32(c, s.to, src, s.lanes);
      break;
    case "i64":
      storeI64(c, s, src);
      break;
    case "bf16": {
      const rounded = roundToBf16(c, src);
      c.isAvx512 ? storeNarrow512(c, s, rounded) : storeNarrow256(c, s, rounded);
      return;
    }
    default:
      c.isAvx512 ? storeNarrow512(c, s, src) : storeNarrow256(c, s, src);
  }
}

function store32(c: MemoryContext, to: PointerAddress, src: number, lanes: number): void {
  const { asm } = c;
  if (lanes === 1) asm.vec(I.vmovss_store, XMM, src, 0, c.address(to));
  else if (lanes === 2) asm.vec(I.vmovsd_store, XMM, src, 0, c.address(to));
  else if (lanes === 4 || lanes === 8 || lanes === 16) asm.vec(I.vmovups_store, lengthFor(lanes), src, 0, c.address(to));
  else if (c.isAvx512) {
    const k = maskOf(c, lanes);
    asm.vec(I.vmovups_store, lengthFor(lanes), src, 0, c.address(to), 0, k);
  } else if (lanes > 4) {
    const high = c.temp(0);
    store32(c, to, src, 4);
    asm.vec(I.vextractf128, YMM, src, 0, high, 1);
    store32(c, { pointer: to.pointer, disp: to.disp + 16 }, high, lanes - 4);
  } else {
    // In pieces: a masked store is microcode on many AVX2 processors.
    asm.vec(I.vmovsd_store, XMM, src, 0, c.address(to));
    asm.vec(I.vpextrd, XMM, src, 0, c.address(to, 8), 2);
  }
}

function storeI64(c: MemoryContext, s: StmtOf<"store">, src: number): void {
  const { asm } = c;
  const temp = c.temp(0);
  const half = c.isAvx512 ? 8 : 4;
  const len = c.isAvx512 ? ZMM : YMM;
  const k = c.isAvx512 && s.lanes % 8 ? maskOf(c, s.lanes % 8) : 0;
  for (let done = 0; done < s.lanes; done += half) {
    if (done === 0) asm.vec(I.vpmovsxdq, len, temp, 0, src);
    else {
      if (c.isAvx512) asm.vec(I.vextractf64x4, ZMM, src, 0, temp, 1);
      else asm.vec(I.vextractf128, YMM, src, 0, temp, 1);
      asm.vec(I.vpmovsxdq, len, temp, 0, temp);
    }
    const to = (): number => c.address(s.to, done * 8);
    const left = s.lanes - done;
    if (c.isAvx512) asm.vec(I.vmovdqu64_store, len, temp, 0, to(), 0, left < half ? k : 0);
    else if (left >= half) asm.vec(I.vmovdqu_store, len, temp, 0, to());
    else {
      const mask = c.temp(1);
      asm.vec(I.vmovdqu, len, mask, 0, asm.constant(maskWords(left, 4, 2)));
      asm.vec(I.vpmaskmovq_store, len, temp, mask, to());
    }
  }
}

/** Lanes to bf16 in the low 16 bits, to nearest even; NaN stays a (quiet) NaN. Returns the register. */
function roundToBf16(c: MemoryContext, src: number): number {
  const { asm } = c;
  const [t, u, nan] = [c.temp(0), c.temp(1), c.temp(2)];
  const len = c.isAvx512 ? ZMM : YMM;
  asm.vec(I.vpsrld, len, 0, t, src, 16);
  asm.vec(I.vorps, len, u, t, words(c, 0x40));
  asm.vec(I.vandps, len, t, t, words(c, 1));
  asm.vec(I.vpaddd, len, t, t, words(c, 0x7fff));
  asm.vec(I.vpaddd, len, t, t, src);
  asm.vec(I.vpsrld, len, 0, t, t, 16);
  if (c.isAvx512) {
    asm.vec(I.vcmpps_k, len, MASK_SCRATCH, src, src, 3);
    asm.vec(I.vblendmps, len, t, t, u, 0, MASK_SCRATCH);
  } else {
    asm.vec(I.vcmpps, len, nan, src, src, 3);
    asm.vec(I.vblendvps, len, t, t, u, nan << 4);
  }
  return t;
}

function storeNarrow512(c: MemoryContext, s: StmtOf<"store">, src: number): void {
  const { asm } = c;
  const len = lengthFor(s.lanes);
  const k = s.lanes === 4 << len ? 0 : maskOf(c, s.lanes);
  if (s.type === "f16") asm.vec(I.vcvtps2ph, len, src, 0, c.address(s.to), 0, k);
  else asm.vec(MEMORY_BYTES[s.type] === 1 ? I.vpmovdb : I.vpmovdw, len, src, 0, c.address(s.to), 0, k);
}

function storeNarrow256(c: MemoryContext, s: StmtOf<"store">, src: number): void {
  const { asm } = c;
  const [t, u] = [c.temp(0), c.temp(1)];
  const isByte = MEMORY_BYTES[s.type] === 1;
  if (s.type === "f16") asm.vec(I.vcvtps2ph, YMM, src, 0, t, 0);
  else {
    // Low bytes (or words) of each 128-bit half to its low end, then both halves together.
    const pattern = isByte ? [0x0c080400, -1, -1, -1] : [0x05040100, 0x0d0c0908, -1, -1];
    asm.vec(I.vpshufb, YMM, t, src, asm.constant([...pattern, ...pattern]));
    if (s.lanes > 4) {
      asm.vec(I.vextractf128, YMM, t, 0, u, 1);
      asm.vec(isByte ? I.vunpcklps : I.vmovlhps, XMM, t, t, u);
    }
  }
  storeBytes(c, t, s.to, s.lanes * MEMORY_BYTES[s.type]);
}

/** Exactly the low `bytes` (at most 16) of an xmm register. */
function storeBytes(c: MemoryContext, src: number, to: PointerAddress, bytes: number): void {
  const { asm } = c;
  if (bytes === 16) {
    asm.vec(I.vmovups_store, XMM, src, 0, c.address(to));
    return;
  }
  let at = 0;
  if (bytes >= 8) {
    asm.vec(I.vmovsd_store, XMM, src, 0, c.address(to));
    at = 8;
  }
  for (const [size, row] of [
    [4, I.vpextrd],
    [2, I.vpextrw],
    [1, I.vpextrb],
  ] as const) {
    if (bytes - at < size) continue;
    asm.vec(row, XMM, src, 0, c.address(to, at), at / size);
    at += size;
  }
}

/** Sets a mask register for the whole kernel. */
export function presetMask(asm: Assembler, k: number, bits: number, scratch: number): void {
  asm.op(I.mov_const32, scratch, 0, bits);
  asm.vec(bits >>> 16 ? I.kmovd : I.kmovw, XMM, k, 0, scratch);
}
