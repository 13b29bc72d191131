// WebGPU in Node: Dawn from the package webgpu, and the Vulkan loader that it looks for.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { HeddleError } from "../../ir/error.ts";

/**
 * What Dawn takes for unsafe (matrix fragments), and what is off unless asked for: 16-bit floats on NVIDIA's GPUs, and the memory model that fragments need.
 * No check at each access: kernels stay in their buffers, as CUDA's checked runs of the same ones test; a check at each fragment costs half of the speed.
 * Shared memory does not begin as zeros, as on CUDA: SwiftShader writes each of them out, and took 14 s to compile a kernel with 16 KiB instead of 0.3.
 * Times are not rounded.
 */
const FLAGS = [
  "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia,use_vulkan_memory_model,disable_robustness,disable_workgroup_init",
  "disable-dawn-features=timestamp_quantization",
];

/** Where Debian's chromium puts SwiftShader, a GPU in software, with a loader beside it. */
const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";

/** Throws HeddleError("missing") where the package is not there. */
export async function dawn(): Promise<GPU> {
  await loadVulkanLoader();
  try {
    const { create } = (await import("webgpu" as string)) as { create(options: readonly string[]): GPU }; // an optional package: its types may be missing
    return create(FLAGS);
  } catch (cause) {
    throw new HeddleError("missing", "device webgpu: the package webgpu is not installed or does not load: npm install webgpu", { cause });
  }
}

/** The loader beside the driver, held: koffi unloads what nobody holds any more. */
let loader: object | undefined;
/** Why it could not be had, for the message when there is no other. */
let loaderFailure = "";

/** Dawn finds a loader that is loaded already: one that lies beside the driver that VK_DRIVER_FILES names serves where the system has none. */
async function loadVulkanLoader(): Promise<void> {
  const [driver] = process.env.VK_DRIVER_FILES?.split(":") ?? [];
  const beside = driver && join(dirname(driver), "libvulkan.so.1");
  if (loader || !beside || !existsSync(beside)) return;
  try {
    loader = (await import("koffi")).default.load(beside);
  } catch (cause) {
    loaderFailure = ` (${beside} did not load: ${cause instanceof Error ? cause.message : cause})`; // the system's has to do
  }
}

/** What to do where no adapter is found. */
export const adapterRemedy = (): string =>
  process.platform !== "linux"
    ? "no GPU is found"
    : `no GPU is found: its driver and a Vulkan loader (Debian: libvulkan1) are needed; for tests a software one does: ${
        existsSync(SWIFTSHADER) ? "" : "install Debian's chromium, and "
      }set VK_DRIVER_FILES=${SWIFTSHADER}${loaderFailure}`;
