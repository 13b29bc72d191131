// Measures the lines of a CPU device's roofline: arithmetic on all cores and copies in memory, the yardstick of every percentage.
import { type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";
import type { CpuDevice, LaunchList } from "./cpu.ts";

export interface Roofline {
  /** f32 multiply-adds in independent chains, 10⁹ operations a second (an FMA is two). */
  readonly fmaGflopsAllCores: number;
  /** Copy between two 64 MB buffers on all threads: bytes read plus bytes written. */
  readonly copyGBs: number;
}

/** Enough chains to fill two FMA units of four cycles, few enough for AVX2's registers. */
const CHAINS = 12;
const FMA_ITERATIONS = 1 << 20;
const COPY_BYTES = 64 << 20;
const COPY_CHUNK = 64 << 10;

/** `active` threads do as much each. */
export function fmaKernel(target: SimdTarget, threads: number, active: number): Kernel {
  const k = new KernelBuilder("fma_peak", target, threads);
  const line = Math.max(64, target.lanes * 4);
  const out = k.buffer("out", threads * line, "write");
  k.parallel(active, (v) => {
    const a = k.f32(0.5);
    const chains = Array.from({ length: CHAINS }, (_, i) => k.f32(i));
    k.loop(0, FMA_ITERATIONS, 1, () => {
      for (const c of chains) k.accumulate(c, a, a);
    });
    const sum = chains.reduce((x, y) => k.op("add", x, y));
    k.store(sum, out, times(v, line));
  });
  return k.build();
}

/** Operations of one thread. */
export const fmaFlops = ({ lanes }: SimdTarget): number => FMA_ITERATIONS * CHAINS * lanes * 2;

function copyKernel(target: SimdTarget, threads: number): Kernel {
  const k = new KernelBuilder("copy_peak", target, threads);
  const source = k.buffer("source", COPY_BYTES, "read");
  const out = k.buffer("out", COPY_BYTES, "write");
  const vector = target.lanes * 4;
  k.parallel(COPY_BYTES / COPY_CHUNK, (chunk) => {
    k.loop(0, COPY_CHUNK, vector * 4, (at) => {
      const from = plus(times(chunk, COPY_CHUNK), at);
      const values = [0, 1, 2, 3].map((i) => k.load(source, plus(from, i * vector)));
      values.forEach((v, i) => {
        k.store(v, out, plus(from, i * vector));
      });
    });
  });
  return k.build();
}

export function milliseconds(run: () => void): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}

/** The fastest of several: noise only ever adds. */
const best = (times: number, run: () => void): number => Math.min(...Array.from({ length: times }, () => milliseconds(run)));

/** What `measure` makes of a list whose launches, by kernel, read a buffer of 64 MB or write one, or both. */
export async function onBuffers<T>(
  device: CpuDevice,
  kernels: readonly Kernel[],
  launches: readonly number[],
  measure: (list: LaunchList) => T,
): Promise<T> {
  const memories = [COPY_BYTES, COPY_BYTES].map((bytes) => device.alloc(bytes));
  memories[0].view().fill(1); // untouched pages would all be one page of zeros
  const addresses = memories.map((m) => m.address);
  const list = await device.load(
    kernels,
    launches.map((kernel) => ({ kernel, args: addresses.slice(2 - kernels[kernel].params.length) })), // one is written
  );
  try {
    list.run(0, list.length); // starts threads, touches pages
    return measure(list);
  } finally {
    list.free();
    for (const m of memories) m.free();
  }
}

export const secondsOf = (list: LaunchList, launch: number): number => best(3, () => list.run(launch, launch + 1)) / 1e3;

/** Takes about a quarter of a second and 128 MB. */
export const measureRoofline = (device: CpuDevice): Promise<Roofline> => {
  const { target, threads } = device;
  return onBuffers(device, [fmaKernel(target, threads, threads), copyKernel(target, threads)], [0, 1], (list) => ({
    fmaGflopsAllCores: (fmaFlops(target) * threads) / secondsOf(list, 0) / 1e9,
    copyGBs: (2 * COPY_BYTES) / secondsOf(list, 1) / 1e9,
  }));
};
