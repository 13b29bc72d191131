// GPUs' programs kept on disk: loaded without compiling, with the same results; damaged ones compiled again.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { type LoadOptions, loadModel } from "../../src/model.ts";
import { floats, info, model, node } from "../formats/onnx_model.ts";
import { randomNumbers } from "./devices.ts";
import { GPU_DEVICES } from "./gpu_devices.ts";

const root = mkdtempSync(join(tmpdir(), "heddle-gpu-cache-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let folder = "";
let said: string[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(root, "cache-"));
  said = [];
  vi.stubEnv("HEDDLE_DEBUG", "1");
  vi.spyOn(process.stderr, "write").mockImplementation((text) => said.push(String(text)) > 0);
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});
const count = (what: string): number => said.filter((line) => line.includes(what)).length;

const weights = (name: string, dims: readonly number[], seed: number) => floats(name, dims, [...randomNumbers(seed, dims.reduce((a, b) => a * b))]); // biome-ignore format: one idea
const network = model({
  name: "network",
  input: [info("x", [1, 3, 6, 8])],
  output: [info("y", [1, 8])],
  initializer: [weights("w", [20, 3, 3, 3], 1), weights("b", [20], 2), weights("m", [20, 8], 3)],
  node: [
    node("Conv", ["x", "w", "b"], ["c"], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
    node("Relu", ["c"], ["r"]),
    node("ReduceMean", ["r"], ["a"], { axes: [2, 3], keepdims: 0 }),
    node("MatMul", ["a", "m"], ["y"]),
  ],
});
const x = fromNumbers("f32", [1, 3, 6, 8], randomNumbers(9, 144));

/** As a process does: resolves when what was to be kept is written. */
async function runOnce(options: LoadOptions): Promise<TensorData> {
  const loaded = await loadModel(network, { cache: folder, ...options });
  try {
    return (await loaded.run({ x })).y;
  } finally {
    loaded.dispose();
    await (loaded as unknown as { queue: Promise<unknown> }).queue;
  }
}

describe.each(GPU_DEVICES)("on $name", ({ options }) => {
  test("a program from the cache computes the same bits, for each precision its own", { timeout: 120_000 }, async () => {
    const fresh = await runOnce({ ...options, cache: false });
    expect([count("loaded"), count("written")]).toEqual([0, 0]);
    expect(await runOnce(options)).toEqual(fresh);
    const narrow = await runOnce({ ...options, precision: "bf16" });
    expect(narrow).not.toEqual(fresh);
    expect(count("loaded")).toBe(0);
    expect(await runOnce(options)).toEqual(fresh);
    expect(await runOnce({ ...options, precision: "bf16" })).toEqual(narrow);
    expect(count("loaded")).toBe(2);
  });

  test("it shows its nodes, and is timed, like any other", { timeout: 120_000 }, async () => {
    await runOnce(options);
    using loaded = await loadModel(network, { cache: folder, ...options });
    expect(count("loaded")).toBe(1);
    const program = await loaded.program();
    expect(await program.profile({ x })).toHaveLength(program.schedule.steps.length);
    expect(program.kernels().length).toBeGreaterThan(1);
  });

  test("one that is damaged is compiled and written again", { timeout: 120_000 }, async () => {
    const fresh = await runOnce(options);
    const [file] = readdirSync(folder).map((name) => join(folder, name)).sort((a, b) => statSync(b).size - statSync(a).size); // biome-ignore format: one idea
    const bytes = readFileSync(file);
    bytes[bytes.length - 3] ^= 1; // in the last constant
    writeFileSync(file, bytes);
    expect(await runOnce(options)).toEqual(fresh);
    expect([count("loaded"), count("is not used: it is damaged")]).toEqual([0, 1]);
    expect(await runOnce(options)).toEqual(fresh);
    expect(count("loaded")).toBe(1);
  });
});
