// Turns koffi into the few system calls and function pointers that running generated code needs; addresses are plain numbers.
import { createRequire } from "node:module";
import type { TypedArray } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";

/** Generated code as a function of up to four 64-bit integers. `async` runs it on a thread of libuv's pool. */
export interface NativeFunction {
  (a: number, b: number, c: number, d: number): number;
  async(a: number, b: number, c: number, d: number, done: (error: unknown, result: number) => void): void;
}

export interface Native {
  /** Fresh zeroed pages, readable and writable. Throws when the system refuses. */
  map(bytes: number): number;
  unmap(address: number, bytes: number): void;
  protect(address: number, bytes: number, protection: Protection): void;
  /** Asks for 2 MB pages; no effect where the system has none. */
  adviseHuge(address: number, bytes: number): void;
  /** Bytes at an address, without copying. Nothing is freed when the result is collected. */
  view(address: number, bytes: number): ArrayBuffer;
  /** Where an array's elements are. They stay there as long as the array lives and is not transferred. */
  addressOf(data: TypedArray): number;
  callable(address: number): NativeFunction;
  /** Logical CPUs on which the calling thread may run. */
  affinity(): number[];
  /** Binds the calling thread; false where the system refuses. */
  bind(cpus: readonly number[]): boolean;
}

export type Protection = "none" | "data" | "code";
const PROTECTION: Readonly<Record<Protection, number>> = { none: 0, data: 3, code: 5 };
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MADV_HUGEPAGE = 14;
export const PAGE = 4096;
/** Bytes of a CPU mask: 8192 CPUs, which is what the Linux kernel can be built for at most. */
export const CPU_SET_BYTES = 1024;

/** Absolute path of koffi's CommonJS entry, for workers, which resolve nothing themselves. */
export const koffiPath = (): string => createRequire(import.meta.url).resolve("koffi");

export const cpusOf = (mask: Uint8Array): number[] =>
  Array.from({ length: mask.length * 8 }, (_, cpu) => cpu).filter((cpu) => (mask[cpu >> 3] >> (cpu & 7)) & 1);

export function maskOf(cpus: readonly number[]): Uint8Array {
  const mask = new Uint8Array(CPU_SET_BYTES);
  for (const cpu of cpus) mask[cpu >> 3] |= 1 << (cpu & 7);
  return mask;
}

let loaded: Promise<Native> | undefined;

/** The bindings, loaded once. Throws HeddleError("missing") where koffi is not installed or cannot be loaded. */
export function loadNative(): Promise<Native> {
  loaded ??= bindings();
  return loaded;
}

async function bindings(): Promise<Native> {
  let koffi: typeof import("koffi");
  try {
    koffi = await import("koffi");
  } catch (cause) {
    throw new HeddleError("missing", "device x86: package koffi cannot be loaded; install it, or use the WebAssembly device", { cause });
  }
  const libc = koffi.load(null);
  const mmap = libc.func("mmap", "int64", ["int64", "int64", "int", "int", "int", "int64"]);
  const munmap = libc.func("munmap", "int", ["int64", "int64"]);
  const mprotect = libc.func("mprotect", "int", ["int64", "int64", "int"]);
  const madvise = libc.func("madvise", "int", ["int64", "int64", "int"]);
  const getAffinity = libc.func("sched_getaffinity", "int", ["int", "int64", "void *"]);
  const setAffinity = libc.func("sched_setaffinity", "int", ["int", "int64", "void *"]);
  const signature = koffi.proto("int64 (int64, int64, int64, int64)");
  return {
    map(bytes) {
      const address: number = mmap(0, bytes, PROTECTION.data, MAP_PRIVATE_ANONYMOUS, -1, 0);
      if (address === -1) throw new HeddleError("limit", `device x86: the system has no ${bytes} bytes of memory left (mmap failed)`);
      return address;
    },
    unmap(address, bytes) {
      munmap(address, bytes);
    },
    protect(address, bytes, protection) {
      if (mprotect(address, bytes, PROTECTION[protection]) !== 0)
        throw new HeddleError(
          "missing",
          `device x86: the system refuses ${protection} pages (mprotect failed); use the WebAssembly device`,
        );
    },
    adviseHuge(address, bytes) {
      madvise(address, bytes, MADV_HUGEPAGE);
    },
    view: (address, bytes) => koffi.view(address, bytes),
    addressOf: (data) => Number(koffi.address(data)),
    callable: (address) => koffi.decode(address, signature) as NativeFunction,
    affinity() {
      const mask = new Uint8Array(CPU_SET_BYTES);
      getAffinity(0, CPU_SET_BYTES, mask);
      return cpusOf(mask);
    },
    bind: (cpus) => setAffinity(0, CPU_SET_BYTES, maskOf(cpus)) === 0,
  };
}
