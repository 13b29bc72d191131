// The x86-64 instructions heddle emits: one row of text each, in the terms of Intel's manual, parsed once into encoder fields.

/** Where an operand goes in the encoding, and what it is. */
export interface OperandRow {
  /** V vector of the instruction's length, H half of it, Q quarter, E eighth, X xmm, Y ymm, K mask, G vector-indexed memory; q d w b: integer register of 64, 32, 16, 8 bits. */
  readonly kind: string;
  /** g: ModRM.reg, m: ModRM.rm (register or memory), v: VEX.vvvv, o: low bits of the opcode, s: high half of an immediate byte. */
  readonly slot: string;
}

export interface Row {
  readonly name: string;
  readonly legacy: boolean;
  readonly vex: boolean;
  readonly evex: boolean;
  /** 0 none, 1 0x66, 2 0xF3, 3 0xF2. */
  readonly pp: number;
  /** 0 one-byte opcodes, 1 0F, 2 0F38, 3 0F3A. */
  readonly map: number;
  readonly w: number;
  readonly evexW: number;
  readonly opcode: number;
  /** ModRM.reg as part of the opcode, or -1. */
  readonly digit: number;
  /** Vector length that the row fixes (0: 128, 1: 256, 2: 512), or -1. */
  readonly length: number;
  readonly operands: readonly OperandRow[];
  readonly immBytes: number;
  /** Bytes of memory that disp8 counts in for EVEX are (16 << length) >> memShift, unless memBytes fixes them. */
  readonly memShift: number;
  readonly memBytes: number;
  /** Bytes of an embedded broadcast element, 0: not allowed. */
  readonly broadcast: number;
  /** Byte registers, which need REX to reach spl, bpl, sil, dil: 1 in ModRM.reg, 2 in ModRM.rm. */
  readonly byteRegisters: number;
  readonly hasRm: boolean;
  /** The index register of the memory operand is a vector (gather, scatter). */
  readonly vectorIndex: boolean;
  readonly lock: boolean;
}

