// Copies a tensor's bytes from one place to another.
import { type Kernel, KernelBuilder, type SimdTarget, times } from "../ir/kernel.ts";

/** Buffers: from, to; they must not overlap. */
export function copyKernel(name: string, bytes: number, target: SimdTarget, threads: number): Kernel {
  const b = new KernelBuilder(name, target, threads);
  const from = b.buffer("from", bytes, "read");
  const to = b.buffer("to", bytes, "write");
  const vector = b.lanes * 4;
  const whole = Math.floor(bytes / vector);
  // Bits are moved as they are, whatever they mean.
  b.parallel(whole, (v) => b.store(b.load(from, times(v, vector)), to, times(v, vector)));
  const rest = bytes - whole * vector;
  if (rest === 0) return b.build();
  b.parallel(1, () => {
    const words = Math.floor(rest / 4);
    const at = whole * vector;
    if (words > 0) b.store(b.load(from, at, words), to, at, words);
    for (let i = words * 4; i < rest; i++) b.store(b.load(from, at + i, 1, "u8"), to, at + i, 1, "u8");
  });
  return b.build();
}
