// What the two GPU devices (CUDA, WebGPU) have in common: memory that only the device sees, kernels, and launch lists that run in order without the host.
import type { DType, TypedArray } from "../ir/dtype.ts";
import type { GpuKernel } from "../ir/library_kernel.ts";
import type { SimtKernel, SimtTarget } from "../ir/simt.ts";

/** Device memory. */
export interface GpuMemory {
  readonly bytes: number;
  free(): void;
}

/** Part of a memory, bytes from `offset` on; offsets are multiples of the device's alignment. */
export interface GpuRange {
  readonly memory: GpuMemory;
  readonly offset: number;
  readonly bytes: number;
}

/** One launch: kernel number and what each of its parameters is. */
export interface GpuLaunch {
  readonly kernel: number;
  readonly args: readonly GpuRange[];
  /** Where the node that it belongs to came from, for errors. */
  readonly from?: string;
}

/** Loaded kernels with a fixed list of launches. */
export interface GpuLaunchList {
  readonly length: number;
  /** Queues launches [from, to); one by one: each by a call of its own, where the device could replay them as one. */
  run(from: number, to: number, isOneByOne?: boolean): void;
  /** Runs all launches one by one; milliseconds of each on the device. */
  profile(): Promise<readonly number[]>;
  /** Bytes of compiled code; 0 where the driver does not tell. */
  readonly codeBytes: number;
  /** What loading the same list with a device of the same codeKey needs of its kernels' bodies. */
  code(): Uint8Array;
  free(): void;
}

/** Work is queued in order; only `read` and `sync` wait for it. */
export interface GpuDevice {
  readonly name: "cuda" | "webgpu";
  readonly target: SimtTarget;
  /** Equal for devices, in any process, for which programs are the same and which run each other's code. */
  readonly codeKey: string;
  /** Of the offsets of ranges, bytes. */
  readonly alignment: number;
  /** What the device is called by its maker. */
  readonly description: string;
  /** Memory of zeros. Throws HeddleError("limit") with what was needed and what is free. */
  alloc(bytes: number): GpuMemory;
  /** Elements in the host's form into memory in the device's form. */
  write(to: GpuMemory, offset: number, dtype: DType, data: TypedArray): void;
  /** `count` elements in the host's form, after all that is queued. */
  read(from: GpuMemory, offset: number, dtype: DType, count: number): Promise<TypedArray>;
  /** With the code of an equal list the kernels' bodies are not looked at. */
  load(kernels: readonly GpuKernel[], launches: readonly GpuLaunch[], code?: Uint8Array): Promise<GpuLaunchList>;
  /** All that is queued is done; throws what went wrong on the device since, naming the kernel. */
  sync(): Promise<void>;
  /** A kernel in the language that the device compiles. */
  print(kernel: SimtKernel): string;
  /** A kernel as the device's own instructions or assembly, where the driver shows it. */
  disassemble(kernel: SimtKernel): Promise<string>;
  /** Bytes that the device has, and has free; null where it does not tell. */
  memory(): { readonly totalBytes: number; readonly freeBytes: number } | null;
  close(): Promise<void>;
}
