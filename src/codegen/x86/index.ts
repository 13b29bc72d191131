// Kernels to x86-64 machine code.
import type { Kernel, SimdTarget } from "../../ir/kernel.ts";
import { lowerAddresses } from "../addresses.ts";
import { emitKernel } from "./emit.ts";

export { listX86 } from "./disassemble.ts";
export { avx2Target, avx512Target } from "./target.ts";

/** Position-independent code of `void kernel(const uint64_t *args, uint64_t tid)`, to be placed 64-byte aligned; `entry` is the byte to call. */
export function emitX86(kernel: Kernel, target: SimdTarget): { code: Uint8Array; entry: number } {
  return { code: emitKernel(lowerAddresses(kernel), target).finish(), entry: 0 };
}
