// What benchmarks of single kernels share: operands of random numbers, launches replayed as one graph, errors of sampled elements.

import { randomNumbers } from "../../src/cli/random.ts";
import { median, rounded } from "../../src/cli/statistics.ts";
import type { GpuDevice, GpuLaunch, GpuMemory } from "../../src/devices/gpu.ts";
import { DTYPES, type DType } from "../../src/ir/dtype.ts";
import type { GpuKernel } from "../../src/ir/library_kernel.ts";
import { fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import type { GpuProgram } from "../../src/run/gpu/program.ts";

/** Memory of `count` numbers in [-1, 1), rounded to the type, or of integers to 127, and the numbers. */
export function fill(
  device: GpuDevice,
  dtype: DType,
  count: number,
  seed: number,
): { readonly memory: GpuMemory; readonly values: Float64Array } {
  const next = randomNumbers(seed);
  const scale = DTYPES[dtype].kind === "int" ? 127 : 1;
  const tensor = fromNumbers(
    dtype,
    [count],
    Float64Array.from({ length: count }, () => (next() * 2 - 1) * scale),
  );
  const bytes = device.target.storedBytes[dtype];
  if (!bytes) throw new Error(`no ${dtype} on ${device.name}`);
  const memory = device.alloc(count * bytes);
  device.write(memory, 0, dtype, tensor.data);
  return { memory, values: toNumbers(tensor) };
}

export interface Timed {
  /** Of one round of the launches, the best of three. */
  readonly ms: number;
  /** From the kernels to code that is loaded. */
  readonly compileMs: number;
}

export async function replayed(
  device: GpuDevice,
  kernels: readonly GpuKernel[],
  round: readonly GpuLaunch[],
  repeat: number,
): Promise<Timed> {
  const start = performance.now();
  const list = await device.load(kernels, Array.from({ length: repeat }, () => round).flat());
  const compileMs = performance.now() - start;
  try {
    // The first run warms up, the second is captured.
    for (let i = 0; i < 3; i++) list.run(0, list.length);
    await device.sync();
    let ms = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 3; i++) {
      const from = performance.now();
      list.run(0, list.length);
      await device.sync();
      ms = Math.min(ms, (performance.now() - from) / repeat);
    }
    return { ms, compileMs };
  } finally {
    list.free();
  }
}

/** Largest difference of the elements at `places` from `want`, of the largest of `want`. */
export async function worstError(
  device: GpuDevice,
  memory: GpuMemory,
  dtype: DType,
  count: number,
  places: readonly number[],
  want: readonly number[],
): Promise<number> {
  const data = await device.read(memory, 0, dtype, count);
  const got = places.map((at) => toNumbers({ dtype, shape: [1], data: data.subarray(at, at + 1) })[0]);
  const largest = Math.max(...want.map(Math.abs));
  return Math.max(...got.map((v, i) => (Number.isFinite(v) ? Math.abs(v - want[i]) / largest : Number.POSITIVE_INFINITY)));
}

/** Copies of what goes in and out of a network, to memory of their own and back: median of ten. */
export async function transferMs(device: GpuDevice, inputs: readonly TensorData[], outputs: readonly TensorData[]): Promise<number> {
  const all = [...inputs, ...outputs];
  const memories = all.map(({ dtype, data }) =>
    device.alloc(Math.max(1, data.length * (device.target.storedBytes[dtype] ?? DTYPES[dtype].bytes))),
  );
  try {
    const times: number[] = [];
    for (let round = 0; round < 10; round++) {
      const start = performance.now();
      for (const [i, { dtype, data }] of inputs.entries()) device.write(memories[i], 0, dtype, data);
      await device.sync();
      for (const [i, { dtype, data }] of outputs.entries()) await device.read(memories[inputs.length + i], 0, dtype, data.length);
      times.push(performance.now() - start);
    }
    return rounded(median(times));
  } finally {
    for (const memory of memories) memory.free();
  }
}

/** Milliseconds of a run whose inputs lie on the device: of as many as fill 50 ms, which wakes an idle GPU, the median of seven such rounds. */
export async function replayMs(program: GpuProgram): Promise<number> {
  await program.replay(2);
  const once = async (rounds: number): Promise<number> => {
    const start = performance.now();
    await program.replay(rounds);
    return (performance.now() - start) / rounds;
  };
  const rounds = Math.max(1, Math.min(500, Math.round(50 / (await once(3)))));
  await once(rounds);
  const times: number[] = [];
  for (let i = 0; i < 7; i++) times.push(await once(rounds));
  return median(times);
}
