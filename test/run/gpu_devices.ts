// The GPU devices that tests of compiled programs run on: WebGPU on whatever Vulkan finds here, or on SwiftShader from Debian's chromium; CUDA where there is a GPU.
import { existsSync } from "node:fs";
import type { GpuDevice } from "../../src/devices/gpu.ts";
import type { DeviceOptions } from "../../src/devices/open.ts";

export interface GpuTestDevice {
  readonly name: string;
  /** As users choose it. */
  readonly options: DeviceOptions;
  open(): Promise<GpuDevice>;
}

const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";
const hasNvidia = existsSync("/dev/nvidiactl");
/** `npm run test:cuda` says which of them to run on. */
const only = process.env.HEDDLE_TEST_GPU;

/** Without a GPU: SwiftShader. The same as what scripts/targets.mjs says in the summary. */
export const hasWebGpu =
  only !== "cuda" && existsSync(new URL("../../node_modules/webgpu", import.meta.url)) && (hasNvidia || existsSync(SWIFTSHADER));
if (hasWebGpu && !hasNvidia) process.env.VK_DRIVER_FILES ??= SWIFTSHADER;

export const GPU_DEVICES: readonly GpuTestDevice[] = [
  ...(hasWebGpu
    ? [
        {
          name: "webgpu",
          options: { device: "webgpu" } as const,
          open: async () => {
            const { openWebGpu } = await import("../../src/devices/webgpu/index.ts");
            return openWebGpu();
          },
        },
      ]
    : []),
  ...(hasNvidia
    ? [
        {
          name: "cuda",
          options: { device: "cuda" } as const,
          open: async () => {
            const { openCuda } = await import("../../src/devices/cuda/index.ts");
            return openCuda({ isChecked: true });
          },
        },
      ]
    : []),
];
