// Measures what a GPU can reach at best in float32: multiply-adds and memory, by the device's clock; the yardstick of every percentage of a roofline.
import { float, fn, group, product, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, sum, thread } from "../ir/simt.ts";
import type { GpuDevice } from "./gpu.ts";
import type { Peaks } from "./peaks.ts";

export type GpuPeaks = Pick<Peaks, "fmaGflopsAllCores" | "copyGBs">;

/** Enough chains for each thread to hide the latency of a multiply-add. */
const CHAINS = 8;
const THREADS = 256;
/** Fills a large GPU several times over. */
const GROUPS = 4096;
/** A software GPU takes long for what a real one does in no time: the work grows until it takes this long. */
const ENOUGH_MS = 2;
const REPEATS = 5;

function fmaKernel(target: SimtTarget, iterations: number, groups: number): SimtKernel {
  const b = new SimtBuilder(`fma_peak_${iterations}`, target);
  const out = b.buffer("out", "f32", THREADS * groups, "write");
  const at = b.let(sum(product(group(), THREADS), thread()));
  const start = b.let(fn("mul", { k: "cast", type: "f32", a: at }, 1e-7));
  const chains = Array.from({ length: CHAINS }, (_, i) => b.variable("f32", fn("add", start, i)));
  b.loop(0, iterations, 1, () => {
    for (const c of chains) b.set(c, fn("fma", c, float(0.999), float(1e-3)));
  });
  b.store(out, at, chains.reduce<Reg>((x, y) => fn("add", x, y), float(0))); // biome-ignore format: short
  return b.build([THREADS, 1, 1], [groups, 1, 1]);
}

/** A thread copies four neighbouring elements. */
function copyKernel(target: SimtTarget, groups: number): SimtKernel {
  const b = new SimtBuilder("copy_peak", target);
  const elements = 4 * THREADS * groups;
  const [from, to] = [b.buffer("from", "f32", elements, "read"), b.buffer("to", "f32", elements, "write")];
  const at = b.let(product(sum(product(group(), THREADS), thread()), 4));
  b.storeVector({ k: "buffer", number: to }, at, b.loadVector({ k: "buffer", number: from }, at, 4));
  return b.build([THREADS, 1, 1], [groups, 1, 1]);
}

/** Shortest of some runs, milliseconds. */
async function timeOf(device: GpuDevice, kernel: SimtKernel): Promise<number> {
  const memories = kernel.params.map((p) => device.alloc(p.bytes));
  try {
    const args = memories.map((memory) => ({ memory, offset: 0, bytes: memory.bytes }));
    const list = await device.load([kernel], [{ kernel: 0, args }]);
    try {
      let best = Number.POSITIVE_INFINITY;
      for (let i = 0; i < REPEATS; i++) best = Math.min(best, (await list.profile())[0]);
      return best;
    } finally {
      list.free();
    }
  } finally {
    for (const memory of memories) memory.free();
  }
}

export async function measureGpuPeaks(device: GpuDevice): Promise<GpuPeaks> {
  const { target } = device;
  return {
    fmaGflopsAllCores: await rate((size) => {
      const [iterations, groups] = [64 * size, Math.min(GROUPS, 16 * size)];
      return { kernel: fmaKernel(target, iterations, groups), amount: 2 * CHAINS * iterations * THREADS * groups };
    }),
    copyGBs: await rate((size) => {
      const groups = Math.min(32 * GROUPS, 64 * size, target.maxGroups);
      return { kernel: copyKernel(target, groups), amount: 2 * 16 * THREADS * groups };
    }),
  };

  /** 10⁹ units a second, for the first size that takes long enough. */
  async function rate(work: (size: number) => { kernel: SimtKernel; amount: number }): Promise<number> {
    for (let size = 1; ; size *= 4) {
      const { kernel, amount } = work(size);
      const ms = await timeOf(device, kernel);
      if (ms >= ENOUGH_MS || size >= 1024) return amount / ms / 1e6;
    }
  }
}
