// Measures what a CPU device can reach at best: its roofline, one core, caches, dispatch.
import { type Kernel, KernelBuilder, plus, type SimdTarget, type Vec } from "../ir/kernel.ts";
import type { CpuDevice } from "./cpu.ts";
import { fmaFlops, fmaKernel, measureRoofline, milliseconds, onBuffers, type Roofline, secondsOf } from "./roofline.ts";

export interface Peaks extends Roofline {
  /** As on all cores. */
  readonly fmaGflopsOneCore: number;
  /** Loads from the first and second level caches, one core. */
  readonly l1GBs: number;
  readonly l2GBs: number;
  /** One empty launch, called from JavaScript, threads awake; median. */
  readonly dispatchMicroseconds: number;
  /** One more empty launch in the same run; median. */
  readonly launchMicroseconds: number;
}

const CACHE_BYTES = 256 << 20;
const EMPTY_LAUNCHES = 256;

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
  const empty = new KernelBuilder("empty", target, threads).build();
  const kernels = [fmaKernel(target, threads, 1), readKernel(target, threads, l1), readKernel(target, threads, l2)];
  const first = kernels.length;
  const launches = [...kernels.keys(), ...new Array<number>(EMPTY_LAUNCHES).fill(first)];
  return {
    ...(await measureRoofline(device)),
    ...(await onBuffers(device, [...kernels, empty], launches, (list) => ({
      fmaGflopsOneCore: fmaFlops(target) / secondsOf(list, 0) / 1e9,
      l1GBs: (Math.round(CACHE_BYTES / l1) * l1) / secondsOf(list, 1) / 1e9,
      l2GBs: (Math.round(CACHE_BYTES / l2) * l2) / secondsOf(list, 2) / 1e9,
      dispatchMicroseconds: median(1000, () => list.run(first, first + 1)) * 1e3,
      launchMicroseconds: (median(15, () => list.run(first, list.length)) * 1e3) / EMPTY_LAUNCHES,
    }))),
  };
}
