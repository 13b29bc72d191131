// NVIDIA GPUs: several in one process, and what is left of one after a kernel failed or memory ran out.
import { existsSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import type { GpuDevice, GpuMemory } from "../../src/devices/gpu.ts";
import { cudaFacts } from "../../src/devices/gpu_facts.ts";
import { HeddleError, loadModel } from "../../src/index.ts";
import { int, SimtBuilder, type SimtKernel, type SimtTarget, sum, thread } from "../../src/ir/simt.ts";
import { floats, info, model } from "../formats/onnx_model.ts";
import { expectClose, randomNumbers } from "../run/devices.ts";

const hasGpu = existsSync("/dev/nvidiactl");
const openCuda = async (ordinal = 0): Promise<GpuDevice> =>
  (await import("../../src/devices/cuda/index.ts")).openCuda({ ordinal, isChecked: true });

const COUNT = 32;
/** out[thread + offset] = thread: leaves its buffer where there is an offset. */
function numbers(name: string, target: SimtTarget, offset: number): SimtKernel {
  const b = new SimtBuilder(name, target);
  const out = b.buffer("out", "f32", COUNT, "write");
  b.store(out, sum(thread(), int(offset)), { k: "cast", type: "f32", a: thread() });
  return b.build([COUNT, 1, 1], [1, 1, 1]);
}

async function runNumbers(device: GpuDevice, offset: number, times = 1): Promise<readonly number[]> {
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
const wanted = Array.from({ length: COUNT }, (_, i) => i);

describe.skipIf(!hasGpu)("a CUDA device", () => {
  test("whose kernel failed says which, and opens anew", { timeout: 60_000 }, async () => {
    const [device, other] = [await openCuda(), await openCuda()];
    const kept = other.alloc(64);
    await expect(runNumbers(device, COUNT)).rejects.toMatchObject({
      code: "io",
      message: expect.stringMatching(/kernel astray of second failed/),
    });
    // All that lives on this GPU is lost, and says so; nothing of it is freed into what is opened anew.
    await expect(runNumbers(other, 0)).rejects.toMatchObject({
      code: "io",
      message: expect.stringMatching(/a kernel failed on it before; load the model again/),
    });
    const again = await openCuda();
    expect(await runNumbers(again, 0, 3)).toEqual(wanted);
    kept.free();
    await device.close();
    await other.close();
    expect(await runNumbers(again, 0)).toEqual(wanted);
    await again.close();
  });

  test("whose memory ran out says how much was needed and how much is free, and goes on", { timeout: 60_000 }, async () => {
    const device = await openCuda();
    const piece = 2 ** 33;
    const taken: GpuMemory[] = [];
    const exhaust = (): void => {
      for (;;) taken.push(device.alloc(piece));
    };
    let message = "";
    try {
      exhaust();
    } catch (e) {
      expect(e).toBeInstanceOf(HeddleError);
      message = (e as HeddleError).message; // just checked
    }
    const [, needed, free, total] = /(\d+) bytes are needed, (\d+) of (\d+) are free/.exec(message)?.map(Number) ?? [];
    expect(needed).toBe(piece);
    expect(free).toBeLessThan(piece);
    expect(total).toBe(device.memory()?.totalBytes);
    for (const memory of taken) memory.free();
    expect(await runNumbers(device, 0)).toEqual(wanted);
    await device.close();
  });
});

describe.skipIf(!hasGpu)("several CUDA devices in one process", () => {
  let count = 0;
  beforeAll(async () => {
    count = (await cudaFacts()).devices.length;
  });

  test("models take turns on them, in several shapes, and one is closed while the others run", { timeout: 120_000 }, async (context) => {
    if (count < 2) context.skip(`this machine has ${count} CUDA device`);
    const network = model({
      name: "network",
      input: [info("x", ["n", 64])],
      output: [info("y", ["n", 64])],
      initializer: [floats("w", [64, 64], [...randomNumbers(1, 64 * 64)])],
      node: [{ opType: "MatMul", input: ["x", "w"], output: ["h"] }, { opType: "Softmax", input: ["h"], output: ["y"] }], // biome-ignore format: short
    });
    using reference = await loadModel(network, { device: "reference" });
    const models = await Promise.all([0, 1, 0, 1].map((ordinal) => loadModel(network, { device: `cuda:${ordinal}` })));
    const round = async (live: typeof models): Promise<void> => {
      const runs = [2, 5, 33].flatMap((n) => live.map(async (m, i) => {
        const x = { dtype: "f32", shape: [n, 64], data: Float32Array.from(randomNumbers(n + i, n * 64)) } as const;
        expectClose((await m.run({ x })).y, (await reference.run({ x })).y, `model ${i}, ${n} rows`);
      })); // biome-ignore format: short
      await Promise.all(runs);
    };
    for (let i = 0; i < 3; i++) await round(models);
    models[0].dispose();
    models[1].dispose();
    await round(models.slice(2));
    for (const m of models.slice(2)) m.dispose();
  });

  test("a kernel that fails on one leaves the other alone", { timeout: 60_000 }, async (context) => {
    if (count < 2) context.skip(`this machine has ${count} CUDA device`);
    const [first, second] = [await openCuda(0), await openCuda(1)];
    await expect(runNumbers(first, COUNT)).rejects.toThrow(/cuda:0: kernel astray of second failed/);
    expect(await runNumbers(second, 0, 3)).toEqual(wanted);
    const again = await openCuda(0);
    expect(await runNumbers(again, 0)).toEqual(wanted);
    for (const device of [first, second, again]) await device.close();
  });
});
