// The two devices of a page (WebAssembly, WebGPU) behind one interface: graphs to programs that run and tell their times.
import type { CpuDevice } from "../devices/cpu.ts";
import { measureRoofline } from "../devices/roofline.ts";
import { openWasm } from "../devices/wasm/index.ts";
import { HeddleError } from "../ir/error.ts";
import type { Graph } from "../ir/graph.ts";
import type { TensorData } from "../ir/tensor.ts";
import type { Tensors } from "../model_inputs.ts";
import { compile } from "../run/compile.ts";
import type { StepTime } from "../run/program.ts";

export interface WebDeviceOptions {
  /** Default wasm, which every browser has; webgpu is faster where there is a GPU and the network is large. */
  readonly device?: "wasm" | "webgpu";
  /** Of WebAssembly. Default: the processor's, at most 4; one in a page that is not cross-origin isolated. */
  readonly threads?: number;
}

/** A network compiled for one set of shapes. */
export interface WebProgram {
  run(inputs: Tensors): Promise<Record<string, TensorData>>;
  profile(inputs: Tensors): Promise<readonly StepTime[]>;
  /** Bytes of all tensors that are computed. */
  readonly arenaBytes: number;
  free(): void;
}

/** What a device can reach at best, measured: the lines of a roofline. */
export interface Peaks {
  readonly gflops: number;
  readonly gbs: number;
}

export interface WebDevice {
  readonly name: "wasm" | "webgpu";
  readonly description: string;
  readonly threads: number;
  compile(graph: Graph): Promise<WebProgram>;
  /** Takes about a second. */
  measurePeaks(): Promise<Peaks>;
  close(): void;
}

/** More threads than this seldom help, and a page is not alone. */
const MAX_DEFAULT_THREADS = 4;

/** Throws HeddleError: "missing" (no SIMD, no WebGPU), "bad-argument". */
export async function openWebDevice({ device = "wasm", threads }: WebDeviceOptions): Promise<WebDevice> {
  switch (device) {
    case "wasm":
      return openWasmDevice(threads);
    case "webgpu":
      return (await import("./gpu.ts")).openGpuDevice(); // a piece of its own: most pages need one device
    default:
      throw new HeddleError("bad-argument", `device ${device satisfies never}: a page has none of that name, only wasm and webgpu`);
  }
}

const cores = (): number => Math.min(MAX_DEFAULT_THREADS, globalThis.navigator?.hardwareConcurrency ?? 1);

/** Whether a browser lets threads share memory here. */
const canShare = (): boolean => globalThis.crossOriginIsolated !== false;

async function openWasmDevice(threads: number | undefined): Promise<WebDevice> {
  const device: CpuDevice = await openWasm({ threads: threads ?? cores() });
  device.start();
  return {
    name: "wasm",
    description: `WebAssembly, ${device.threads === 1 ? "1 thread" : `${device.threads} threads`}`,
    threads: device.threads,
    async compile(graph) {
      const program = await compile(graph, { device });
      return {
        run: (inputs) => program.run(inputs, canShare()), // another thread leads: the page stays alive
        profile: async (inputs) => program.profile(inputs),
        arenaBytes: program.arenaBytes,
        free: () => program.free(),
      };
    },
    async measurePeaks() {
      const { fmaGflopsAllCores, copyGBs } = await measureRoofline(device);
      return { gflops: fmaGflopsAllCores, gbs: copyGBs };
    },
    close: () => device.close(),
  };
}
