// Runs kernels of any SIMD target in this process, so that every test of the kernel language holds each code generator against the same results.
import { setFlagsFromString } from "node:v8";
import { emitKernel as emitWasmKernel, LOWEST_ADDRESS } from "../../src/codegen/wasm/emit.ts";
import { buildModule, wasmTarget } from "../../src/codegen/wasm/index.ts";
import { emitKernel } from "../../src/codegen/x86/emit.ts";
import { type Kernel, KernelBuilder, type PointerAddress, type SimdTarget } from "../../src/ir/kernel.ts";
import { lowerPlainly, runCode, TARGETS as X86_TARGETS } from "./x86_run.ts";

export const TARGETS: readonly SimdTarget[] = [...X86_TARGETS, wasmTarget(32768, 1 << 20)];

setFlagsFromString("--experimental-wasm-relaxed-simd");

const PAGE = 65536;
const memory = new WebAssembly.Memory({ initial: LOWEST_ADDRESS / PAGE + 8 });
const ARGUMENTS = LOWEST_ADDRESS - 4096;
const FENCE = 0xa7;

type KernelFunction = (args: number, tid: number) => void;

/** Runs once for each buffer, with that one at the very end of memory, so that an access past it traps; the others are fenced with bytes that must stay. */
export function runWasm(kernel: Kernel<PointerAddress>, buffers: readonly Uint8Array[], threads = 1, relaxed = true): void {
  const body = emitWasmKernel(kernel, relaxed).finish();
  const bytes = buildModule([{ params: ["i32", "i32"], results: [], body, exportName: "k0" }], { sharedMemory: false });
  const { k0 } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } }).exports;
  const results = buffers.map((_, last) => {
    const all = new Uint8Array(memory.buffer);
    all.fill(FENCE);
    let next = LOWEST_ADDRESS;
    const places = buffers.map((b, i) => {
      const at = i === last ? all.length - b.length : next;
      if (i !== last) next += b.length + 64;
      all.set(b, at);
      new DataView(all.buffer).setUint32(ARGUMENTS + 4 * i, at, true);
      return { at, end: at + b.length };
    });
    for (let tid = 0; tid < threads; tid++) (k0 as KernelFunction)(ARGUMENTS, tid);
    for (const { end } of places)
      for (let i = end; i < Math.min(end + 64, all.length); i++)
        if (all[i] !== FENCE) throw new Error(`wrote ${i - end} bytes past a buffer`);
    return buffers.map((_, i) => all.slice(places[i].at, places[i].end));
  });
  buffers.forEach((b, i) => {
    b.set(results[results.length - 1][i]);
    for (const other of results)
      if (Buffer.compare(other[i], results[0][i]) !== 0) throw new Error("results depend on where the buffers are");
  });
}

/** Runs a kernel with lowered addresses once for each thread number in turn. */
export function runLowered(target: SimdTarget, kernel: Kernel<PointerAddress>, buffers: readonly Uint8Array[], threads = 1): void {
  if (target.name === "wasm") runWasm(kernel, buffers, threads);
  else runCode(emitKernel(kernel, target).finish(), buffers, threads);
}

/** Builds, compiles and runs a kernel over the given buffers. */
export function runKernel(
  target: SimdTarget,
  buffers: Readonly<Record<string, ArrayBufferView>>,
  build: (k: KernelBuilder) => void,
  threads = 1,
): void {
  const k = new KernelBuilder("test", target, threads);
  const views = Object.entries(buffers).map(([name, b]) => {
    k.buffer(name, b.byteLength, "readwrite");
    return new Uint8Array(b.buffer, b.byteOffset, b.byteLength);
  });
  build(k);
  runLowered(target, lowerPlainly(k.build()), views, threads);
}
