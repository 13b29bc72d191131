// What statements of the kernel language are made of: types in memory, and operations on vectors.

/** Type in memory. f16 and bf16 widen to f32 lanes; u8, i8, u16, i16, bool, and the low half of i64 widen to i32 lanes; stores narrow (f32 → f16/bf16 rounds to nearest even; i32 → i64 sign-extends; integers wrap). */
export type MemoryType = "f32" | "i32" | "u8" | "i8" | "u16" | "i16" | "i64" | "f16" | "bf16";

/** What integer variables are read from, and the interval of what each can hold: limits beyond it cost nothing. */
export type IntMemoryType = "i32" | "i64" | "u8" | "u16";
export const INT_RANGE: Readonly<Record<IntMemoryType, readonly [number, number]>> = {
  i32: [-(2 ** 31), 2 ** 31 - 1],
  i64: [-(2 ** 63), 2 ** 63],
  u8: [0, 255],
  u16: [0, 65535],
};

/** Floor division and modulo by the positive constant b, those bits of a, shifted down, that the constant b has, the smaller, the larger, or a itself. */
export type IntOp = "div" | "mod" | "bits" | "min" | "max" | "set";

/** dst ← f(a[, b[, c]]). fma: dst ← a·b + c, fnma: c − a·b (one rounding where the target has it). dotbf16: lanes of a and b are pairs of bf16, dst ← c + a₁·b₁ + a₀·b₀ in f32, where the target has dotsBf16: it takes numbers below 2⁻¹²⁶ for zeros. iany: whether a ∧ b has any bit set, on AVX-512. select: a's lanes where mask c is set, else b's. andnot: ¬a ∧ b. Shifts by the constant `imm`. Of each four lanes, zipl gives a₀b₀a₁b₁, ziph a₂b₂a₃b₃, pairl a₀a₁b₀b₁, pairh a₂a₃b₂b₃; quadl gives the fours of even number of a, then of b, quadh the odd ones, where there are several; lane0 to lane3 that lane of each four in all of them. lookup: each lane takes one of a's lanes and then b's, which c's low bits number. lookuplow, lookuphigh: c, whose low or high 16 bits of each lane become one of a's halves of lanes and then b's, which they number themselves, on AVX-512. bytes: each byte is that of a's same four lanes which b's byte, 0 to 15, numbers. */
export type VecOp =
  | "mov"
  | "add" | "sub" | "mul" | "div" | "min" | "max" | "sqrt" | "abs" | "neg" | "floor" | "ceil" | "round" | "trunc" | "fma" | "fnma" | "dotbf16"
  | "eq" | "ne" | "lt" | "le" | "isnan"
  | "iadd" | "isub" | "imul" | "imin" | "imax" | "ieq" | "ilt" | "iany" | "ishl" | "ishr" | "iushr"
  | "and" | "or" | "xor" | "andnot" | "select"
  | "f2i" | "f2iround" | "i2f"
  | "zipl" | "ziph" | "pairl" | "pairh" | "quadl" | "quadh" | "lane0" | "lane1" | "lane2" | "lane3" | "lookup" | "lookuplow" | "lookuphigh" | "bytes"
  | "sumlanes" | "maxlanes" | "minlanes" | "mullanes"; // biome-ignore format: a table; the last four: f32, result in every lane

export const MEMORY_BYTES: Readonly<Record<MemoryType, number>> = { f32: 4, i32: 4, u8: 1, i8: 1, u16: 2, i16: 2, i64: 8, f16: 2, bf16: 2 };
