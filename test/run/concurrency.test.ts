// Overlapping runs of one model and of several, dispose() in the middle of them, and processes that end by themselves afterwards.
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HeddleError } from "../../src/ir/error.ts";
import type { TensorData } from "../../src/ir/tensor.ts";
import { type LoadOptions, loadModel } from "../../src/model.ts";
import { bundle, root } from "../bundle.ts";
import { floats, info, model, node } from "../formats/onnx_model.ts";
import { DEVICES, randomNumbers } from "./devices.ts";

const WIDTH = 64;
const weights = Array.from(randomNumbers(1, WIDTH * WIDTH));

/** y = x · w · w · … · scale: long enough that calls overlap. */
function network(depth: number, scale: number): Uint8Array {
  const products = Array.from({ length: depth }, (_, i) => node("MatMul", [i === 0 ? "x" : `v${i - 1}`, "w"], [`v${i}`]));
  return model({
    input: [info("x", ["rows", WIDTH])],
    output: [info("y", ["rows", WIDTH])],
    node: [...products, node("Mul", [`v${depth - 1}`, "scale"], ["y"])],
    initializer: [floats("w", [WIDTH, WIDTH], weights.map((v) => v / 4)), floats("scale", [1], [scale])],
  }); // biome-ignore format: one idea
}

const rowsOf = (seed: number, rows: number): TensorData => ({
  dtype: "f32",
  shape: [rows, WIDTH],
  data: Float32Array.from(randomNumbers(seed, rows * WIDTH)),
});

/** In float64. */
function expected(x: TensorData, depth: number, scale: number): Float64Array {
  let v = Float64Array.from(x.data as Float32Array); // made by rowsOf
  for (let layer = 0; layer < depth; layer++)
    v = v.map((_, at) => {
      const [row, column] = [Math.floor(at / WIDTH), at % WIDTH];
      let sum = 0;
      for (let k = 0; k < WIDTH; k++) sum += v[row * WIDTH + k] * Math.fround(weights[k * WIDTH + column] / 4);
      return sum;
    });
  return v.map((y) => y * Math.fround(scale));
}

function expectRight({ y }: Record<string, TensorData>, x: TensorData, depth: number, scale: number): void {
  const want = expected(x, depth, scale);
  const largest = want.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  expect(y.shape).toEqual(x.shape);
  const worst = want.reduce((m, v, i) => Math.max(m, Math.abs(v - Number(y.data[i]))), 0);
  expect(worst / largest).toBeLessThan(1e-4);
}

const isa = (name: string) => /^avx\w+/.exec(name)?.[0] as "avx512" | "avx2" | undefined;
const options = DEVICES.map(({ name }): { name: string; options: LoadOptions } => ({
  name,
  options: { device: isa(name) ? "x86" : "wasm", isa: isa(name), threads: Number(name.at(-1)) },
}));
const MODES = options.flatMap((o) => [false, true].map((offThread) => ({ name: `${o.name}${offThread ? ", off thread" : ""}`, options: { ...o.options, offThread } }))); // biome-ignore format: one idea

