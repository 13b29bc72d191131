// Models on GPUs as their users see them: several at once, shapes that change, disposal, too little memory, a lost device, and processes that end.
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isGpu, openAnyDevice } from "../../src/devices/open.ts";
import { WebGpuDevice } from "../../src/devices/webgpu/index.ts";
import { HeddleError, loadModel, type TensorData } from "../../src/index.ts";
import { bundle, root } from "../bundle.ts";
import { floats, info, model } from "../formats/onnx_model.ts";
import { expectClose, randomNumbers } from "./devices.ts";
import { GPU_DEVICES } from "./gpu_devices.ts";

const WIDTH = 8;

/** y = softmax(x · w) for any number of rows, with weights of a seed. */
const network = (seed: number): Uint8Array =>
  model({
    name: "network",
    input: [info("x", ["n", WIDTH])],
    output: [info("y", ["n", WIDTH])],
    initializer: [floats("w", [WIDTH, WIDTH], [...randomNumbers(seed, WIDTH * WIDTH)])],
    node: [
      { opType: "MatMul", input: ["x", "w"], output: ["h"] },
      { opType: "Softmax", input: ["h"], output: ["y"] },
    ],
  });

const rows = (seed: number, n: number): TensorData => ({
  dtype: "f32",
  shape: [n, WIDTH],
  data: Float32Array.from(randomNumbers(seed, n * WIDTH)),
});

async function onCpu(seed: number, x: TensorData): Promise<TensorData> {
  using cpu = await loadModel(network(seed), { device: "reference" });
  return (await cpu.run({ x })).y;
}

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ options }) => {
  test("several models at once, in several shapes, with runs that overlap", { timeout: 180_000 }, async () => {
    const models = await Promise.all([1, 2].map((seed) => loadModel(network(seed), options)));
    const runs = models.flatMap((m, i) =>
      [3, 5, 3].map(async (n) => {
        const x = rows(n, n);
        expectClose((await m.run({ x })).y, await onCpu(i + 1, x), `model ${i + 1}, ${n} rows`);
      }),
    );
    await Promise.all(runs);
    for (const m of models) m.dispose();
  });

  test("dispose() lets runs that were called end, and refuses later ones", async () => {
    const loaded = await loadModel(network(3), options);
    const x = rows(4, 2);
    const run = loaded.run({ x });
    loaded.dispose();
    expectClose((await run).y, await onCpu(3, x), "the run before");
    await expect(loaded.run({ x })).rejects.toThrow(/used after dispose/);
  });

  test("too little memory is an error that leaves the process usable", async () => {
    const few = { ...options, shapes: { x: [100, WIDTH] }, memoryLimit: 2000 };
    await expect(loadModel(network(1), few)).rejects.toMatchObject({ code: "limit" });
    const device = await openAnyDevice(options);
    if (!isGpu(device)) throw new Error("a CPU");
    expect(() => device.alloc(2 ** 50)).toThrow(HeddleError);
    expect(() => device.alloc(2 ** 50)).toThrow(/1125899906842624 bytes are needed/);
    device.alloc(64).free();
    await device.close();
    using loaded = await loadModel(network(1), options);
    const x = rows(1, 2);
    expectClose((await loaded.run({ x })).y, await onCpu(1, x), "afterwards");
  });

  test("errors are those of other devices", async () => {
    using loaded = await loadModel(network(1), options);
    await expect(loaded.run({})).rejects.toMatchObject({ code: "bad-input" });
    await expect(loaded.run({ x: { dtype: "f32", shape: [1, 2], data: new Float32Array(2) } })).rejects.toMatchObject({
      code: "bad-input",
    });
    await expect(loadModel(network(1), { device: "cuda:99" })).rejects.toMatchObject({ code: "missing" });
    await expect(loadModel(network(1), { device: "webgpu:1" as "webgpu" })).rejects.toMatchObject({ code: "bad-argument" });
  });
});

describe.skipIf(!GPU_DEVICES.some((d) => d.name === "webgpu"))("webgpu", () => {
  test("a lost device is an error, and loading again works", async () => {
    const x = rows(1, 2);
    const loaded = await loadModel(network(1), { device: "webgpu" });
    await loaded.run({ x });
    if (!(loaded.device instanceof WebGpuDevice)) throw new Error("another device");
    loaded.device.device.destroy(); // as a driver that was reset does it
    for (let i = 0; i < 2; i++)
      await expect(loaded.run({ x })).rejects.toMatchObject({
        code: "io",
        message: expect.stringMatching(/device is lost.*load the model again/),
      });
    await expect(loaded.run({ x: rows(1, 7) })).rejects.toThrow(/device is lost/);
    loaded.dispose();
    using again = await loadModel(network(1), { device: "webgpu" });
    expectClose((await again.run({ x })).y, await onCpu(1, x), "after the loss");
  });

  test("a loss in the middle of runs ends all of them", async () => {
    const loaded = await loadModel(network(1), { device: "webgpu" });
    if (!(loaded.device instanceof WebGpuDevice)) throw new Error("another device");
    const x = rows(1, 2);
    await loaded.run({ x });
    const runs = [1, 2, 3].map(() => loaded.run({ x }));
    await Promise.resolve();
    loaded.device.device.destroy();
    for (const end of await Promise.allSettled(runs))
      if (end.status === "rejected") expect(end.reason).toMatchObject({ code: "io", message: expect.stringMatching(/lost/) });
    await expect(loaded.run({ x })).rejects.toThrow(/lost/);
    loaded.dispose();
  });
});

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("a process on $name", ({ options }) => {
  const folder = join(root, "build", `gpu-models-${process.pid}`);
  beforeAll(async () => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "model.onnx"), network(1));
    await bundle(folder, { index: "src/index.ts" });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const ENDS = {
    "after dispose()": "await m.run({ x }); m.dispose(); console.log('done');",
    "without dispose()": "await m.run({ x }); console.log('done');",
    "disposed in the middle of runs": "const runs = [1, 2, 3].map(() => m.run({ x })); m.dispose(); Promise.all(runs).then(() => console.log('done'));", // biome-ignore format: a table
    "by process.exit()": "await m.run({ x }); m.run({ x }); console.log('done'); process.exit(0);",
  };
  test.each(Object.entries(ENDS))("ends by itself %s", (_, body) => {
    const file = join(folder, "child.js");
    const head = `import { loadModel } from "./index.js";\nconst x = { dtype: "f32", shape: [2, ${WIDTH}], data: new Float32Array(${2 * WIDTH}).fill(0.5) };`;
    writeFileSync(file, `${head}\nconst m = await loadModel("model.onnx", ${JSON.stringify(options)});\n${body}\n`);
    const { stdout, status, signal } = spawnSync(process.execPath, [file], { cwd: folder, encoding: "utf8", timeout: 40_000 });
    expect({ last: stdout.trim().split("\n").at(-1), status, signal }).toEqual({ last: "done", status: 0, signal: null });
  });
});
