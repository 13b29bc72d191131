// Reads what this machine is (processor, cores that may be used, caches, instruction sets) from the system, without running anything.
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";

export interface MachineFacts {
  readonly cpu: string;
  /** Node's names: "x64", "linux". */
  readonly arch: string;
  readonly platform: string;
  readonly logicalCores: number;
  readonly physicalCores: number;
  /** Logical CPUs this process may run on, one of each physical core first. */
  readonly allowedCpus: readonly number[];
  /** Physical cores this process may keep busy: affinity mask and container quota taken off. */
  readonly usableCores: number;
  readonly flags: ReadonlySet<string>;
  /** The widest instruction set that heddle generates code for; null: none, WebAssembly remains. */
  readonly isa: "avx512" | "avx2" | null;
  /** Whether the processor multiplies pairs of bfloat16 (AVX-512 BF16). */
  readonly dotsBf16: boolean;
  /** Whether it takes instructions apart whose operand in memory has an address with an index: Intel's do (Optimization Reference Manual, "Micro-fusion"). */
  readonly splitsIndexed: boolean;
  /** Whether looking words up in two vectors takes it several operations (vpermi2w on Intel's processors, uops.info). */
  readonly slowWordLookups: boolean;
  /** Data caches seen by one core, bytes. */
  readonly l1: number;
  readonly l2: number;
  /** 0: none, or unknown. */
  readonly l3: number;
  readonly memoryBytes: number;
  /** Ticks of the time-stamp counter in a microsecond. */
  readonly tscPerMicrosecond: number;
}

const AVX512 = ["avx512f", "avx512bw", "avx512dq", "avx512vl"];
const AVX2 = ["avx2", "fma", "f16c"];

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** "0-2,5" → [0, 1, 2, 5]. */
export function parseCpuList(list: string): number[] {
  return list
    .trim()
    .split(",")
    .filter((part) => /^\d+(-\d+)?$/.test(part))
    .flatMap((part) => {
      const [from, to = from] = part.split("-").map(Number);
      return Array.from({ length: to - from + 1 }, (_, i) => from + i);
    });
}

/** "48K" → 49152. */
export function parseSize(text: string): number {
  const m = /^(\d+)([KMG]?)/.exec(text.trim());
  return m ? Number(m[1]) * { "": 1, K: 1 << 10, M: 1 << 20, G: 1 << 30 }[m[2] as "" | "K" | "M" | "G"] : 0;
}

/** CPUs worth a core in a container's quota; Infinity: no limit. From cgroup v2's cpu.max or v1's two files. */
export function parseQuota(max: string, quota: string, period: string): number {
  const [limit, each] = max.trim() ? max.trim().split(/\s+/) : [quota.trim(), period.trim()];
  const share = Number(limit) / Number(each);
  return share > 0 && Number.isFinite(share) ? share : Number.POSITIVE_INFINITY;
}

function cgroupQuota(): number {
  const lines = read("/proc/self/cgroup").split("\n");
  const v2 = lines.find((l) => l.startsWith("0::"))?.slice(3) ?? "/";
  const v1 = lines.find((l) => /^\d+:([^:]*,)?cpu(,[^:]*)?:/.test(l))?.replace(/^[^:]*:[^:]*:/, "") ?? "/";
  // A parent's limit binds its children, so every level up to the root counts.
  const levels = (path: string): string[] => path.split("/").map((_, i, parts) => parts.slice(0, i + 1).join("/"));
  const root = "/sys/fs/cgroup";
  const quotas = [
    ...levels(v2).map((at) => parseQuota(read(`${root}${at}/cpu.max`), "", "")),
    ...levels(v1).map((at) => parseQuota("", read(`${root}/cpu${at}/cpu.cfs_quota_us`), read(`${root}/cpu${at}/cpu.cfs_period_us`))),
  ];
  return Math.min(...quotas);
}

/** One logical CPU of each physical core first, then their siblings. */
function coresFirst(allowed: readonly number[]): { order: number[]; cores: number } {
  const seen = new Set<string>();
  const first: number[] = [];
  const rest: number[] = [];
  for (const cpu of allowed) {
    const core = read(`/sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`).trim() || String(cpu);
    (seen.has(core) ? rest : first).push(cpu);
    seen.add(core);
  }
  return { order: [...first, ...rest], cores: first.length };
}

function dataCaches(): { l1: number; l2: number; l3: number } {
  const sizes = [0, 0, 0, 0];
  for (let i = 0; i < 8; i++) {
    const dir = `/sys/devices/system/cpu/cpu0/cache/index${i}`;
    if (read(`${dir}/type`).trim() !== "Instruction") sizes[Number(read(`${dir}/level`)) || 0] = parseSize(read(`${dir}/size`));
  }
  // Where the system tells nothing: what nearly every processor has at least.
  return { l1: sizes[1] || 32 << 10, l2: sizes[2] || 1 << 20, l3: sizes[3] };
}

let facts: MachineFacts | undefined;

/** This machine, read once: binding a thread later does not shrink it. */
export function machineFacts(): MachineFacts {
  facts ??= readFacts();
  return facts;
}

function readFacts(): MachineFacts {
  const info = read("/proc/cpuinfo");
  const field = (name: string): string => new RegExp(`^${name}\\s*:\\s*(.*)$`, "m").exec(info)?.[1].trim() ?? "";
  const logical = cpus().length || 1;
  const online = parseCpuList(read("/sys/devices/system/cpu/online"));
  const mask = parseCpuList(/^Cpus_allowed_list:\s*(.*)$/m.exec(read("/proc/self/status"))?.[1] ?? "");
  const everywhere = Array.from({ length: Math.max(1, Math.min(logical, availableParallelism())) }, (_, i) => i);
  const allowed = coresFirst(mask.length > 0 ? mask : everywhere);
  const flags = new Set(field("flags").split(" ").filter(Boolean));
  const has = (wanted: readonly string[]): boolean => wanted.every((f) => flags.has(f));
  return {
    cpu: field("model name") || cpus()[0]?.model || "unknown",
    arch: process.arch,
    platform: process.platform,
    logicalCores: logical,
    physicalCores: online.length > 0 ? coresFirst(online).cores : logical,
    allowedCpus: allowed.order,
    usableCores: Math.max(1, Math.min(allowed.cores, Math.floor(cgroupQuota()))),
    flags,
    isa: process.arch !== "x64" || !has(AVX2) ? null : has(AVX512) ? "avx512" : "avx2",
    dotsBf16: has([...AVX512, "avx512_bf16"]),
    splitsIndexed: field("vendor_id") === "GenuineIntel",
    slowWordLookups: field("vendor_id") === "GenuineIntel",
    ...dataCaches(),
    memoryBytes: totalmem(),
    // Linux derives BogoMIPS from the calibrated time-stamp counter: two a tick.
    tscPerMicrosecond: Number(field("bogomips")) / 2 || 2500,
  };
}

/** Physical cores this process may keep busy: the default number of threads. */
export const physicalCores = (): number => machineFacts().usableCores;