// name: "encoding pp.map.w[.length] opcode[/digit] operands[ extra]"; encoding L legacy, V VEX, E EVEX, B both; w e: 1 in EVEX, 0 in VEX;
// extra: b4 embedded broadcast of 4 bytes, nN memory of N bytes. A name's part after "_" only tells forms apart.
const TABLE = {
  // Integer registers, 64 bits unless the name says 32
  mov: "L -.0.1 8B qg,qm",
  mov32: "L -.0.0 8B dg,dm",
  mov_store: "L -.0.1 89 qm,qg",
  mov32_store: "L -.0.0 89 dm,dg",
  mov16_store: "L 66.0.0 89 wm,wg",
  mov8_store: "L -.0.0 88 bm,bg",
  mov_imm: "L -.0.1 C7/0 qm,i4",
  mov32_imm: "L -.0.0 C7/0 dm,i4",
  mov_const32: "L -.0.0 B8 do,i4",
  movabs: "L -.0.1 B8 qo,i8",
  movzx8: "L -.0F.0 B6 dg,bm",
  movzx16: "L -.0F.0 B7 dg,wm",
  movsx8: "L -.0F.1 BE qg,bm",
  movsx16: "L -.0F.1 BF qg,wm",
  movsxd: "L -.0.1 63 qg,dm",
  lea: "L -.0.1 8D qg,qm",
  add: "L -.0.1 03 qg,qm",
  or: "L -.0.1 0B qg,qm",
  and: "L -.0.1 23 qg,qm",
  sub: "L -.0.1 2B qg,qm",
  xor: "L -.0.1 33 qg,qm",
  cmp: "L -.0.1 3B qg,qm",
  xor32: "L -.0.0 33 dg,dm",
  cmp32: "L -.0.0 3B dg,dm",
  add32: "L -.0.0 03 dg,dm",
  add_store: "L -.0.1 01 qm,qg",
  sub_store: "L -.0.1 29 qm,qg",
  cmp_store: "L -.0.1 39 qm,qg",
  add_imm: "L -.0.1 81/0 qm,i4",
  or_imm: "L -.0.1 81/1 qm,i4",
  and_imm: "L -.0.1 81/4 qm,i4",
  sub_imm: "L -.0.1 81/5 qm,i4",
  xor_imm: "L -.0.1 81/6 qm,i4",
  cmp_imm: "L -.0.1 81/7 qm,i4",
  add32_imm: "L -.0.0 81/0 dm,i4",
  and32_imm: "L -.0.0 81/4 dm,i4",
  sub32_imm: "L -.0.0 81/5 dm,i4",
  cmp32_imm: "L -.0.0 81/7 dm,i4",
  add_imm8: "L -.0.1 83/0 qm,i1",
  or_imm8: "L -.0.1 83/1 qm,i1",
  and_imm8: "L -.0.1 83/4 qm,i1",
  sub_imm8: "L -.0.1 83/5 qm,i1",
  xor_imm8: "L -.0.1 83/6 qm,i1",
  cmp_imm8: "L -.0.1 83/7 qm,i1",
  add32_imm8: "L -.0.0 83/0 dm,i1",
  and32_imm8: "L -.0.0 83/4 dm,i1",
  sub32_imm8: "L -.0.0 83/5 dm,i1",
  cmp32_imm8: "L -.0.0 83/7 dm,i1",
  test: "L -.0.1 85 qm,qg",
  test32: "L -.0.0 85 dm,dg",
  imul: "L -.0F.1 AF qg,qm",
  imul_imm: "L -.0.1 69 qg,qm,i4",
  imul_imm8: "L -.0.1 6B qg,qm,i1",
  mul: "L -.0.1 F7/4 qm",
  imul_wide: "L -.0.1 F7/5 qm",
  div: "L -.0.1 F7/6 qm",
  idiv: "L -.0.1 F7/7 qm",
  not: "L -.0.1 F7/2 qm",
  neg: "L -.0.1 F7/3 qm",
  inc: "L -.0.1 FF/0 qm",
  dec: "L -.0.1 FF/1 qm",
  inc32: "L -.0.0 FF/0 dm",
  dec32: "L -.0.0 FF/1 dm",
  shl: "L -.0.1 C1/4 qm,i1",
  shr: "L -.0.1 C1/5 qm,i1",
  sar: "L -.0.1 C1/7 qm,i1",
  cqo: "L -.0.1 99 ",
  push: "L -.0.0 50 qo",
  pop: "L -.0.0 58 qo",
  call: "L -.0.0 FF/2 qm",
  jmp: "L -.0.0 FF/4 qm",
  ret: "L -.0.0 C3 ",
  xchg: "L -.0.1 87 qm,qg",
  xchg32: "L -.0.0 87 dm,dg",
  lock_xadd: "L -.0F.1 C1 qm,qg",
  lock_xadd32: "L -.0F.0 C1 dm,dg",
  lock_cmpxchg: "L -.0F.1 B1 qm,qg",
  lock_cmpxchg32: "L -.0F.0 B1 dm,dg",
  lock_dec: "L -.0.1 FF/1 qm",
  lock_dec32: "L -.0.0 FF/1 dm",
  lock_inc: "L -.0.1 FF/0 qm",
  lock_inc32: "L -.0.0 FF/0 dm",
  pause: "L F3.0.0 90 ",
  rdtsc: "L -.0F.0 31 ",
  cpuid: "L -.0F.0 A2 ",
  syscall: "L -.0F.0 05 ",
  int3: "L -.0.0 CC ",
  prefetcht0: "L -.0F.0 18/1 bm",
  prefetcht1: "L -.0F.0 18/2 bm",
  prefetchw: "L -.0F.0 0D/1 bm",
  // cc in the low opcode bits is added by cmov() and setcc()
  cmovcc: "L -.0F.1 40 qg,qm",
  setcc: "L -.0F.0 90 bm",

  // Vector moves
  vmovups: "B -.0F.0 10 Vg,Vm",
  vmovups_store: "B -.0F.0 11 Vm,Vg",
  vmovaps: "B -.0F.0 28 Vg,Vm",
  vmovaps_store: "B -.0F.0 29 Vm,Vg",
  vmovdqu: "V F3.0F.0 6F Vg,Vm",
  vmovdqu_store: "V F3.0F.0 7F Vm,Vg",
  vmovdqu8: "E F2.0F.0 6F Vg,Vm",
  vmovdqu8_store: "E F2.0F.0 7F Vm,Vg",
  vmovdqu16: "E F2.0F.1 6F Vg,Vm",
  vmovdqu16_store: "E F2.0F.1 7F Vm,Vg",
  vmovdqu32: "E F3.0F.0 6F Vg,Vm",
  vmovdqu32_store: "E F3.0F.0 7F Vm,Vg",
  vmovdqu64: "E F3.0F.1 6F Vg,Vm",
  vmovdqu64_store: "E F3.0F.1 7F Vm,Vg",
  vmovss: "B F3.0F.0.0 10 Xg,Xm n4",
  vmovss_store: "B F3.0F.0.0 11 Xm,Xg n4",
  vmovsd: "B F2.0F.e.0 10 Xg,Xm n8",
  vmovsd_store: "B F2.0F.e.0 11 Xm,Xg n8",
  vmovd: "B 66.0F.0.0 6E Xg,dm n4",
  vmovd_store: "B 66.0F.0.0 7E dm,Xg n4",
  vmovq: "B 66.0F.1.0 6E Xg,qm n8",
  vmovq_store: "B 66.0F.1.0 7E qm,Xg n8",
  vbroadcastss: "B 66.38.0 18 Vg,Xm n4",
  vbroadcastf32x4: "E 66.38.0.2 1A Vg,Xm n16",
  vbroadcastf128: "V 66.38.0.1 1A Yg,Xm",
  vpbroadcastb: "B 66.38.0 78 Vg,Xm n1",
  vpbroadcastw: "B 66.38.0 79 Vg,Xm n2",
  vpbroadcastd: "B 66.38.0 58 Vg,Xm n4",
  vpbroadcastd_r: "E 66.38.0 7C Vg,dm",
  vpbroadcastq: "E 66.38.1 59 Vg,Xm n8",
  vmaskmovps: "V 66.38.0 2C Vg,Vv,Vm",
  vmaskmovps_store: "V 66.38.0 2E Vm,Vv,Vg",
  vpmaskmovd: "V 66.38.0 8C Vg,Vv,Vm",
  vpmaskmovd_store: "V 66.38.0 8E Vm,Vv,Vg",
  vpmaskmovq: "V 66.38.1 8C Vg,Vv,Vm",
  vpmaskmovq_store: "V 66.38.1 8E Vm,Vv,Vg",
  vgatherdps: "V 66.38.0 92 Vg,Gm,Vv",
  vgatherdps_k: "E 66.38.0 92 Vg,Gm n4",
  vexpandps: "E 66.38.0 88 Vg,Vm n4",
  vscatterdps_k: "E 66.38.0 A2 Gm,Vg n4",

  // Float arithmetic
  vaddps: "B -.0F.0 58 Vg,Vv,Vm b4",
  vsubps: "B -.0F.0 5C Vg,Vv,Vm b4",
  vmulps: "B -.0F.0 59 Vg,Vv,Vm b4",
  vdivps: "B -.0F.0 5E Vg,Vv,Vm b4",
  vminps: "B -.0F.0 5D Vg,Vv,Vm b4",
  vmaxps: "B -.0F.0 5F Vg,Vv,Vm b4",
  vsqrtps: "B -.0F.0 51 Vg,Vm b4",
  vandps: "B -.0F.0 54 Vg,Vv,Vm b4",
  vandnps: "B -.0F.0 55 Vg,Vv,Vm b4",
  vorps: "B -.0F.0 56 Vg,Vv,Vm b4",
  vxorps: "B -.0F.0 57 Vg,Vv,Vm b4",
  vaddss: "B F3.0F.0.0 58 Xg,Xv,Xm n4",
  vmulss: "B F3.0F.0.0 59 Xg,Xv,Xm n4",
  vroundps: "V 66.3A.0 08 Vg,Vm,i1",
  vrndscaleps: "E 66.3A.0 08 Vg,Vm,i1 b4",
  vfmadd132ps: "B 66.38.0 98 Vg,Vv,Vm b4",
  vfmadd213ps: "B 66.38.0 A8 Vg,Vv,Vm b4",
  vfmadd231ps: "B 66.38.0 B8 Vg,Vv,Vm b4",
  vfnmadd132ps: "B 66.38.0 9C Vg,Vv,Vm b4",
  vfnmadd213ps: "B 66.38.0 AC Vg,Vv,Vm b4",
  vfnmadd231ps: "B 66.38.0 BC Vg,Vv,Vm b4",
  vcmpps: "V -.0F.0 C2 Vg,Vv,Vm,i1",
  vcmpps_k: "E -.0F.0 C2 Kg,Vv,Vm,i1 b4",
  vblendvps: "V 66.3A.0 4A Vg,Vv,Vm,Vs,i1",
  vblendmps: "E 66.38.0 65 Vg,Vv,Vm b4",
  vtestps: "V 66.38.0 0E Vg,Vm",
  vmovmskps: "V -.0F.0 50 dg,Vm",

  // Integer arithmetic
  vpaddd: "B 66.0F.0 FE Vg,Vv,Vm b4",
  vpsubd: "B 66.0F.0 FA Vg,Vv,Vm b4",
  vpmulld: "B 66.38.0 40 Vg,Vv,Vm b4",
  vpminsd: "B 66.38.0 39 Vg,Vv,Vm b4",
  vpmaxsd: "B 66.38.0 3D Vg,Vv,Vm b4",
  vpminud: "B 66.38.0 3B Vg,Vv,Vm b4",
  vpmaxud: "B 66.38.0 3F Vg,Vv,Vm b4",
  vpcmpeqd: "V 66.0F.0 76 Vg,Vv,Vm",
  vpcmpgtd: "V 66.0F.0 66 Vg,Vv,Vm",
  vpcmpd_k: "E 66.3A.0 1F Kg,Vv,Vm,i1 b4",
  vptestmd: "E 66.38.0 27 Kg,Vv,Vm b4",
  vpslld: "B 66.0F.0 72/6 Vv,Vm,i1 b4",
  vpsrad: "B 66.0F.0 72/4 Vv,Vm,i1 b4",
  vpsrld: "B 66.0F.0 72/2 Vv,Vm,i1 b4",
  vpand: "V 66.0F.0 DB Vg,Vv,Vm",
  vpandn: "V 66.0F.0 DF Vg,Vv,Vm",
  vpor: "V 66.0F.0 EB Vg,Vv,Vm",
  vpxor: "V 66.0F.0 EF Vg,Vv,Vm",
  vpternlogd: "E 66.3A.0 25 Vg,Vv,Vm,i1 b4",
  vpmovm2d: "E F3.38.0 38 Vg,Km",
  vpmovd2m: "E F3.38.0 39 Kg,Vm",
  vpdpbusd: "E 66.38.0 50 Vg,Vv,Vm b4",
  vdpbf16ps: "E F3.38.0 52 Vg,Vv,Vm b4",
  vpmaddwd: "B 66.0F.0 F5 Vg,Vv,Vm",

  // Conversions
  vcvtdq2ps: "B -.0F.0 5B Vg,Vm b4",
  vcvtps2dq: "B 66.0F.0 5B Vg,Vm b4",
  vcvttps2dq: "B F3.0F.0 5B Vg,Vm b4",
  vcvtph2ps: "B 66.38.0 13 Vg,Hm",
  vcvtps2ph: "B 66.3A.0 1D Hm,Vg,i1",
  vpmovzxbd: "B 66.38.0 31 Vg,Qm",
  vpmovsxbd: "B 66.38.0 21 Vg,Qm",
  vpmovzxwd: "B 66.38.0 33 Vg,Hm",
  vpmovsxwd: "B 66.38.0 23 Vg,Hm",
  vpmovsxdq: "B 66.38.0 25 Vg,Hm",
  vpmovzxdq: "B 66.38.0 35 Vg,Hm",
  vpmovdb: "E F3.38.0 31 Qm,Vg",
  vpmovdw: "E F3.38.0 33 Hm,Vg",
  vpmovqd: "E F3.38.0 35 Hm,Vg",

  // Shuffles
  vshufps: "B -.0F.0 C6 Vg,Vv,Vm,i1 b4",
  vpermilps: "B 66.3A.0 04 Vg,Vm,i1 b4",
  vpshufd: "B 66.0F.0 70 Vg,Vm,i1 b4",
  vpshufb: "B 66.38.0 00 Vg,Vv,Vm",
  vpermq: "B 66.3A.1 00 Vg,Vm,i1 b8",
  vpermps: "B 66.38.0 16 Vg,Vv,Vm b4",
  vpermi2ps: "E 66.38.0 77 Vg,Vv,Vm b4",
  vpermi2w: "E 66.38.1 75 Vg,Vv,Vm",
  vpermd: "B 66.38.0 36 Vg,Vv,Vm b4",
  vunpcklps: "B -.0F.0 14 Vg,Vv,Vm b4",
  vunpckhps: "B -.0F.0 15 Vg,Vv,Vm b4",
  vpackusdw: "B 66.38.0 2B Vg,Vv,Vm b4",
  vpackuswb: "B 66.0F.0 67 Vg,Vv,Vm",
  vmovhlps: "B -.0F.0.0 12 Xg,Xv,Xm",
  vmovlhps: "B -.0F.0.0 16 Xg,Xv,Xm",
  vmovshdup: "B F3.0F.0 16 Vg,Vm",
  vinsertps: "B 66.3A.0.0 21 Xg,Xv,Xm,i1 n4",
  vextractf128: "V 66.3A.0.1 19 Xm,Yg,i1",
  vinsertf128: "V 66.3A.0.1 18 Yg,Yv,Xm,i1",
  vperm2f128: "V 66.3A.0.1 06 Yg,Yv,Ym,i1",
  vextractf32x4: "E 66.3A.0 19 Xm,Vg,i1 n16",
  vinsertf32x4: "E 66.3A.0 18 Vg,Vv,Xm,i1 n16",
  vextractf64x4: "E 66.3A.1.2 1B Ym,Vg,i1 n32",
  vinsertf64x4: "E 66.3A.1.2 1A Vg,Vv,Ym,i1 n32",
  vshuff32x4: "E 66.3A.0 23 Vg,Vv,Vm,i1 b4",
  vshuff64x2: "E 66.3A.1 23 Vg,Vv,Vm,i1 b8",
  vpextrb: "B 66.3A.0.0 14 bm,Xg,i1 n1",
  vpextrw: "B 66.3A.0.0 15 wm,Xg,i1 n2",
  vpextrd: "B 66.3A.0.0 16 dm,Xg,i1 n4",
  vpextrq: "B 66.3A.1.0 16 qm,Xg,i1 n8",
  vpinsrb: "B 66.3A.0.0 20 Xg,Xv,bm,i1 n1",
  vpinsrw: "B 66.0F.0.0 C4 Xg,Xv,wm,i1 n2",
  vpinsrd: "B 66.3A.0.0 22 Xg,Xv,dm,i1 n4",
  vpinsrq: "B 66.3A.1.0 22 Xg,Xv,qm,i1 n8",
  vzeroupper: "V -.0F.0.0 77 ",

  // Mask registers
  kmovw: "V -.0F.0.0 92 Kg,dm",
  kmovw_load: "V -.0F.0.0 90 Kg,wm",
  kmovw_store: "V -.0F.0.0 93 dg,Km",
  kmovw_k: "V -.0F.0.0 90 Kg,Km",
  kmovd: "V F2.0F.0.0 92 Kg,dm",
  kmovq: "V F2.0F.1.0 92 Kg,qm",
  knotw: "V -.0F.0.0 44 Kg,Km",
  kandw: "V -.0F.0.1 41 Kg,Kv,Km",
  kandnw: "V -.0F.0.1 42 Kg,Kv,Km",
  korw: "V -.0F.0.1 45 Kg,Kv,Km",
  kxnorw: "V -.0F.0.1 46 Kg,Kv,Km",
  kxorw: "V -.0F.0.1 47 Kg,Kv,Km",
  kortestw: "V -.0F.0.0 98 Kg,Km",
} as const;

