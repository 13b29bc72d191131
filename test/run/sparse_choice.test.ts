// Which kernels layers with sparse weights get: by predictions, by the option, and the same again for a program from the cache.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { openDevice } from "../../src/devices/open.ts";
import { exportOnnx } from "../../src/formats/onnx/export.ts";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { loadModel } from "../../src/model.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { type CompileOptions, compile } from "../../src/run/compile.ts";
import { USUAL_RATES } from "../../src/run/implement/sparse_cost.ts";
import type { Program } from "../../src/run/program.ts";
import { expectClose, randomNumbers } from "./devices.ts";

const device = await openDevice({ threads: 1 });
const folder = mkdtempSync(join(tmpdir(), "sparse-"));
afterAll(() => {
  device.close();
  rmSync(folder, { recursive: true });
});

const op = (name: string, ...inputs: Value[]): Value => apply(OPS.get(name)!, inputs, {}, name)[0]; // the test names operators that exist

/** x (n, depth) times weights (depth, rows). */
function layer(n: number, depth: number, rows: number, density: number): Graph {
  const keep = randomNumbers(2, depth * rows);
  const w = randomNumbers(1, depth * rows).map((v, i) => ((keep[i] + 1) / 2 < density ? v : 0));
  const x = input("x", { dtype: "f32", shape: [n, depth] });
  return { inputs: [x], outputs: [{ name: "y", value: op("MatMul", x, constantValue(fromNumbers("f32", [depth, rows], w))) }] };
}

const choices = (program: Program): (boolean | undefined)[] => program.schedule.backend.sparse!.choices.map((c) => c.isSparse); // CPU devices have it

async function chosen(graph: Graph, options: Omit<CompileOptions, "device">, on = device): Promise<(boolean | undefined)[]> {
  const program = await compile(graph, { device: on, sparseRates: USUAL_RATES[on.target.name], ...options });
  const all = choices(program);
  program.free();
  return all;
}

test.each([
  { what: "nine zeros of ten", graph: layer(128, 512, 512, 0.1), wanted: [true] },
  { what: "six zeros of ten: rows share what they load", graph: layer(128, 512, 512, 0.4), wanted: [true] },
  { what: "four zeros of ten: rows share more", graph: layer(128, 512, 512, 0.62), wanted: [true] },
  { what: "half of it zeros, eight columns: one vector of them costs half of four", graph: layer(8, 512, 512, 0.5), wanted: [false] },
  { what: "one zero of ten: not looked at", graph: layer(128, 512, 512, 0.9), wanted: [] },
  { what: "a layer too small for what a kernel costs by itself", graph: layer(16, 64, 64, 0.1), wanted: [false] },
  { what: "batch 1, nine zeros of ten", graph: layer(1, 512, 512, 0.1), wanted: [true] },
  { what: "batch 1, half of it zeros", graph: layer(1, 512, 2048, 0.5), wanted: [true] },
  { what: "batch 1, a quarter zeros: no gain", graph: layer(1, 512, 512, 0.75), wanted: [false] },
  { what: "batch 1, hardly any zeros: not looked at", graph: layer(1, 512, 512, 0.9), wanted: [] },
  { what: "batch 1, as large as memory is slow", graph: layer(1, 2048, 4096, 0.1), wanted: [true] },
  { what: "batch 1, too small", graph: layer(1, 64, 128, 0.1), wanted: [false] },
])("$what", async ({ graph, wanted }) => {
  expect(await chosen(graph, {})).toEqual(wanted);
});

test("one of two threads with all rows is faster than two with dense ones, where enough are zeros", async () => {
  const two = await openDevice({ threads: 2 });
  try {
    const all = [0.1, 0.45].map((density) => chosen(layer(1, 4096, 16, density), {}, two));
    expect(await Promise.all(all)).toEqual([[true], [false]]);
  } finally {
    two.close();
  }
});

test("the option says otherwise", async () => {
  expect(await chosen(layer(16, 64, 64, 0.4), { sparse: "always" })).toEqual([true]);
  expect(await chosen(layer(128, 512, 512, 0.1), { sparse: "never" })).toEqual([]);
});

test("a row times sparse weights has a bias and what follows applied to it", async () => {
  const { inputs, outputs } = layer(1, 300, 400, 0.1);
  const bias = constantValue(fromNumbers("f32", [400], randomNumbers(4, 400)));
  const graph: Graph = { inputs, outputs: [{ name: "y", value: op("Relu", op("Add", outputs[0].value, bias)) }] };
  const x = fromNumbers("f32", [1, 300], randomNumbers(3, 300));
  const results = [];
  for (const sparse of ["never", "always"] as const) {
    using model = await loadModel(exportOnnx(graph), { sparse, threads: 2 });
    results.push((await model.run({ x })).y);
  }
  expectClose(results[1], results[0], "y");
});

test("a model from the cache has the kernels that it was compiled with", async () => {
  const graph = layer(64, 256, 320, 0.1);
  const path = exportOnnx(graph);
  const x = fromNumbers("f32", [64, 256], randomNumbers(3, 64 * 256));
  const results = [];
  for (const sparse of ["never", "always", "auto", "auto"] as const) {
    using model = await loadModel(path, { cache: folder, sparse, threads: 1 });
    results.push((await model.run({ x })).y);
    const program = (await model.program()) as Program; // on a CPU
    expect(choices(program).length).toBe(sparse === "never" ? 0 : 1);
    if (sparse === "always") expect(choices(program)).toEqual([true]);
  }
  for (const y of results) expectClose(y, results[0], "y");
  expect(results[3]).toEqual(results[2]);
});
