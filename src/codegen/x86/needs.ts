// What the instructions of one statement need: temporary registers, the bits of a constant.
import { type Affine, type PointerAddress, rangeOf, type Stmt } from "../../ir/kernel.ts";
import { type Census, maskLanes } from "./census.ts";
import { OPERATIONS } from "./operations.ts";

const word = new DataView(new ArrayBuffer(4));
/** A constant's 32 bits as a signed integer. */
export function bitsOf(type: "f32" | "i32", value: number): number {
  if (type === "i32") return value | 0;
  word.setFloat32(0, value);
  return word.getInt32(0);
}

export const isInt32 = (n: number): boolean => n >= -0x80000000 && n <= 0x7fffffff;

/** Whether evaluating it takes a second register. */
export const needsScratch = (a: Affine): boolean => a.terms.length > 1 || !isInt32(a.base) || a.terms.some((t) => !isInt32(t.c));

export function vecTempsOf(stmt: Stmt<PointerAddress>, isAvx512: boolean): number {
  switch (stmt.k) {
    case "load":
      return stmt.mode === "strided" || stmt.type === "i64" ? 1 : 0;
    case "gather":
      return isAvx512 ? 1 : 2;
    case "store":
      if (stmt.type === "f32" || stmt.type === "i32") return isAvx512 ? 0 : 1;
      if (stmt.type === "bf16") return 3;
      if (stmt.type === "i64") return isAvx512 ? 1 : 2;
      return isAvx512 ? 0 : 2;
    case "vec":
      return OPERATIONS[stmt.op].form === "lanes" ? 1 : 0;
    default:
      return 0;
  }
}

/** Largest dividend that the multiplication by a reciprocal is exact for. */
export const MAX_DIVIDEND = 0x7fffffff;

export function intTempsOf(stmt: Stmt<PointerAddress>, census: Census, isAvx512: boolean): number {
  switch (stmt.k) {
    case "int":
      return stmt.op === "set" ? (needsScratch(stmt.a) ? 1 : 0) : 2;
    case "iota":
      return stmt.a.terms.length === 0 ? 0 : 2;
    case "loadint":
      return 1;
    case "pointer": {
      const isBump = "pointer" in stmt.from && stmt.from.pointer.id === stmt.pointer.id;
      return needsScratch(stmt.add) || (isBump && stmt.add.terms.length > 0) ? 1 : 0;
    }
    case "load":
    case "store":
    case "gather": {
      const lanes = isAvx512 ? maskLanes(stmt) : 0;
      return lanes > 0 && lanes < 16 && !census.maskRegister(lanes) ? 1 : 0;
    }
    default:
      return 0;
  }
}

/** Smallest multiple of the divisor that makes the dividend non-negative, and whether reciprocal multiplication does then. */
export function divisionPlan(a: Affine, by: number): { readonly shift: number; readonly isNarrow: boolean } {
  const [lo, hi] = rangeOf(a);
  const shift = lo < 0 ? Math.ceil(-lo / by) * by : 0;
  return { shift, isNarrow: hi + shift <= MAX_DIVIDEND };
}
