// A kernel that device tests load and launch, and what they look at its memory with.
import type { CpuDevice, Memory } from "../../src/devices/cpu.ts";
import { type Kernel, KernelBuilder, times } from "../../src/ir/kernel.ts";

/** Opens a device, uses it, and closes it whatever happens. */
export async function withOpened(opening: Promise<CpuDevice>, use: (device: CpuDevice) => Promise<void> | void): Promise<void> {
  const device = await opening;
  try {
    await use(device);
  } finally {
    device.close();
  }
}

/** out[i] ← a[i] + 1, in blocks of one vector, with a tail. */
export function increment({ target, threads: all }: CpuDevice, n: number, threads = all): Kernel {
  const k = new KernelBuilder("increment", target, threads);
  const a = k.buffer("a", n * 4, "read");
  const out = k.buffer("out", n * 4, "write");
  const whole = Math.floor(n / target.lanes);
  k.parallel(whole, (v) => {
    const at = times(v, target.lanes * 4);
    k.store(k.op("add", k.load(a, at), k.f32(1)), out, at);
  });
  const rest = n - whole * target.lanes;
  if (rest > 0)
    k.parallel(1, () => {
      const at = whole * target.lanes * 4;
      k.store(k.op("add", k.load(a, at, rest), k.f32(1)), out, at, rest);
    });
  return k.build();
}

export const floats = (memory: Memory): Float32Array => {
  const bytes = memory.view();
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
};
