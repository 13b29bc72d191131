// CUDA C to machine code by NVIDIA's run-time compiler, kept on disk by source, options and versions.
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { HeddleError } from "../../ir/error.ts";
import type { CudaApi } from "./driver.ts";

/** Cubins in HEDDLE_CACHE (off: nowhere) or the user's folder for caches; a damaged or foreign file is compiled again. */
function cacheFolder(): string | null {
  const given = process.env.HEDDLE_CACHE;
  if (given === "off") return null;
  const folder = join(given ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "heddle"), "cubin");
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { uid, mode } = statSync(folder);
    return (process.getuid && uid !== process.getuid()) || mode & 0o022 ? null : folder;
  } catch {
    return null; // a cache that cannot be is none
  }
}

const digest = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");

/** Machine code for `arch` (sm_90a): a file of its hash and itself. */
export function compileCubin(cuda: CudaApi, source: string, arch: string): Uint8Array {
  const options = [`--gpu-architecture=${arch}`, "--std=c++17", "--extra-device-vectorization"];
  const version = new Int32Array(2);
  cuda.compiler("nvrtcVersion", version.subarray(0, 1), version.subarray(1));
  const folder = cacheFolder();
  const path = folder && join(folder, `${digest(JSON.stringify([source, options, ...version]))}.cubin`);
  const kept = path && readKept(path);
  if (kept) return kept;
  const code = compile(cuda, source, options, "cubin");
  if (path) keep(path, code);
  return code;
}

function readKept(path: string): Uint8Array | null {
  try {
    const bytes = readFileSync(path);
    const code = bytes.subarray(64);
    return bytes.toString("latin1", 0, 64) === digest(code) ? code : null;
  } catch {
    return null; // not there yet
  }
}
function keep(path: string, code: Uint8Array): void {
  const temporary = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    writeFileSync(temporary, Buffer.concat([Buffer.from(digest(code), "latin1"), code]), { mode: 0o600 });
    renameSync(temporary, path);
  } catch {} // a full disk: compiled again the next time
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
