// Vector operations of the kernel language to instruction rows, one line an operation.
import type { VecOp } from "../../ir/kernel_ops.ts";
import { I, type Row } from "./instructions.ts";

/**
 * form says how `emit_vector.ts` lays the operands out; `memory` which operand (in order of preference) may be a memory operand.
 * lanes: a horizontal reduction by `avx512`. imm: rounding mode, comparison predicate, which lanes, mask of halves.
 */
export interface OperationRow {
  readonly form:
    | "move"
    | "binary"
    | "unary"
    | "constant"
    | "fma"
    | "dot"
    | "compare"
    | "shift"
    | "select"
    | "lanes"
    | "shuffle"
    | "lookup"
    | "halves";
  readonly avx512: Row;
  readonly avx2: Row;
  readonly memory: readonly ("a" | "b" | "c")[];
  readonly imm: number;
  /** Of AVX2, where it is another one. */
  readonly avx2Imm?: number;
  /** AVX2 has only the mirrored comparison: operands change places. */
  readonly isMirrored: boolean;
}

function row(form: OperationRow["form"], both: Row, memory = "", more: Partial<OperationRow> = {}): OperationRow {
  return { form, avx512: both, avx2: both, memory: [...memory] as OperationRow["memory"], imm: 0, isMirrored: false, ...more };
}
/** Both orders of operands give the same result, so either may come from memory. */
const commutative = (both: Row) => row("binary", both, "ba");
const binary = (both: Row) => row("binary", both, "b");
const rounding = (mode: number) => row("unary", I.vrndscaleps, "a", { avx2: I.vroundps, imm: mode | 8 });
const compare = (predicate: number) => row("compare", I.vcmpps_k, "b", { avx2: I.vcmpps, imm: predicate });

export const OPERATIONS: Readonly<Record<VecOp, OperationRow>> = {
  mov: row("move", I.vmovaps, "a"),
  add: commutative(I.vaddps),
  sub: binary(I.vsubps),
  mul: commutative(I.vmulps),
  div: binary(I.vdivps),
  // min and max give b when either is NaN, and b of two zeros: a NaN in `a` is dropped, one in `b` stays. Kernels that must keep NaN select with isnan.
  min: binary(I.vminps),
  max: binary(I.vmaxps),
  sqrt: row("unary", I.vsqrtps, "a"),
  abs: row("constant", I.vandps, "", { imm: 0x7fffffff }),
  neg: row("constant", I.vxorps, "", { imm: -0x80000000 }),
  floor: rounding(1),
  ceil: rounding(2),
  round: rounding(0),
  trunc: rounding(3),
  fma: row("fma", I.vfmadd231ps, "bac"),
  fnma: row("fma", I.vfnmadd231ps, "bac"),
  dotbf16: row("dot", I.vdpbf16ps, "ba"),
  // Predicates: ordered and quiet, but for "not equal" and "unordered", which are true of NaN.
  eq: compare(0x00),
  ne: compare(0x04),
  lt: compare(0x11),
  le: compare(0x12),
  isnan: compare(0x03),
  iadd: commutative(I.vpaddd),
  isub: binary(I.vpsubd),
  imul: commutative(I.vpmulld),
  imin: commutative(I.vpminsd),
  imax: commutative(I.vpmaxsd),
  ieq: row("compare", I.vpcmpd_k, "b", { avx2: I.vpcmpeqd, imm: 0 }),
  ilt: row("compare", I.vpcmpd_k, "", { avx2: I.vpcmpgtd, imm: 1, isMirrored: true }),
  iany: row("compare", I.vptestmd, "b"),
  ishl: row("shift", I.vpslld),
  ishr: row("shift", I.vpsrad),
  iushr: row("shift", I.vpsrld),
  and: commutative(I.vandps),
  or: commutative(I.vorps),
  xor: commutative(I.vxorps),
  andnot: binary(I.vandnps),
  select: row("select", I.vblendmps, "a", { avx2: I.vblendvps }),
  f2i: row("unary", I.vcvttps2dq, "a"),
  f2iround: row("unary", I.vcvtps2dq, "a"),
  i2f: row("unary", I.vcvtdq2ps, "a"),
  zipl: binary(I.vunpcklps),
  ziph: binary(I.vunpckhps),
  pairl: row("shuffle", I.vshufps, "b", { imm: 0x44 }),
  pairh: row("shuffle", I.vshufps, "b", { imm: 0xee }),
  quadl: row("shuffle", I.vshuff32x4, "b", { avx2: I.vperm2f128, imm: 0x88, avx2Imm: 0x20 }),
  quadh: row("shuffle", I.vshuff32x4, "b", { avx2: I.vperm2f128, imm: 0xdd, avx2Imm: 0x31 }),
  lane0: row("unary", I.vpermilps, "", { imm: 0x00 }),
  lane1: row("unary", I.vpermilps, "", { imm: 0x55 }),
  lane2: row("unary", I.vpermilps, "", { imm: 0xaa }),
  lane3: row("unary", I.vpermilps, "", { imm: 0xff }),
  lookup: row("lookup", I.vpermi2ps, "b", { avx2: I.vpermps }),
  lookuplow: row("halves", I.vpermi2w, "", { imm: 0x55555555 }),
  lookuphigh: row("halves", I.vpermi2w, "", { imm: -0x55555556 }),
  bytes: binary(I.vpshufb),
  sumlanes: row("lanes", I.vaddps),
  maxlanes: row("lanes", I.vmaxps),
  minlanes: row("lanes", I.vminps),
  mullanes: row("lanes", I.vmulps),
};

/** Forms of a fused multiply-add. 231: reg += v·rm; 213: reg = v·reg + rm; 132: reg = reg·rm + v. */
export interface FmaForms {
  readonly f231: Row;
  readonly f213: Row;
  readonly f132: Row;
}
export const FMA_FORMS: Readonly<Record<"fma" | "fnma", FmaForms>> = {
  fma: { f231: I.vfmadd231ps, f213: I.vfmadd213ps, f132: I.vfmadd132ps },
  fnma: { f231: I.vfnmadd231ps, f213: I.vfnmadd213ps, f132: I.vfnmadd132ps },
};
