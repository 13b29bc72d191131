// What this machine has for GPUs, for people to read: NVIDIA's driver and libraries, and WebGPU's adapter; or why there is none.
import { HeddleError } from "../ir/error.ts";
import { type CudaApi, libraryNames, loadCuda } from "./cuda/driver.ts";
import { openCuda } from "./cuda/index.ts";
import { openWebGpu } from "./webgpu/index.ts";

export interface CudaFacts {
  /** As 13.0; null where there is none. */
  readonly driver: string | null;
  readonly devices: readonly { readonly name: string; readonly totalBytes: number; readonly freeBytes: number }[];
  /** NVIDIA's run-time compiler, which kernels need. */
  readonly nvrtc: string | null;
  readonly cublasLt: string | null;
  readonly cudnn: string | null;
  /** Why device cuda does not open; null: it does. */
  readonly fault: string | null;
}

export interface WebGpuFacts {
  readonly adapter: string | null;
  readonly features: readonly string[];
  readonly fault: string | null;
}

const faultOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));

export async function webGpuFacts(): Promise<WebGpuFacts> {
  try {
    const device = await openWebGpu();
    const features = [...device.device.features].filter((f) => f === "shader-f16" || f === "subgroups" || f === "timestamp-query");
    await device.close();
    return { adapter: device.description, features, fault: null };
  } catch (e) {
    return { adapter: null, features: [], fault: faultOf(e) };
  }
}

const NO_CUDA: CudaFacts = { driver: null, devices: [], nvrtc: null, cublasLt: null, cudnn: null, fault: null };

export async function cudaFacts(): Promise<CudaFacts> {
  let cuda: CudaApi;
  try {
    cuda = await loadCuda();
  } catch (e) {
    return { ...NO_CUDA, fault: faultOf(e) };
  }
  const libraries = { nvrtc: nvrtcVersion(cuda), cublasLt: cublasVersion(cuda), cudnn: cudnnVersion(cuda) };
  const driver = driverVersion(cuda);
  try {
    const devices: CudaFacts["devices"][number][] = [];
    const first = await openCuda();
    const count = new Int32Array(1);
    cuda.driver("cuDeviceGetCount", count);
    for (let ordinal = 0; ordinal < count[0]; ordinal++) {
      const device = ordinal === 0 ? first : await openCuda({ ordinal });
      devices.push({ name: device.description, ...device.memory() });
      await device.close();
    }
    const fault = libraries.nvrtc === null ? "no run-time compiler (libnvrtc.so is not found)" : null;
    return { driver, devices, ...libraries, fault };
  } catch (e) {
    return { driver, devices: [], ...libraries, fault: faultOf(e) };
  }
}

function driverVersion(cuda: CudaApi): string | null {
  const version = new Int32Array(1);
  if (cuda.attempt("cuDriverGetVersion", version) !== 0) return null;
  return `${Math.floor(version[0] / 1000)}.${(version[0] % 1000) / 10}`;
}

function nvrtcVersion(cuda: CudaApi): string | null {
  const [major, minor] = [new Int32Array(1), new Int32Array(1)];
  try {
    cuda.compiler("nvrtcVersion", major, minor);
    return `${major[0]}.${minor[0]}`;
  } catch (e) {
    if (e instanceof HeddleError) return null;
    throw e;
  }
}

/** Of a number such as 120900 or 91002: two digits a part after the first. */
const parted = (version: number, unit: number): string =>
  `${Math.floor(version / unit)}.${Math.floor((version % unit) / 100)}.${version % 100}`;

function cublasVersion(cuda: CudaApi): string | null {
  const version = cuda
    .library(libraryNames("libcublasLt", ["", ".13", ".12", ".11"]), { cublasLtGetVersion: [] })
    ?.get("cublasLtGetVersion");
  return version ? parted(version(), 10_000) : null;
}
function cudnnVersion(cuda: CudaApi): string | null {
  const version = cuda.library(libraryNames("libcudnn", [".9", ".8", ""]), { cudnnGetVersion: [] })?.get("cudnnGetVersion");
  return version ? parted(version(), 10_000) : null;
}