describe.each(MODES)("$name", ({ options }) => {
  test("overlapping runs of one model, in several shapes", async () => {
    using loaded = await loadModel(network(3, 0.5), options);
    const inputs = Array.from({ length: 24 }, (_, i) => rowsOf(i + 1, 1 + (i % 4)));
    const outputs = await Promise.all(inputs.map((x) => loaded.run({ x })));
    for (const [i, output] of outputs.entries()) expectRight(output, inputs[i], 3, 0.5);
  });

  test("overlapping runs of several models", async () => {
    const specs = [1, 2, 3, 4].map((depth) => ({ depth, scale: depth / 3 }));
    const models = await Promise.all(specs.map(({ depth, scale }) => loadModel(network(depth, scale), options)));
    try {
      const calls = Array.from({ length: 32 }, (_, i) => ({ which: i % specs.length, x: rowsOf(100 + i, 2) }));
      const outputs = await Promise.all(calls.map(({ which, x }) => models[which].run({ x })));
      for (const [i, { which, x }] of calls.entries()) expectRight(outputs[i], x, specs[which].depth, specs[which].scale);
    } finally {
      for (const m of models) m.dispose();
    }
  });

  test("a bad call among good ones fails alone", async () => {
    using loaded = await loadModel(network(2, 1), options);
    const x = rowsOf(7, 2);
    const results = await Promise.allSettled([loaded.run({ x }), loaded.run({ z: x }), loaded.run({ x })]);
    expect(results.map((r) => r.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    for (const r of results) if (r.status === "fulfilled") expectRight(r.value, x, 2, 1);
  });

  test("dispose() lets runs that were called end, and refuses later ones", async () => {
    const loaded = await loadModel(network(3, 1), options);
    const other = await loadModel(network(2, 2), options);
    const inputs = Array.from({ length: 6 }, (_, i) => rowsOf(50 + i, 1 + (i % 2)));
    await loaded.run({ x: inputs[0] });
    const running = inputs.map((x) => loaded.run({ x }));
    loaded.dispose();
    loaded.dispose();
    const late = await loaded.run({ x: inputs[0] }).then(
      () => "ran",
      (e: unknown) => (e instanceof HeddleError ? `${e.code}: ${e.message}` : String(e)),
    );
    expect(late).toBe("bad-argument: model: used after dispose()");
    for (const [i, result] of (await Promise.allSettled(running)).entries()) {
      if (result.status === "fulfilled") expectRight(result.value, inputs[i], 3, 1);
      else expect(result.reason).toBeInstanceOf(HeddleError);
    }
    expectRight(await other.run({ x: inputs[1] }), inputs[1], 2, 2); // threads that both used are still there
    other.dispose();
  });

  test("dispose() while the first run compiles", async () => {
    const loaded = await loadModel(network(3, 1), options);
    const x = rowsOf(9, 3);
    const run = loaded.run({ x });
    await Promise.resolve();
    loaded.dispose();
    const [result] = await Promise.allSettled([run]);
    if (result.status === "fulfilled") expectRight(result.value, x, 3, 1);
    else expect(result.reason).toBeInstanceOf(HeddleError);
  });
});

describe("a process", () => {
  const folder = join(root, "build", `concurrency-${process.pid}`);
  beforeAll(async () => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "model.onnx"), network(3, 1));
    await bundle(folder, { index: "src/index.ts" });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** The last line that it wrote, and how it ended. */
  function child(body: string): { last: string | undefined; status: number | null; stderr: string } {
    const file = join(folder, "child.js");
    writeFileSync(file, `import { loadModel } from "./index.js";\nconst x = { dtype: "f32", shape: [2, ${WIDTH}], data: new Float32Array(${2 * WIDTH}).fill(0.5) };\n${body}\n`); // biome-ignore format: one idea
    const { stdout, stderr, status } = spawnSync(process.execPath, [file], { cwd: folder, encoding: "utf8", timeout: 40_000 });
    return { last: stdout.trim().split("\n").at(-1), status, stderr };
  }

  const ENDS = {
    "after dispose()": "await Promise.all([m.run({ x }), m.run({ x })]); m.dispose(); console.log('done');",
    "without dispose()": "await Promise.all([m.run({ x }), m.run({ x })]); console.log('done');",
    "disposed in the middle of runs": "const runs = [1, 2, 3].map(() => m.run({ x }).catch(() => {})); m.dispose(); Promise.all(runs).then(() => console.log('done'));", // biome-ignore format: a table
    "with runs that nobody waits for": "m.run({ x }).then(() => console.log('done'));",
  };
  const cases = options.filter((o) => o.options.threads === 2).flatMap((o) => [false, true].map((offThread) => ({ ...o.options, offThread }))); // biome-ignore format: one idea
  test.each(Object.entries(ENDS))("ends by itself %s", (_, body) => {
    for (const c of cases) {
      const ended = child(`const m = await loadModel("model.onnx", ${JSON.stringify({ ...c, cache: false })});\n${body}`);
      expect(ended, JSON.stringify(c)).toEqual({ last: "done", status: 0, stderr: "" });
    }
  });
});
