// CUDA C to machine code by NVIDIA's run-time compiler, kept on disk by source, options and versions.
import { HeddleError } from "../../ir/error.ts";
import type { CudaApi } from "./driver.ts";
import { keep, readKept } from "./kept.ts";

/** Machine code for `arch` (sm_90a). */
export function compileCubin(cuda: CudaApi, source: string, arch: string): Uint8Array {
  const options = [`--gpu-architecture=${arch}`, "--std=c++17", "--extra-device-vectorization"];
  const version = new Int32Array(2);
  cuda.compiler("nvrtcVersion", version.subarray(0, 1), version.subarray(1));
  const key = JSON.stringify([source, options, ...version]);
  const kept = readKept("cubin", key);
  if (kept) return kept;
  const code = compile(cuda, source, options, "cubin");
  keep("cubin", key, code);
  return code;
}

/** The assembly for a virtual machine that the compiler goes through. */
export const compilePtx = (cuda: CudaApi, source: string, arch: string): string =>
  Buffer.from(compile(cuda, source, [`--gpu-architecture=${arch.replace("sm_", "compute_")}`, "--std=c++17"], "ptx"))
    .toString("latin1")
    .replace(/\0+$/, "");

function compile(cuda: CudaApi, source: string, options: readonly string[], form: "cubin" | "ptx"): Uint8Array {
  const program = new BigUint64Array(1);
  const texts = options.map((o) => Buffer.from(`${o}\0`, "latin1"));
  const pointers = BigUint64Array.from(texts.map((t) => cuda.addressOf(t)));
  if (cuda.compiler("nvrtcCreateProgram", program, source, "heddle.cu", 0, null, null) !== 0)
    throw new HeddleError("verify", "internal: device cuda: the compiler takes no program");
  try {
    const code = cuda.compiler("nvrtcCompileProgram", program[0], texts.length, pointers);
    if (code !== 0) throw new HeddleError("verify", `internal: device cuda: a kernel does not compile: ${logOf(cuda, program[0])}`);
    const [size, get] =
      form === "cubin" ? (["nvrtcGetCUBINSize", "nvrtcGetCUBIN"] as const) : (["nvrtcGetPTXSize", "nvrtcGetPTX"] as const);
    const bytes = new BigUint64Array(1);
    cuda.compiler(size, program[0], bytes);
    const out = new Uint8Array(Number(bytes[0]));
    cuda.compiler(get, program[0], out);
    return out;
  } finally {
    cuda.compiler("nvrtcDestroyProgram", program);
  }
}

/** The first lines of what the compiler said. */
function logOf(cuda: CudaApi, program: bigint): string {
  const size = new BigUint64Array(1);
  cuda.compiler("nvrtcGetProgramLogSize", program, size);
  const log = Buffer.alloc(Number(size[0]));
  cuda.compiler("nvrtcGetProgramLog", program, log);
  return log.toString("latin1").replace(/\0+$/, "").split("\n").slice(0, 6).join(" | ");
}
