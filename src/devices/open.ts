// Picks and opens the device that a user asked for, and says once when it is not the fastest kind.
import { HeddleError } from "../ir/error.ts";
import type { CpuDevice } from "./cpu.ts";
import type { GpuDevice } from "./gpu.ts";
import { physicalCores } from "./machine.ts";

export interface DeviceOptions {
  /**
   * cpu: x86-64 machine code where that works, WebAssembly elsewhere · webgpu: the browser's GPU, in Node that of the package webgpu ·
   * cuda, cuda:1: an NVIDIA GPU by number · reference: plain float64 loops. Default cpu.
   */
  readonly device?: "cpu" | "x86" | "wasm" | "webgpu" | "cuda" | `cuda:${number}` | "reference";
  /** Instruction set of device x86; default: the widest there is. */
  readonly isa?: "avx512" | "avx2";
  /** Of a CPU. Default: the number of physical cores. */
  readonly threads?: number;
  readonly guardPages?: boolean;
}

/** Any device that runs compiled code. */
export type Device = CpuDevice | GpuDevice;
export const isGpu = (device: Device): device is GpuDevice => device.name === "cuda" || device.name === "webgpu";

const GPU_NAME = /^(webgpu|cuda)(?::(\d+))?$/;
export const isGpuName = (name: DeviceOptions["device"] = "cpu"): boolean => GPU_NAME.test(name);

let hasWarned = false;

/** Opens any device but the reference. Throws HeddleError: "missing" when the one that was asked for cannot be had, "bad-argument" for a name that is none. */
export async function openAnyDevice(options: DeviceOptions): Promise<Device> {
  const [, gpu, ordinal] = GPU_NAME.exec(options.device ?? "") ?? [];
  if (gpu === "webgpu" && ordinal === undefined) return (await import("./webgpu/index.ts")).openWebGpu();
  if (gpu === "cuda") return (await import("./cuda/index.ts")).openCuda({ ordinal: Number(ordinal ?? 0) });
  return openDevice(options);
}

/** Opens a CPU device. Throws as openAnyDevice does. */
export async function openDevice(options: DeviceOptions): Promise<CpuDevice> {
  const threads = options.threads ?? physicalCores();
  const { device = "cpu" } = options;
  if (device === "wasm") return openWasmDevice(threads);
  if (device !== "cpu" && device !== "x86")
    throw new HeddleError(
      "bad-argument",
      `device ${device}: there is none of that name here, only cpu, x86, wasm, webgpu, cuda, cuda:1 and so on, and reference`,
    );
  try {
    const { openX86 } = await import("./x86/index.ts");
    return await openX86({ threads, isa: options.isa, guardPages: options.guardPages });
  } catch (e) {
    if (device === "x86" || options.isa || !(e instanceof HeddleError) || e.code !== "missing") throw e;
    if (!hasWarned) process.emitWarning(`${e.message}. Running on WebAssembly instead, which is slower.`, "HeddleWarning");
    hasWarned = true;
    return openWasmDevice(threads);
  }
}

async function openWasmDevice(threads: number): Promise<CpuDevice> {
  const { openWasm } = await import("./wasm/index.ts");
  return openWasm({ threads });
}
