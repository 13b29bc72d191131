// The two x86-64 vector targets, as kernel authors see them.
import type { SimdTarget } from "../../ir/kernel.ts";

/** AVX-512 F, VL, BW, DQ, and BF16 where told so: 32 registers of 16 lanes; none is reserved by the emitter. l1, l2: bytes of a core's data caches. */
export const avx512Target = (l1: number, l2: number, dotsBf16 = false): SimdTarget => ({
  name: "avx512",
  lanes: 16,
  registers: 32,
  l1,
  l2,
  expandsLoads: true,
  ...(dotsBf16 ? { dotsBf16 } : {}),
});

/** AVX2 with FMA and F16C: 16 registers of 8 lanes. */
export const avx2Target = (l1: number, l2: number): SimdTarget => ({ name: "avx2", lanes: 8, registers: 16, l1, l2 });
