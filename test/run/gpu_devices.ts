// The GPU devices that tests of compiled programs run on: WebGPU on whatever Vulkan finds here, or on SwiftShader from Debian's chromium; CUDA where there is a GPU.
import { existsSync } from "node:fs";
import type { GpuDevice } from "../../src/devices/gpu.ts";

export interface GpuTestDevice {
  readonly name: string;
  open(): Promise<GpuDevice>;
}

const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";
const LOADER = "/usr/lib/chromium/libvulkan.so.1";
const hasNvidia = existsSync("/dev/nvidiactl");

/** Dawn finds a Vulkan loader that is loaded already, and the software GPU by the environment. */
async function openWebGpuHere(): Promise<GpuDevice> {
  if (!hasNvidia) {
    process.env.VK_DRIVER_FILES ??= SWIFTSHADER;
    const koffi = await import("koffi");
    koffi.load(LOADER);
  }
  const { openWebGpu } = await import("../../src/devices/webgpu/index.ts");
  return openWebGpu();
}

/** Why there is none; scripts/targets.mjs says the same in the summary. */
export const hasWebGpu = existsSync(new URL("../../node_modules/webgpu", import.meta.url)) && (hasNvidia || existsSync(SWIFTSHADER));

export const GPU_DEVICES: readonly GpuTestDevice[] = [
  ...(hasWebGpu ? [{ name: "webgpu", open: openWebGpuHere }] : []),
  ...(hasNvidia
    ? [
        {
          name: "cuda",
          open: async () => {
            const { openCuda } = await import("../../src/devices/cuda/index.ts");
            return openCuda({ isChecked: true });
          },
        },
      ]
    : []),
];
