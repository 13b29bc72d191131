// Measures what a CPU device can reach at best (arithmetic, caches, memory, dispatch), the yardstick of every percentage of a roofline.
import { type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import type { CpuDevice, Memory } from "./cpu.ts";

export interface Peaks {
  /** f32 multiply-adds in independent chains, 10⁹ operations a second (an FMA is two). */
  readonly fmaGflopsOneCore: number;
  readonly fmaGflopsAllCores: number;
  /** Loads from the first and second level caches, one core. */
  readonly l1GBs: number;
  readonly l2GBs: number;
  /** Copy between two 64 MB buffers on all threads: bytes read plus bytes written. */
  readonly copyGBs: number;
  /** One empty launch, called from JavaScript, threads awake; median. */
  readonly dispatchMicroseconds: number;
  /** One more empty launch in the same run; median. */
  readonly launchMicroseconds: number;
}

/** Enough chains to fill two FMA units of four cycles, few enough for AVX2's registers. */
const CHAINS = 12;
const FMA_ITERATIONS = 1 << 20;
const COPY_BYTES = 64 << 20;
const COPY_CHUNK = 64 << 10;
const CACHE_BYTES = 256 << 20;
const EMPTY_LAUNCHES = 256;

function fmaKernel(target: SimdTarget, threads: number, active: number): Kernel {
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

/** Reads `bytes` again and again on one thread. */
function readKernel(target: SimdTarget, threads: number, bytes: number): Kernel {
  const k = new KernelBuilder("read_peak", target, threads);
  const source = k.buffer("source", bytes, "read");
  const out = k.buffer("out", 64, "write");
  const vector = target.lanes * 4;
  const unroll = 8;
  k.parallel(1, () => {
    const sums: Vec[] = Array.from({ length: unroll }, () => k.f32(0));
    k.loop(0, Math.round(CACHE_BYTES / bytes), 1, () => {
      k.loop(0, bytes, vector * unroll, (at) => {
        sums.forEach((sum, i) => {
          k.op("add", sum, k.load(source, plus(at, i * vector)), undefined, sum);
        });
      });
    });
    k.store(
      sums.reduce((x, y) => k.op("add", x, y)),
      out,
      0,
    );
  });
  return k.build();
}

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

function milliseconds(run: () => void): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}

/** The fastest of several: noise only ever adds. */
const best = (times: number, run: () => void): number => Math.min(...Array.from({ length: times }, () => milliseconds(run)));

function median(times: number, run: () => void): number {
  const sorted = Array.from({ length: times }, () => milliseconds(run)).sort((a, b) => a - b);
  return sorted[times >> 1];
}

/** Largest power of two up to `bytes`. */
const powerBelow = (bytes: number): number => 2 ** Math.floor(Math.log2(bytes));

/** Takes about half a second and 128 MB. */
export async function measurePeaks(device: CpuDevice): Promise<Peaks> {
  const { target, threads } = device;
  // Half of a cache: the other half is for whatever else lives there.
  const l1 = powerBelow(target.l1 / 2);
  const l2 = powerBelow(target.l2 / 2);
  const memories: Memory[] = [COPY_BYTES, COPY_BYTES].map((bytes) => device.alloc(bytes));
  memories[0].view().fill(1); // untouched pages would all be one page of zeros
  const [source, out] = memories.map((m) => m.address);
  const empty = new KernelBuilder("empty", target, threads).build();
  const kernels = [
    fmaKernel(target, threads, 1),
    fmaKernel(target, threads, threads),
    readKernel(target, threads, l1),
    readKernel(target, threads, l2),
    copyKernel(target, threads),
    empty,
  ];
  const arguments_ = [[out], [out], [source, out], [source, out], [source, out]];
  const launches = [
    ...arguments_.map((args, kernel) => ({ kernel, args })),
    ...Array.from({ length: EMPTY_LAUNCHES }, () => ({ kernel: 5, args: [] })),
  ];
  const list = await device.load(kernels, launches);
  try {
    list.run(0, list.length); // starts threads, touches pages
    const at = (i: number): number => best(3, () => list.run(i, i + 1)) / 1e3;
    const flops = FMA_ITERATIONS * CHAINS * target.lanes * 2;
    const emptyAt = arguments_.length;
    return {
      fmaGflopsOneCore: flops / at(0) / 1e9,
      fmaGflopsAllCores: (flops * threads) / at(1) / 1e9,
      l1GBs: (Math.round(CACHE_BYTES / l1) * l1) / at(2) / 1e9,
      l2GBs: (Math.round(CACHE_BYTES / l2) * l2) / at(3) / 1e9,
      copyGBs: (2 * COPY_BYTES) / at(4) / 1e9,
      dispatchMicroseconds: median(1000, () => list.run(emptyAt, emptyAt + 1)) * 1e3,
      launchMicroseconds: (median(15, () => list.run(emptyAt, list.length)) * 1e3) / EMPTY_LAUNCHES,
    };
  } finally {
    list.free();
    for (const m of memories) m.free();
  }
}
