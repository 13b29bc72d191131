// A CUDA kernel that writes numbers, or leaves its buffer while it does.
import { existsSync } from "node:fs";
import type { GpuDevice } from "../../src/devices/gpu.ts";
import { int, SimtBuilder, type SimtKernel, type SimtTarget, sum, thread } from "../../src/ir/simt.ts";

export const hasGpu = existsSync("/dev/nvidiactl");
export const openCuda = async (ordinal = 0): Promise<GpuDevice> =>
  (await import("../../src/devices/cuda/index.ts")).openCuda({ ordinal, isChecked: true });

export const COUNT = 32;
/** out[thread + offset] = thread: leaves its buffer where there is an offset. */
function numbers(name: string, target: SimtTarget, offset: number): SimtKernel {
  const b = new SimtBuilder(name, target);
  const out = b.buffer("out", "f32", COUNT, "write");
  b.store(out, sum(thread(), int(offset)), { k: "cast", type: "f32", a: thread() });
  return b.build([COUNT, 1, 1], [1, 1, 1]);
}

export async function runNumbers(device: GpuDevice, offset: number, times = 1): Promise<readonly number[]> {
  const memory = device.alloc(4 * COUNT);
  const args = [{ memory, offset: 0, bytes: memory.bytes }];
  const kernels = [numbers("right", device.target, 0), numbers("astray", device.target, offset)];
  const list = await device.load(kernels, [{ kernel: 0, args, from: "first" }, { kernel: 1, args, from: "second" }, { kernel: 0, args, from: "third" }]); // biome-ignore format: short
  for (let i = 0; i < times; i++) list.run(0, list.length);
  const got = [...(await device.read(memory, 0, "f32", COUNT))].map(Number);
  list.free();
  memory.free();
  return got;
}
export const NUMBERS = Array.from({ length: COUNT }, (_, i) => i);
