// Reads memory and keeps hardly anything of it: it is in the caches afterwards, and what was there is not.
import { type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";

const CHUNK = 4096;
/** Chains of additions that fill the loads' time. */
const CHAINS = 4;
const LINE = 64;

/** Buffers: what is read, in whole chunks, and a line for each chunk: `sweptLines` bytes. */
export function sweepKernel(bytes: number, target: SimdTarget, threads: number): Kernel {
  const b = new KernelBuilder(`sweep_${bytes}`, target, threads);
  const from = b.buffer("from", bytes, "read");
  const out = b.buffer("out", sweptLines(bytes), "write");
  const vector = target.lanes * 4;
  b.parallel(Math.floor(bytes / CHUNK), (chunk) => {
    const sums = Array.from({ length: CHAINS }, () => b.f32(0));
    b.loop(0, CHUNK, vector * CHAINS, (at) => {
      for (const [i, sum] of sums.entries()) {
        const part = b.load(from, plus(plus(times(chunk, CHUNK), at), i * vector));
        b.op("add", sum, part, undefined, sum);
      }
    });
    b.store(
      sums.reduce((x, y) => b.op("add", x, y)),
      out,
      times(chunk, LINE),
    );
  });
  return b.build();
}

export const sweptLines = (bytes: number): number => LINE * Math.max(1, Math.floor(bytes / CHUNK));
