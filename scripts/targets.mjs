// What this machine can execute: each target that heddle has or tests use, and the reason where it is absent.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./command.mjs";

function cpuFlags() {
  try {
    return new Set(/^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1].trim().split(/\s+/));
  } catch {
    return new Set();
  }
}

/** The instruction sets that the x86 device asks for; it goes by CPUID, this by what the system shows of it. */
const AVX2 = ["avx2", "fma", "f16c", "bmi2"];
const AVX512 = ["avx512f", "avx512bw", "avx512dq", "avx512vl"];
const VNNI = ["avx512_vnni"];

function whyNoX86(flags, wanted) {
  if (process.platform !== "linux") return `needs Linux, this is ${process.platform}`;
  if (process.arch !== "x64") return `needs x86-64, this is ${process.arch}`;
  const absent = wanted.filter((flag) => !flags.has(flag));
  return absent.length > 0 ? `this CPU has no ${absent.join(", ")}` : undefined;
}

const whyNoPackage = (name) => (existsSync(join(root, "node_modules", name)) ? undefined : `optional package ${name} is not installed`);

/** A module of one SIMD instruction: (func (drop (i32x4.splat (i32.const 0)))). */
const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 9, 1, 7, 0, 65, 0, 253, 17, 26, 11);

/** Where Debian's chromium puts SwiftShader, a GPU in software. */
export const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";
export const hasNvidiaGpu = existsSync("/dev/nvidiactl");

/** What tests on WebGPU need of Debian: nothing where there is a GPU. */
export const gpuPackages = hasNvidiaGpu ? [] : ["chromium"];
/** Environment in which WebGPU finds a GPU: a real one, else SwiftShader. */
export const gpuEnvironment = () =>
  hasNvidiaGpu || process.env.VK_DRIVER_FILES || !existsSync(SWIFTSHADER) ? {} : { VK_DRIVER_FILES: SWIFTSHADER };

function whyNoWebGpu() {
  if (hasNvidiaGpu || existsSync(SWIFTSHADER)) return whyNoPackage("webgpu");
  return "no GPU, and no software one: Debian package chromium is not installed";
}

/** Name and, where it cannot run here, why. */
export function targets() {
  const flags = cpuFlags();
  return [
    ["x86 AVX2", whyNoX86(flags, AVX2)],
    ["x86 AVX-512", whyNoX86(flags, AVX512)],
    ["x86 AVX-512 VNNI", whyNoX86(flags, VNNI)],
    ["WebAssembly SIMD", WebAssembly.validate(SIMD) ? undefined : "this Node has no WebAssembly SIMD"],
    ["WebGPU", whyNoWebGpu()],
    ["CUDA (npm run test:cuda)", hasNvidiaGpu ? undefined : "this machine has no NVIDIA GPU"],
    ["comparison with onnxruntime-node", whyNoPackage("onnxruntime-node")],
    ["comparison with onnxruntime-web", whyNoPackage("onnxruntime-web")],
    [
      "ONNX conformance cases",
      existsSync("/usr/share/libonnx-testdata/data") ? undefined : "Debian package libonnx-testdata is not installed",
    ],
  ].map(([name, absent]) => ({ name, absent }));
}
