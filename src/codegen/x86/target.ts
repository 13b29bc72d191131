// The two x86-64 vector targets, as kernel authors see them.
import type { SimdTarget } from "../../ir/kernel.ts";

/** What processors with the same instruction set differ in. */
type Processor = Pick<SimdTarget, "dotsBf16" | "splitsIndexed" | "slowWordLookups">;

/** Only what is so: a target's JSON is part of the key that programs are cached under. */
const traits = (processor: Processor): Processor => Object.fromEntries(Object.entries(processor).filter(([, isSo]) => isSo));

/** AVX-512 F, VL, BW, DQ, and BF16 where told so: 32 registers of 16 lanes; none is reserved by the emitter. l1, l2: bytes of a core's data caches. */
export const avx512Target = (l1: number, l2: number, processor: Processor = {}): SimdTarget => ({
  name: "avx512",
  lanes: 16,
  registers: 32,
  l1,
  l2,
  expandsLoads: true,
  ...traits(processor),
});

/** AVX2 with FMA and F16C: 16 registers of 8 lanes. */
export const avx2Target = (l1: number, l2: number, { splitsIndexed }: Processor = {}): SimdTarget => ({
  name: "avx2",
  lanes: 8,
  registers: 16,
  l1,
  l2,
  ...traits({ splitsIndexed }),
});
