// What the instructions of one statement need: temporary registers, the bits of a constant.
import { type Affine, type PointerAddress, rangeOf, type Stmt } from "../../ir/kernel.ts";
import { type Census, laneBits, maskLanes } from "./census.ts";
import { OPERATIONS } from "./operations.ts";

type StmtOf<K extends Stmt["k"]> = Extract<Stmt<PointerAddress>, { k: K }>;

const word = new DataView(new ArrayBuffer(4));
/** A constant's 32 bits as a signed integer. */
export function bitsOf(type: "f32" | "i32", value: number): number {
  if (type === "i32") return value | 0;
  word.setFloat32(0, value);
  return word.getInt32(0);
}

export const isInt32 = (n: number): boolean => n >= -0x80000000 && n <= 0x7fffffff;

/** Whether evaluating it takes a second register. */
export function needsScratch({ base, terms }: Affine): boolean {
  if (terms.length === 0) return !isInt32(base);
  return terms.length > 1 || !isInt32(base) || !isInt32(terms[0].c);
}

// ---- vector registers

/** A reduction over lanes keeps the halves that change places, a dot product that must not overwrite its addend the sum, a lookup what both tables give. */
export function operationTemps({ op, dst, a, b, c }: StmtOf<"vec">): number {
  const { form } = OPERATIONS[op];
  if (form === "lookup") return a.id === b?.id ? 0 : 2;
  if (form === "halves") return c?.id === dst.id ? 0 : 1;
  return form === "lanes" || (form === "dot" && c?.id !== dst.id) ? 1 : 0;
}

export const loadTemps = (s: StmtOf<"load">): number => (s.mode === "strided" || s.type === "i64" ? 1 : 0);

export function storeTemps({ type }: StmtOf<"store">, isAvx512: boolean): number {
  if (type === "f32" || type === "i32") return isAvx512 ? 0 : 1;
  if (type === "bf16") return 3;
  if (type === "i64") return isAvx512 ? 1 : 2;
  return isAvx512 ? 0 : 2;
}

// ---- integer registers

/** One to set a mask register from, where none is kept for these lanes. */
export function maskTemps(s: StmtOf<"load" | "store" | "gather">, census: Census, isAvx512: boolean): number {
  const lanes = isAvx512 ? maskLanes(s) : 0;
  return lanes > 0 && lanes < 16 && !census.maskRegister(laneBits(lanes)) ? 1 : 0;
}

export function pointerTemps({ from, pointer, add }: StmtOf<"pointer">): number {
  const isBump = "pointer" in from && from.pointer.id === pointer.id;
  return needsScratch(add) || (isBump && add.terms.length > 0) ? 1 : 0;
}

/** Largest dividend that the multiplication by a reciprocal is exact for. */
const MAX_DIVIDEND = 0x7fffffff;

/** Smallest multiple of the divisor that makes the dividend non-negative, and whether reciprocal multiplication does then. */
export function divisionPlan(a: Affine, by: number): { readonly shift: number; readonly isNarrow: boolean } {
  const [lo, hi] = rangeOf(a);
  const shift = lo < 0 ? Math.ceil(-lo / by) * by : 0;
  return { shift, isNarrow: hi + shift <= MAX_DIVIDEND };
}
