// WebGPU as a page's device.
import { measureGpuPeaks } from "../devices/gpu_peaks.ts";
import { openWebGpu } from "../devices/webgpu/index.ts";
import { compileForGpu } from "../run/gpu/program.ts";
import type { WebDevice } from "./device.ts";

/** Throws HeddleError("missing") where there is no WebGPU or no GPU. */
export async function openGpuDevice(): Promise<WebDevice> {
  const device = await openWebGpu();
  return {
    name: "webgpu",
    description: `WebGPU, ${device.description}`,
    threads: 1,
    compile: (graph) => compileForGpu(graph, { device }),
    async measurePeaks() {
      const { fmaGflopsAllCores, copyGBs } = await measureGpuPeaks(device);
      return { gflops: fmaGflopsAllCores, gbs: copyGBs };
    },
    close: () => void device.close(),
  };
}