export type InstructionName = keyof typeof TABLE;

const PREFIX: Readonly<Record<string, number>> = { "-": 0, "66": 1, F3: 2, F2: 3 };
const MAP: Readonly<Record<string, number>> = { "0": 0, "0F": 1, "38": 2, "3A": 3 };
const SHIFT: Readonly<Record<string, number>> = { V: 0, H: 1, Q: 2, E: 3 };
/** What the names of the forms of one instruction may end with: its size, or what sets it apart. */
const SIZES = ["8", "16", "32"];

/** Without regular expressions: they would be most of the time that loading this file takes. */
function parseRow(key: string, spec: string): Row {
  const parts = spec.split(" ");
  const encoding = parts[0];
  const prefix = parts[1].split(".");
  const opcode = parts[2].split("/");
  const extra = parts[4] ?? "";
  const operands: OperandRow[] = [];
  let immBytes = 0;
  let byteRegisters = 0;
  let rm: OperandRow | undefined;
  for (const part of parts[3] === "" ? [] : parts[3].split(",")) {
    if (part[0] === "i") {
      immBytes = Number(part[1]);
      continue;
    }
    const operand = { kind: part[0], slot: part[1] };
    operands.push(operand);
    if (operand.slot === "m") rm = operand;
    if (operand.kind === "b") byteRegisters |= operand.slot === "g" ? 1 : 2;
  }
  const legacy = encoding === "L";
  const isLocked = key.startsWith("lock_");
  return {
    name: mnemonicOf(isLocked ? key.slice(5) : key, legacy),
    legacy,
    vex: encoding === "V" || encoding === "B",
    evex: encoding === "E" || encoding === "B",
    pp: PREFIX[prefix[0]],
    map: MAP[prefix[1]],
    w: Number(prefix[2] === "1"),
    evexW: Number(prefix[2] !== "0"),
    opcode: Number.parseInt(opcode[0], 16),
    digit: opcode.length > 1 ? Number(opcode[1]) : -1,
    length: prefix.length > 3 ? Number(prefix[3]) : -1,
    operands,
    immBytes,
    memShift: rm ? (SHIFT[rm.kind] ?? 0) : 0,
    memBytes: extra[0] === "n" ? Number(extra.slice(1)) : 0,
    broadcast: extra[0] === "b" ? Number(extra.slice(1)) : 0,
    byteRegisters,
    hasRm: rm !== undefined,
    vectorIndex: rm?.kind === "G",
    lock: isLocked,
  };
}

function mnemonicOf(key: string, legacy: boolean): string {
  const end = key.indexOf("_");
  const name = end < 0 ? key : key.slice(0, end);
  const size = legacy ? SIZES.find((digits) => name.endsWith(digits)) : undefined;
  return size ? name.slice(0, -size.length) : name;
}

/** Every instruction by name: `I.vaddps`. */
export const I = Object.fromEntries(Object.entries(TABLE).map(([key, spec]) => [key, parseRow(key, spec)])) as Readonly<
  Record<InstructionName, Row> // fromEntries forgets the key type
>;
