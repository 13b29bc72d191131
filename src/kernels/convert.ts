// Numbers of 16 bits as float32, for kernels that read no others.
import { type Int, type Kernel, KernelBuilder, type SimdTarget, times } from "../ir/kernel.ts";

/** Buffers: `count` numbers of this type, the same as float32. */
export function convertKernel(name: string, type: "f16" | "bf16", count: number, target: SimdTarget, threads: number): Kernel {
  const b = new KernelBuilder(name, target, threads);
  const from = b.buffer("from", 2 * count, "read");
  const to = b.buffer("to", 4 * count, "write");
  const { lanes } = b;
  const vector = (v: Int, wanted: number): void =>
    b.store(b.load(from, times(v, 2 * lanes), wanted, type), to, times(v, 4 * lanes), wanted);
  const whole = Math.floor(count / lanes);
  b.parallel(whole, (v) => vector(v, lanes));
  if (whole * lanes < count) b.parallel(1, () => vector(whole, count - whole * lanes));
  return b.build();
}
