// heddle prune from end to end: files in, a network and a page out, and what it refuses.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Options } from "../../src/cli/command.ts";
import { prune } from "../../src/cli/commands/prune.ts";
import { writeNpy } from "../../src/formats/npy.ts";
import { readOnnx } from "../../src/formats/onnx/read.ts";
import { replaceWeights } from "../../src/formats/onnx/replace_weights.ts";
import { toNumbers } from "../../src/ir/tensor.ts";
import { OnnxModule } from "../../src/nn/index.ts";
import { testFolder } from "../cli/sample_models.ts";
import { convBatches, convNetwork, randomTensor } from "./sample_networks.ts";

const folder = testFolder("prune");
const at = (name: string) => join(folder, name);
writeFileSync(at("model.onnx"), replaceWeights(convNetwork(), new Map()));
writeFileSync(at("x.npy"), writeNpy(randomTensor([20, 3, 8, 8], 3)));

const said: string[] = [];
const run = (options: Options) => prune({ args: [at("model.onnx")], options, progress: (text) => said.push(text) });

interface Printed {
  readonly method: string;
  readonly sparsity: number;
  readonly networkSparsity: number;
  readonly agreement: { readonly batches: number; readonly minCosine: number; readonly meanCosine: number; readonly sameClass: number };
  readonly layers: readonly { readonly name: string; readonly density: number; readonly error: number | null }[];
  readonly distillation: { readonly steps: number } | null;
  readonly sweep?: readonly { readonly sparsity: number; readonly meanCosine: number | null; readonly ms: number }[];
}

/** Zeros of the layers' weights in a file, and how many weights there are. */
async function zerosIn(file: string): Promise<[zeros: number, count: number]> {
  let [zeros, count] = [0, 0];
  for (const [, parameter] of new OnnxModule(readOnnx(readFileSync(file))).namedState()) {
    if (parameter.shape.length < 2) continue;
    const values = toNumbers(await parameter.value.tensorData());
    zeros += values.filter((w) => w === 0).length;
    count += values.length;
  }
  return [zeros, count];
}

test("data in, a pruned network and a report out, zeros also in sparse storage", async () => {
  const bench = { model: at("model.onnx"), ms: { median: 1.25 } };
  writeFileSync(at("bench.json"), JSON.stringify(bench));
  const outcome = await run({
    sparsity: 0.75,
    data: at("x.npy"),
    output: at("p.onnx"),
    sparseStorage: true,
    distill: 6,
    report: at("r.html"),
    sweep: "0.5",
    bench: at("bench.json"),
  });
  const json = outcome.json as Printed;
  expect(json).toMatchObject({ method: "sparsegpt", sparsity: 0.75, agreement: { batches: 1 }, distillation: { steps: 6 } });
  expect(json.layers.map((l) => l.density)).toEqual(Array(5).fill(0.25));
  expect(json.layers.every((l) => l.error !== null && l.error < 10)).toBe(true);
  const [zeros, count] = await zerosIn(at("p.onnx"));
  expect(zeros).toBe(count * 0.75);
  expect(readOnnx(readFileSync(at("p.onnx"))).graph.sparseInitializer.length).toBeGreaterThan(0);
  // The dense network, one of the sweep, and the one that is written, which distillation taught.
  expect(json.sweep!.map((p) => p.sparsity)).toEqual([0, 0.5, 0.75]);
  expect(json.sweep![0]).toMatchObject({ meanCosine: 1, sameClass: 1 });
  for (const { ms } of json.sweep!) expect(ms).toBeGreaterThan(0);
  const page = readFileSync(at("r.html"), "utf8");
  for (const text of ["Agreement against sparsity", "Time against sparsity", "heddle bench", "Distillation", "grouped"])
    expect(page).toContain(text);
  expect(outcome.text()).toContain("75.0 % of the layers' weights are zero");
  expect(said).toContain("comparing with the dense network");
});

test("refitted weights agree better with the dense network than magnitude's", async () => {
  const options = { sparsity: 0.6, data: at("x.npy") };
  const [better, plain] = [await run(options), await run({ ...options, method: "magnitude", fit: false })].map((o) => o.json as Printed);
  expect(better.agreement.meanCosine).toBeGreaterThan(plain.agreement.meanCosine);
});

