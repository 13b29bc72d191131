// heddle doctor: what this machine can do, how fast it is at best, and what is missing.

import { chooseFolder, clearFolder, KINDS, type Kind, keptFiles, MOST_BYTES } from "../../devices/cache_folder.ts";
import type { CpuDevice } from "../../devices/cpu.ts";
import { type CudaFacts, cudaFacts, type WebGpuFacts, webGpuFacts } from "../../devices/gpu_facts.ts";
import { machineFacts } from "../../devices/machine.ts";
import { openDevice } from "../../devices/open.ts";
import { measurePeaks, type Peaks } from "../../devices/peaks.ts";
import { hasRelaxedSimd } from "../../devices/wasm/compile.ts";
import { currentHost } from "../../devices/wasm/host.ts";
import { openWasm } from "../../devices/wasm/index.ts";
import type { Command, Invocation, Outcome } from "../command.ts";
import { flagOption, numberOption } from "../options.ts";
import { heddleVersion, packageVersion } from "../packages.ts";
import { type MeasuredRates, measuredRates, ratesText } from "../sparse_rates_text.ts";
import { rounded } from "../statistics.ts";
import { formatPairs } from "../table.ts";
import { bytesText, short, threadsText } from "../units.ts";

interface Missing {
  readonly what: string;
  readonly effect: string;
  readonly remedy: string;
}

/** Instruction sets that make a difference to heddle, widest first. */
const FLAGS = ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "amx_tile", "avx2", "fma", "f16c"];
const MIN_NODE = 20;

export const doctor: Command = async (invocation) => {
  const machine = machineFacts();
  const threads = numberOption(invocation.options, "threads", { min: 1, max: 256, isInteger: true }) ?? machine.usableCores;
  const wasm = await wasmFacts();
  const [x86, fault] = await tryX86();
  invocation.progress("looking for GPUs");
  const [cuda, webgpu] = [await cudaFacts(), { package: packageVersion("webgpu"), ...(await webGpuFacts()) }];
  const peaks = invocation.options.peaks === false ? null : await measure(invocation, threads, measurePeaksOf);
  const sparse = flagOption(invocation.options, "measure") ? await measure(invocation, threads, measuredRates) : null;
  const cache = await cacheFacts(flagOption(invocation.options, "clearCache"));
  const packages = {
    koffi: packageVersion("koffi"),
    onnxruntimeNode: packageVersion("onnxruntime-node"),
    onnxruntimeWeb: packageVersion("onnxruntime-web"),
  };
  const facts = {
    heddle: heddleVersion(),
    node: process.version,
    platform: `${machine.platform} ${machine.arch}`,
    cpu: machine.cpu,
    instructionSets: FLAGS.filter((f) => machine.flags.has(f)),
    device: x86 ? `x86 ${machine.isa}` : wasm.simd ? "wasm" : null,
    caches: { l1: machine.l1, l2: machine.l2, l3: machine.l3 },
    cores: { logical: machine.logicalCores, physical: machine.physicalCores, usable: machine.usableCores },
    memoryBytes: machine.memoryBytes,
    cache,
    ...packages,
    wasm,
    cuda,
    webgpu,
    peaks,
    ...(sparse && { sparse }),
  };
  const missing = missingThings(facts, fault);
  return outcome({ ok: facts.device !== null, ...facts, missing });
};

/** What is kept between processes, by kind. */
interface CacheFacts {
  readonly folder: string | null;
  readonly mostBytes: number;
  readonly kept: Readonly<Record<Kind, { readonly files: number; readonly bytes: number }>>;
  readonly clearedBytes?: number;
}

async function cacheFacts(isCleared: boolean): Promise<CacheFacts> {
  const folder = chooseFolder();
  const clearedBytes = isCleared && folder ? await clearFolder(folder) : undefined;
  const all = folder ? await keptFiles(folder) : [];
  const counts = KINDS.map((kind) => {
    const own = all.filter((f) => f.kind === kind);
    return [kind, { files: own.length, bytes: own.reduce((n, { bytes }) => n + bytes, 0) }] as const;
  });
  const kept = Object.fromEntries(counts) as CacheFacts["kept"]; // of all kinds
  return { folder, mostBytes: MOST_BYTES, kept, ...(clearedBytes !== undefined && { clearedBytes }) };
}

