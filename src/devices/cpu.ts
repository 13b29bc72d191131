// What the two CPU devices (x86-64 machine code, WebAssembly) have in common: memory, loaded kernels, and launch lists walked by all threads together.
import type { TypedArray } from "../ir/dtype.ts";
import type { Kernel, SimdTarget } from "../ir/kernel.ts";

/** Device memory, 64-byte aligned, visible to every thread. */
export interface Memory {
  /** Address as kernels see it: a machine address, or an offset in WebAssembly's memory. */
  readonly address: number;
  readonly bytes: number;
  /** The same bytes for JavaScript. Fetch it again after allocating: WebAssembly's view changes when the memory grows. */
  view(): Uint8Array;
  free(): void;
}

/** A kernel as code. */
export interface CompiledKernel {
  readonly name: string;
  /** All threads of the device, or one. */
  readonly threads: number;
  /** Of each parameter: bytes of scratch that the device adds, or null for one that a launch gives. */
  readonly params: readonly (number | null)[];
  /** Where it begins: a byte of the code (x86), a function of the module (wasm). */
  readonly entry: number;
}

/** Kernels as code: plain data, which devices of the same `codeKey` can load in any process. */
export interface Compiled {
  /** x86: machine code that runs at any address; wasm: a module. */
  readonly code: Uint8Array<ArrayBuffer>;
  readonly kernels: readonly CompiledKernel[];
}

/** One launch: kernel number in the loaded module and the address of each of its parameters, scratch excluded (the device adds it). */
export interface Launch {
  readonly kernel: number;
  readonly args: readonly number[];
}

/** An argument of a launch, by number; scratch does not count. */
export interface Slot {
  readonly launch: number;
  readonly arg: number;
}

/** Compiled kernels with a fixed list of launches. Each launch runs on all threads, with a barrier after it. */
export interface LaunchList {
  readonly length: number;
  /** Runs launches [from, to) and returns when they are done. Blocks this thread. */
  run(from: number, to: number): void;
  /** The same without blocking the event loop. */
  runAsync(from: number, to: number): Promise<void>;
  /**
   * Where kernels can reach the host's arrays: a function that points these arguments at an array's elements, or with null back to where they were.
   * The caller keeps the array alive, and its memory in place, while it runs.
   */
  slots?(slots: readonly Slot[]): (data: TypedArray | null) => void;
  /** Bytes of generated code. */
  readonly codeBytes: number;
  free(): void;
}

export interface CpuDevice {
  readonly name: "x86" | "wasm";
  readonly target: SimdTarget;
  readonly threads: number;
  /** All that compiled code depends on besides the kernels and heddle itself. */
  readonly codeKey: string;
  /** Lets the threads come up while the caller does something else; load() does at the latest. */
  start(): void;
  alloc(bytes: number): Memory;
  compile(kernels: readonly Kernel[]): Promise<Compiled>;
  /** Prepares launches of compiled kernels, or of kernels that it compiles first. */
  load(kernels: Compiled | readonly Kernel[], launches: readonly Launch[]): Promise<LaunchList>;
  /** Human-readable code of one kernel. */
  disassemble(kernel: Kernel): Promise<string>;
  /** Stops the threads and frees everything. */
  close(): void;
}

export interface CpuDeviceOptions {
  /** Threads, this one included. */
  readonly threads: number;
  /** Puts every allocation against an inaccessible page (x86 only), so that any access past its end faults: a test mode. */
  readonly guardPages?: boolean;
}
