// Picks and opens the device that a user asked for, and says once when it is not the fastest kind.
import { HeddleError } from "../ir/error.ts";
import type { CpuDevice } from "./cpu.ts";
import { physicalCores } from "./machine.ts";

export interface DeviceOptions {
  /** cpu: x86-64 machine code where that works, WebAssembly elsewhere · reference: plain float64 loops. Default cpu. */
  readonly device?: "cpu" | "x86" | "wasm" | "reference";
  /** Instruction set of device x86; default: the widest there is. */
  readonly isa?: "avx512" | "avx2";
  /** Default: the number of physical cores. */
  readonly threads?: number;
  readonly guardPages?: boolean;
}

let hasWarned = false;

/** Opens a CPU device. Throws HeddleError("missing") when the one that was asked for cannot be had. */
export async function openDevice(options: DeviceOptions): Promise<CpuDevice> {
  const threads = options.threads ?? physicalCores();
  const { device = "cpu" } = options;
  if (device === "wasm") return openWasmDevice(threads);
  if (device !== "cpu" && device !== "x86")
    throw new HeddleError("bad-argument", `device ${device}: there is none of that name, only cpu, x86, wasm and reference`);
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