const KIND_NAMES: Readonly<Record<Kind, string>> = { heddle: "programs", cubin: "GPU kernels", plan: "library plans" };

function cacheText({ folder, mostBytes, kept, clearedBytes }: CacheFacts): string {
  if (!folder) return "nothing is kept";
  if (clearedBytes !== undefined) return `${folder}, ${bytesText(clearedBytes)} removed`;
  const held = KINDS.filter((kind) => kept[kind].files > 0).map((kind) => `${kept[kind].files} ${KIND_NAMES[kind]} ${bytesText(kept[kind].bytes)}`); // biome-ignore format: short
  return `${folder}, ${held.join(", ") || "empty"}, at most ${bytesText(mostBytes)}`;
}

/** Whether the x86 device opens, and why not. */
async function tryX86(): Promise<[works: boolean, fault: string]> {
  try {
    (await openDevice({ device: "x86", threads: 1 })).close();
    return [true, ""];
  } catch (e) {
    return [false, e instanceof Error ? e.message : String(e)];
  }
}

interface WasmFacts {
  readonly simd: boolean;
  readonly relaxed: boolean;
  readonly threads: boolean;
}

async function wasmFacts(): Promise<WasmFacts> {
  try {
    const host = await currentHost();
    (await openWasm({ threads: 1 })).close();
    return { simd: true, relaxed: await hasRelaxedSimd(host), threads: host.canShare };
  } catch {
    return { simd: false, relaxed: false, threads: false };
  }
}

/** Of the device that a plain run would use. */
async function measure<T>(invocation: Invocation, threads: number, what: (device: CpuDevice) => Promise<T>): Promise<T | null> {
  let device: CpuDevice;
  try {
    device = await openDevice({ threads });
  } catch {
    return null; // doctor says so under "missing"
  }
  invocation.progress("measuring arithmetic, caches and memory");
  try {
    return await what(device);
  } finally {
    device.close();
  }
}

async function measurePeaksOf(device: CpuDevice): Promise<Peaks & { readonly threads: number }> {
  const peaks = await measurePeaks(device);
  const digits = Object.entries(peaks).map(([name, value]) => [name, rounded(value as number)]); // all are numbers
  return { ...(Object.fromEntries(digits) as Peaks), threads: device.threads };
}

interface Facts {
  readonly heddle: string;
  readonly node: string;
  readonly platform: string;
  readonly cpu: string;
  readonly instructionSets: readonly string[];
  readonly device: string | null;
  readonly caches: { readonly l1: number; readonly l2: number; readonly l3: number };
  readonly cores: { readonly logical: number; readonly physical: number; readonly usable: number };
  readonly memoryBytes: number;
  readonly cache: CacheFacts;
  readonly koffi: string | null;
  readonly onnxruntimeNode: string | null;
  readonly onnxruntimeWeb: string | null;
  readonly wasm: WasmFacts;
  readonly cuda: CudaFacts;
  readonly webgpu: WebGpuFacts & { readonly package: string | null };
  readonly peaks: (Peaks & { readonly threads: number }) | null;
  /** Measured when asked for. */
  readonly sparse?: MeasuredRates;
}

function missingThings(facts: Facts, fault: string): Missing[] {
  const missing: Missing[] = [];
  const add = (what: string, effect: string, remedy: string) => missing.push({ what, effect, remedy });
  if (Number(process.versions.node.split(".")[0]) < MIN_NODE) add(`Node ${MIN_NODE}`, "heddle needs it", "https://nodejs.org");
  if (!facts.koffi) add("koffi", "no machine code: runs on WebAssembly, some 2 to 4 times slower", "npm install koffi");
  else if (fault) add("x86 device", `runs on WebAssembly: ${fault}`, "x86-64 Linux with AVX2 and FMA");
  if (!facts.wasm.simd) add("WebAssembly SIMD", "no WebAssembly device", "a newer Node");
  addGpus(facts, add);
  if (!facts.onnxruntimeNode) add("onnxruntime-node", "nothing to compare with in bench and verify", "npm install onnxruntime-node");
  return missing;
}

