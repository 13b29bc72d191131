// The WebAssembly SIMD target, as kernel authors see it.
import type { SimdTarget } from "../../ir/kernel.ts";

/** 128-bit vectors; engines on x86-64 have 15 registers for them, on ARM more. l1, l2: bytes of a core's data caches. */
export const wasmTarget = (l1: number, l2: number): SimdTarget => ({ name: "wasm", lanes: 4, registers: 15, l1, l2 });
