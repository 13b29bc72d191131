// NVIDIA GPUs: what is left of one after memory ran out, and several in one process.
import { beforeAll, describe, expect, test } from "vitest";
import type { GpuMemory } from "../../src/devices/gpu.ts";
import { cudaFacts } from "../../src/devices/gpu_facts.ts";
import { HeddleError, loadModel } from "../../src/index.ts";
import { floats, info, model } from "../formats/onnx_model.ts";
import { expectClose, randomNumbers } from "../run/devices.ts";
import { hasGpu, NUMBERS, openCuda, runNumbers } from "./cuda_numbers.ts";

describe.skipIf(!hasGpu)("a CUDA device", () => {
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
    expect(await runNumbers(device, 0)).toEqual(NUMBERS);
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
});
