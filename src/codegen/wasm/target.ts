// The WebAssembly SIMD target, as kernel authors see it.
import type { SimdTarget } from "../../ir/kernel.ts";

/**
 * 128-bit vectors; V8 has 15 registers for them on x86-64, more on ARM. It issues all loads of a loop body before its arithmetic,
 * so that accumulators and everything loaded in one round count together: 3 × 3 or 4 × 2 tiles, not unrolled, run at the peak, others at half.
 * l1, l2: bytes of a core's data caches.
 */
export const wasmTarget = (l1: number, l2: number): SimdTarget => ({ name: "wasm", lanes: 4, registers: 15, loadsFirst: true, l1, l2 });