/** Of CUDA only what a machine with an NVIDIA driver lacks. */
function addGpus({ cuda, webgpu }: Facts, add: (what: string, effect: string, remedy: string) => void): void {
  if (cuda.driver !== null) {
    if (cuda.devices.length === 0) add("CUDA device", `no device cuda: ${cuda.fault}`, "a driver that fits the GPU");
    if (!cuda.nvrtc) add("NVRTC", "no device cuda: kernels are compiled with it", "install the CUDA toolkit, or set CUDA_PATH");
    if (!cuda.cublasLt) add("cuBLASLt", "matrix products run on heddle's own kernels", "install the CUDA toolkit, or set CUDA_PATH");
    if (!cuda.cudnn) add("cuDNN", "convolutions run on heddle's own kernels", "install cuDNN where the loader finds libcudnn.so.9");
  }
  if (!webgpu.package) add("webgpu", "no device webgpu", "npm install webgpu");
  else if (webgpu.fault) add("WebGPU adapter", "no device webgpu", webgpu.fault.replace(/^device webgpu: /, ""));
}

/** NVIDIA's GPUs with their memory and libraries, or why there is none. */
function cudaText({ devices, driver, nvrtc, cublasLt, cudnn, fault }: CudaFacts): string {
  if (devices.length === 0) return fault?.replace(/^device cuda: /, "") ?? "none";
  const names = devices.map(({ name, totalBytes }, i) => `cuda:${i} ${name}, ${bytesText(totalBytes)}`);
  return `${names.join("; ")}; driver ${driver}, NVRTC ${nvrtc ?? "no"}, cuBLASLt ${cublasLt ?? "no"}, cuDNN ${cudnn ?? "no"}`;
}

const webGpuText = ({ package: version, adapter, features }: Facts["webgpu"]): string =>
  `package webgpu ${version ?? "not installed"}, ${adapter ? `${adapter} (${features.join(", ") || "no optional features"})` : "no adapter"}`;

function outcome(facts: Facts & { readonly ok: boolean; readonly missing: readonly Missing[] }): Outcome {
  return { json: facts, text: () => textOf(facts), exitCode: facts.ok ? 0 : 1 };
}

function textOf(f: Facts & { readonly missing: readonly Missing[] }): string {
  const yes = (b: boolean) => (b ? "yes" : "no");
  const { l1, l2, l3 } = f.caches;
  const pairs: [string, string][] = [
    ["heddle", f.heddle],
    ["Node", `${f.node}, ${f.platform}`],
    ["processor", f.cpu],
    ["instruction sets", f.instructionSets.join(" ") || "none that heddle uses"],
    ["device", f.device ?? "none"],
    ["caches", `${bytesText(l1)} L1, ${bytesText(l2)} L2, ${l3 > 0 ? bytesText(l3) : "no"} L3`],
    ["cores", `${f.cores.physical} physical, ${f.cores.logical} logical, ${f.cores.usable} usable by this process`],
    ["memory", bytesText(f.memoryBytes)],
    ["cache", cacheText(f.cache)],
    ["koffi", f.koffi ?? "not installed"],
    ["WebAssembly", `SIMD ${yes(f.wasm.simd)}, relaxed SIMD ${yes(f.wasm.relaxed)}, threads ${yes(f.wasm.threads)}`],
    ["CUDA", cudaText(f.cuda)],
    ["WebGPU", webGpuText(f.webgpu)],
    ["to compare with", `onnxruntime-node ${f.onnxruntimeNode ?? "not installed"}, onnxruntime-web ${f.onnxruntimeWeb ?? "not installed"}`],
  ];
  const lines = [formatPairs(pairs)];
  if (f.peaks) lines.push("", formatPairs(peakPairs(f.peaks)));
  if (f.sparse) lines.push("", ...ratesText(f.sparse));
  for (const { what, effect, remedy } of f.missing) lines.push("", `missing: ${what}: ${effect}; ${remedy}`);
  return lines.join("\n");
}

const peakPairs = (p: Peaks & { readonly threads: number }): [string, string][] => [
  ["multiply-add, 1 core", `${short(p.fmaGflopsOneCore)} GFLOP/s`],
  [`multiply-add, ${threadsText(p.threads)}`, `${short(p.fmaGflopsAllCores)} GFLOP/s`],
  ["L1, L2 loads", `${short(p.l1GBs)} GB/s, ${short(p.l2GBs)} GB/s`],
  ["memory copy", `${short(p.copyGBs)} GB/s read and written`],
  ["launch", `${short(p.launchMicroseconds)} µs; ${short(p.dispatchMicroseconds)} µs from JavaScript`],
];