test("without data: by magnitude, nothing to compare with", async () => {
  const json = (await run({ grain: "2:4" })).json as Printed;
  expect(json).toMatchObject({ method: "magnitude", agreement: null });
  expect(json.layers.map((l) => l.error)).toEqual(Array(5).fill(null));
});

test("blocks: as many weights go as fit", async () => {
  const json = (await run({ sparsity: 0.5, grain: "8x8", scope: "global" })).json as Printed;
  expect(json.sparsity).toBeGreaterThan(0.4);
  expect(json.sparsity).toBeLessThanOrEqual(0.5);
});

test("a report without data shows time alone; patterns have no sweep", async () => {
  const swept = (await run({ sparsity: 0.5, sweep: "0.8", report: at("t.html") })).json as Printed;
  expect(swept.sweep!.map((p) => [p.sparsity, p.meanCosine])).toEqual([0, 0.5, 0.8].map((s) => [expect.closeTo(s, 2), null]));
  const page = readFileSync(at("t.html"), "utf8");
  expect(page).toContain("Time against sparsity");
  expect(page).not.toContain("Agreement against sparsity");
  const pattern = (await run({ grain: "2:4", report: at("t.html") })).json as Printed;
  expect(pattern.sweep!.map((p) => p.sparsity)).toEqual([0, expect.closeTo(0.5, 1)]);
});

test("excluded weights stay as they are, and nothing is written unless asked", async () => {
  const json = (await run({ sparsity: 0.5, exclude: "conv,gemm" })).json as Printed;
  expect(json.layers.map((l) => l.name)).toEqual(["grouped", "points", "product"]);
});

describe("what is refused", () => {
  test.each([
    [{}, /--sparsity: wanted/],
    [{ sparsity: 0.5, grain: "2:4" }, /says it already/],
    [{ sparsity: 2 }, /0 to 1/],
    [{ sparsity: 0.5, sweep: "0.5,high" }, /--sweep: got 0.5,NaN/],
    [{ sparsity: 0.5, allocate: "speed", scope: "layer" }, /in scope global/],
    [{ sparsity: 0.5, allocate: "much" }, /size, speed/],
    [{ sparsity: 0.5, grain: "some" }, /wanted element, kernel/],
    [{ sparsity: 0.5, method: "wanda" }, /need inputs/],
    [{ sparsity: 0.5, shape: "y=2x3x8x8" }, /no input y/],
    [{ sparsity: 0.5, shape: "2x3x8x8" }, /does not fit/],
    [{ sparsity: 0.5, exclude: "conv,cnv" }, /no weight cnv/],
    [{ sparsity: 0.5, data: at("none.npy") }, /there is no/],
    [{ sparsity: 0.5, data: at("x.npy"), samples: 4 }, /two or more/],
    [{ sparsity: 0.5, data: at("model.onnx") }, /holds no .npy/],
    [{ sparsity: 0.5, output: at("no/such/p.onnx") }, /cannot be written/],
  ] as const)("%j", async (options, message) => {
    await expect(run(options)).rejects.toThrow(message);
  });
  test("no file is left behind", () => expect(existsSync(at("no"))).toBe(false));
});

test("a weight that is not there cannot be replaced", () =>
  expect(() => replaceWeights(convNetwork(), new Map([["w9", randomTensor([1], 1)]]))).toThrow(/no weight w9/));

test("batches keep the order of examples", async () => {
  const { readBatches } = await import("../../src/cli/batches.ts");
  const inputs = [{ name: "x", dtype: "f32", shape: [4, 3, 8, 8] } as const];
  const batches = await readBatches([at("x.npy")], { inputs, picture: { mean: [0], std: [1], isBgr: false }, samples: 100 });
  expect(batches).toHaveLength(5);
  expect([...batches[1].x.data.subarray(0, 3)]).toEqual([...randomTensor([20, 3, 8, 8], 3).data.subarray(768, 771)]);
  expect(convBatches(1)[0].x.shape).toEqual(batches[0].x.shape);
});
