// Kernels to WebAssembly SIMD modules.
import type { Kernel } from "../../ir/kernel.ts";
import { lowerAddresses } from "../addresses.ts";
import { emitKernel } from "./emit.ts";
import { buildModule, type WasmFunction } from "./module.ts";

export { LOWEST_ADDRESS } from "./emit.ts";
export { buildModule, type WasmFunction } from "./module.ts";
export { wasmTarget } from "./target.ts";
export { FunctionWriter } from "./writer.ts";

export interface WasmOptions {
  /** Uses fused multiply-add and other relaxed instructions; without, a·b + c rounds twice. */
  readonly relaxed: boolean;
  /** Memory seen by several threads. */
  readonly sharedMemory: boolean;
}

/** One function a kernel, exported as k0, k1, …: (address of the parameters' u32 addresses, thread). Buffers lie at LOWEST_ADDRESS or above. */
export const kernelFunction = (kernel: Kernel, number: number, relaxed: boolean): WasmFunction => ({
  params: ["i32", "i32"],
  results: [],
  body: emitKernel(lowerAddresses(kernel), relaxed).finish(),
  exportName: `k${number}`,
});

/** A module with all kernels, importing env.memory. */
export const emitWasm = (kernels: readonly Kernel[], { relaxed, sharedMemory }: WasmOptions): Uint8Array<ArrayBuffer> =>
  buildModule(
    kernels.map((kernel, i) => kernelFunction(kernel, i, relaxed)),
    { sharedMemory },
  );

/** One instruction a line, in the names of the text format, indented by blocks. */
export const listWasm = (kernel: Kernel, relaxed: boolean): string =>
  `${emitKernel(lowerAddresses(kernel), relaxed, true).lines.join("\n")}\n`;
