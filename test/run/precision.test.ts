// Models computed in 16 bits: near to float32, different from it, and kept apart from it on disk.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { type LoadOptions, loadModel } from "../../src/model.ts";
import { floats, info, model, node } from "../formats/onnx_model.ts";
import { randomNumbers } from "./devices.ts";

const folder = mkdtempSync(join(tmpdir(), "heddle-precision-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const weights = (name: string, dims: readonly number[], seed: number) => floats(name, dims, [...randomNumbers(seed, dims.reduce((a, b) => a * b))]); // biome-ignore format: one idea
const network = model({
  name: "network",
  input: [info("x", [1, 8, 6, 6])],
  output: [info("y", [1, 16, 6, 6])],
  initializer: [weights("w", [16, 8, 3, 3], 1), weights("b", [16], 2), weights("v", [16, 16, 1, 1], 3)],
  node: [
    node("Conv", ["x", "w", "b"], ["c"], { pads: [1, 1, 1, 1] }),
    node("Relu", ["c"], ["r"]),
    node("Conv", ["r", "v"], ["d"]),
    node("Add", ["d", "r"], ["y"]),
  ],
});
const x = fromNumbers("f32", [1, 8, 6, 6], randomNumbers(4, 288));

/** What is to be kept is written when this resolves. */
async function run(options: LoadOptions): Promise<readonly number[]> {
  const loaded = await loadModel(network, { threads: 1, cache: folder, ...options });
  const { y } = await loaded.run({ x });
  loaded.dispose();
  await (loaded as unknown as { queue: Promise<unknown> }).queue;
  expect(y.dtype).toBe("f32");
  return [...(y.data as Float32Array)];
}

test("the reference rounds to 16 bits too, and only cuda multiplies tf32", async () => {
  const exact = await run({ device: "reference" });
  const narrow = await run({ device: "reference", precision: "f16" });
  expect(narrow).not.toEqual(exact);
  for (const [i, v] of narrow.entries()) expect(Math.abs(v - exact[i])).toBeLessThan(0.02);
  for (const device of ["cpu", "reference"] as const)
    await expect(run({ device, precision: "tf32" })).rejects.toMatchObject({
      code: "bad-argument",
      message: expect.stringContaining("tf32"),
    });
  await expect(run({ precision: "f8" as "f16" })).rejects.toMatchObject({ code: "bad-argument" }); // as JavaScript may ask
});

test("bf16 is near to float32, and neither is taken for the other from the cache", async () => {
  const exact = await run({});
  const narrow = await run({ precision: "bf16" });
  const largest = Math.max(...exact.map(Math.abs));
  const worst = Math.max(...exact.map((v, i) => Math.abs(v - narrow[i]))) / largest;
  expect(worst).toBeGreaterThan(1e-5);
  expect(worst).toBeLessThan(2 ** -6);
  expect(await run({ precision: "bf16" })).toEqual(narrow);
  expect(await run({})).toEqual(exact);
});
