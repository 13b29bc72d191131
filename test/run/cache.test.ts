// Programs kept on disk: the same results, nothing used that is damaged or not ours, and no run that fails because of the cache.
import {
  appendFileSync, chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync,
  truncateSync, utimesSync, writeFileSync,
} from "node:fs"; // biome-ignore format: a list
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { machineFacts } from "../../src/devices/machine.ts";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { type LoadOptions, loadModel } from "../../src/model.ts";
import { CheckedFile, writeChecked } from "../../src/run/checked_file.ts";
import { floats, info, model, node } from "../formats/onnx_model.ts";
import { randomNumbers } from "./devices.ts";

const root = mkdtempSync(join(tmpdir(), "heddle-cache-"));
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

const channels = 20;
const weights = (name: string, dims: readonly number[], seed: number) =>
  floats(name, dims, [...randomNumbers(seed, dims.reduce((a, b) => a * b))]); // biome-ignore format: one idea
/** A convolution, a product and a softmax over pictures of any height: in, packed weights and temporaries. */
const network = model({
  name: "network",
  input: [info("x", [1, 3, "height", 8])],
  output: [info("y", [1, 8, 8]), info("same", [1, channels, "height", 8])],
  initializer: [weights("w", [channels, 3, 3, 3], 1), weights("b", [channels], 2), weights("m", [channels, 8], 3)],
  node: [
    node("Conv", ["x", "w", "b"], ["c"], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
    node("Relu", ["c"], ["same"]),
    node("ReduceMean", ["same"], ["r"], { axes: [2], keepdims: 0 }),
    node("Transpose", ["r"], ["t"], { perm: [0, 2, 1] }),
    node("MatMul", ["t", "m"], ["s"]),
    node("Softmax", ["s"], ["y"]),
  ],
});
const pictures = (height: number): Record<string, TensorData> => ({
  x: fromNumbers("f32", [1, 3, height, 8], randomNumbers(9, 3 * height * 8)),
});

/** Loads, runs and ends as a process does; resolves when what was to be kept is written. */
async function runOnce(
  options: LoadOptions = {},
  inputs = pictures(6),
  source: string | Uint8Array = network,
): Promise<Record<string, TensorData>> {
  const loaded = await loadModel(source, { cache: folder, threads: 1, ...options });
  try {
    return await loaded.run(inputs);
  } finally {
    loaded.dispose();
    await written(loaded);
  }
}
/** dispose() ends when everything is written, in the background. */
const written = (loaded: object): Promise<unknown> => (loaded as { queue: Promise<unknown> }).queue;

const files = (): string[] => readdirSync(folder).map((name) => join(folder, name));
/** The file of the program, which is the largest. */
const programFile = (): string => files().sort((a, b) => statSync(b).size - statSync(a).size)[0];

const isX86 = machineFacts().isa !== null && machineFacts().platform === "linux";
const devices = [...(isX86 ? ([["x86", 1], ["x86", 2]] as const) : []), ["wasm", 1] as const, ["wasm", 2] as const]; // biome-ignore format: a table

describe("results", () => {
  test.each(devices)("are the same bits from the cache: %s, %i threads", async (device, threads) => {
    const fresh = await runOnce({ cache: false, device, threads });
    const first = await runOnce({ device, threads });
    expect([count("loaded"), count("written")]).toEqual([0, 2]);
    const second = await runOnce({ device, threads });
    expect([count("loaded"), count("written")]).toEqual([1, 2]);
    expect(first).toEqual(fresh);
    expect(second).toEqual(fresh);
  });

  test("each set of shapes, device and number of threads has a program of its own", async () => {
    await runOnce({ device: "wasm" });
    await runOnce({ device: "wasm" }, pictures(7));
    await runOnce({ device: "wasm", threads: 2 });
    expect(count("loaded")).toBe(0);
    expect((await runOnce({ device: "wasm" }, pictures(7))).same.shape).toEqual([1, channels, 7, 8]);
    expect(count("loaded")).toBe(1);
  });

  test("a program from the cache shows its steps and is timed like any other", async () => {
    await runOnce();
    using loaded = await loadModel(network, { cache: folder, threads: 1, shapes: { x: [1, 3, 6, 8] } });
    expect(count("loaded")).toBe(1);
    const program = await loaded.program({ x: [1, 3, 6, 8] });
    const times = program.profile(pictures(6));
    expect(times).toHaveLength(program.schedule.steps.length);
    expect(program.kernels().length).toBeGreaterThan(2);
    expect((await loaded.graph({ x: [1, 3, 6, 8] })).outputs).toHaveLength(2);
  });

  test("a model is compiled for new shapes after it came from the cache", async () => {
    const file = join(root, "network.onnx");
    writeFileSync(file, network);
    await runOnce({}, pictures(6), file);
    const loaded = await loadModel(file, { cache: folder, threads: 1 });
    await loaded.run(pictures(6));
    expect((await loaded.run(pictures(9))).same.shape).toEqual([1, channels, 9, 8]);
    writeFileSync(file, model({ name: "other", input: [], output: [], node: [] }));
    await expect(loaded.run(pictures(10))).rejects.toMatchObject({
      code: "bad-model",
      message: `model ${file}: the file has changed since it was loaded`,
    });
    rmSync(file);
    await expect(loaded.run(pictures(10))).rejects.toMatchObject({ code: "missing" });
    await loaded.run(pictures(9)); // what is compiled goes on
    loaded.dispose();
    await written(loaded);
  });
});

describe("errors are those of a model that is not in the cache", () => {
  test("inputs and shapes", async () => {
    await runOnce();
    const loaded = await loadModel(network, { cache: folder, threads: 1 });
    expect(loaded.inputs).toEqual([{ name: "x", dtype: "f32", shape: [1, 3, "height", 8] }]);
    expect(loaded.outputs.map((o) => o.name)).toEqual(["y", "same"]);
    await expect(loaded.run({})).rejects.toThrow("input x is missing, wanted f32[1,3,height,8]");
    await expect(loaded.prepare({ x: [1, 3, 6, 9] })).rejects.toMatchObject({ code: "bad-argument" });
    await expect(loaded.prepare({ x: [1, 3, 6, 8], z: [1] })).rejects.toMatchObject({ code: "bad-argument" });
    await expect(loaded.prepare({})).rejects.toMatchObject({ code: "bad-argument" });
    loaded.dispose();
  });

  test("files", async () => {
    await expect(loadModel(join(root, "none.onnx"), { cache: folder })).rejects.toThrow("there is no such file");
    await expect(loadModel(root, { cache: folder })).rejects.toThrow("it is a folder");
    for (const cache of [folder, false] as const)
      await expect(loadModel(Uint8Array.of(1, 2, 3), { cache })).rejects.toMatchObject({ code: "bad-model" });
    expect(files()).toEqual([]);
  });
});

describe("files that are not used, and written again", () => {
  const damage: [string, string, (file: string) => void][] = [
    ["cut short", "cut short", (file) => truncateSync(file, statSync(file).size - 1)],
    ["empty", "cut short", (file) => truncateSync(file, 0)],
    ["longer", "cut short", (file) => appendFileSync(file, "more")],
    ["another format", "no cache file of this format", (file) => writeFileSync(file, Buffer.from(readFileSync(file)).fill("x", 0, 14))],
    ["writable by others", "others may write to it", (file) => chmodSync(file, 0o606)],
    ["a link", "cannot be opened", (file) => {
      copyFileSync(file, join(root, "elsewhere"));
      rmSync(file);
      symlinkSync(join(root, "elsewhere"), file);
    }],
  ]; // biome-ignore format: a table
  if (process.getuid?.() === 0) damage.push(["of another user", "belongs to another user", (file) => chownSync(file, 12345, 12345)]);

  test.each(damage)("%s", async (_, why, change) => {
    const want = await runOnce();
    change(programFile());
    expect(await runOnce()).toEqual(want);
    expect([count("loaded"), count(why)]).toEqual([0, 1]);
    expect(await runOnce()).toEqual(want);
    expect(count("loaded")).toBe(1);
  });

  test("one bit that is wrong, anywhere", async () => {
    await runOnce();
    const good = readFileSync(programFile());
    const file = programFile();
    const places = [20, 50, 70, 200, ...randomNumbers(5, 12).map((x) => Math.floor(((x + 1) / 2) * good.length))];
    for (const at of places) {
      const bad = Buffer.from(good);
      bad[at] ^= 16;
      writeFileSync(file, bad);
      const before = count("is not used");
      const loaded = await loadModel(network, { cache: folder, threads: 1, shapes: { x: [1, 3, 6, 8] } });
      loaded.dispose();
      await written(loaded);
      expect(count("is not used"), `byte ${at}`).toBe(before + 1);
    }
    expect(count("loaded")).toBe(0);
  });

  test("what another heddle wrote", async () => {
    await runOnce();
    vi.resetModules();
    vi.doMock("../../src/run/build_id.ts", () => ({ buildId: () => "another" }));
    const other = await import("../../src/model.ts");
    const loaded = await other.loadModel(network, { cache: folder, threads: 1 });
    await loaded.run(pictures(6));
    loaded.dispose();
    await written(loaded);
    vi.doUnmock("../../src/run/build_id.ts");
    expect([count("loaded"), count("written"), files().length]).toEqual([0, 4, 4]);
  });
});

describe("nothing is kept", () => {
  test.each<[string, LoadOptions, Record<string, string>]>([
    ["cache: false", { cache: false }, {}],
    ["HEDDLE_CACHE=off", { cache: undefined }, { HEDDLE_CACHE: "off" }],
    ["guard pages", { guardPages: true }, {}],
    ["someone watches the passes", { onPass: () => {} }, {}],
    ["the reference device", { device: "reference" }, {}],
  ])("%s", async (_, options, env) => {
    vi.stubEnv("XDG_CACHE_HOME", folder);
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
    await runOnce(options);
    expect(files()).toEqual([]);
  });

  test("steps in JavaScript", async () => {
    const topk = model({
      name: "topk",
      input: [info("x", [4])],
      output: [info("y", [2]), info("i", [2], 7)],
      initializer: [{ name: "k", dataType: 7, dims: [1n], int64Data: [2n] }],
      node: [node("TopK", ["x", "k"], ["y", "i"])],
    });
    const result = await runOnce({}, { x: fromNumbers("f32", [4], [3, 1, 4, 2]) }, topk);
    expect([...result.y.data]).toEqual([4, 3]);
    expect(files()).toEqual([]);
  });

  test("weights beside the model's file", async () => {
    const external = { name: "w", dataType: 1, dims: [2n], dataLocation: 1, externalData: [{ key: "location", value: "w.bin" }] };
    const bytes = model({
      name: "g",
      input: [info("x", [2])],
      output: [info("y", [2])],
      initializer: [external],
      node: [node("Add", ["x", "w"], ["y"])],
    });
    const one = fromNumbers("f32", [2], [1, 1]);
    for (const value of [5, 7]) {
      writeFileSync(join(root, "w.bin"), new Uint8Array(Float32Array.of(value, value).buffer));
      expect([...(await runOnce({ directory: root }, { x: one }, bytes)).y.data]).toEqual([value + 1, value + 1]);
    }
    expect(files()).toEqual([]);
  });

  test("where there can be no folder, or a folder that others may write to", async () => {
    const file = join(root, "a-file");
    writeFileSync(file, "");
    await runOnce({ cache: join(file, "cache") });
    chmodSync(folder, 0o777);
    await runOnce();
    expect([count("not used: "), count("others may write to it"), files().length]).toEqual([2, 1, 0]);
  });

  test("where the folder goes away", async () => {
    const loaded = await loadModel(network, { cache: folder, threads: 1 });
    rmSync(folder, { recursive: true });
    await loaded.run(pictures(6));
    loaded.dispose();
    await written(loaded);
    expect(count("cannot be written")).toBe(2);
    mkdirSync(folder);
  });
});

describe("the folder", () => {
  test("is made in the system's place, for its owner alone", async () => {
    vi.stubEnv("XDG_CACHE_HOME", join(folder, "deeper"));
    vi.stubEnv("HEDDLE_CACHE", "");
    if (process.platform !== "linux") return;
    await runOnce({ cache: undefined });
    expect(statSync(join(folder, "deeper/heddle")).mode & 0o777).toBe(0o700);
    for (const name of readdirSync(join(folder, "deeper/heddle")))
      expect(statSync(join(folder, "deeper/heddle", name)).mode & 0o777).toBe(0o600);
  });

  test("several writers leave one whole file", async () => {
    const models = await Promise.all([1, 2, 3, 4].map(() => loadModel(network, { cache: folder, threads: 1 })));
    await Promise.all(models.map((m) => m.run(pictures(6))));
    for (const m of models) m.dispose();
    await Promise.all(models.map(written));
    expect(files()).toHaveLength(2);
    await runOnce();
    expect(count("loaded")).toBe(1);
  });

  test("readers see a whole file while it is replaced", async () => {
    const file = join(folder, "one");
    const part = (i: number) => new Uint8Array(1 << 20).fill(i);
    await writeChecked(file, 0, [part(0)]);
    const writing = Promise.all([1, 2, 3].map((i) => writeChecked(file, i, [part(i)])));
    let isDone = false;
    writing.finally(() => {
      isDone = true;
    });
    while (!isDone) {
      const opened = CheckedFile.open(file);
      const into = new Uint8Array(1 << 20);
      opened?.read(into);
      expect(into.every((b) => b === opened?.data)).toBe(true);
      opened?.close();
      await new Promise(setImmediate);
    }
    expect(readdirSync(folder)).toEqual(["one"]);
  });

  test("stays below its bound: what was used longest ago goes first", async () => {
    const { openCache } = await import("../../src/run/cache.ts");
    const cache = openCache({ cache: folder }, 100_000)!; // the folder is there
    const big = "x".repeat(30_000);
    const stale = join(folder, "left.tmp");
    writeFileSync(stale, "");
    utimesSync(stale, new Date(0), new Date(0));
    for (const key of ["a", "b", "c"]) {
      await cache.writeFacts(key, big);
      const newest = files().find((f) => statSync(f).mtimeMs > Date.now() - 1000 && f.endsWith(".heddle"))!;
      const age = new Date(Date.now() - { a: 3e6, b: 2e6, c: 1e6 }[key as "a" | "b" | "c"]);
      utimesSync(newest, age, age);
    }
    await cache.writeFacts("d", big);
    const kept = await Promise.all(["a", "b", "c", "d"].map(async (key) => (await cache.readFacts(key)) !== null));
    expect(kept).toEqual([false, true, true, true]);
    expect(existsSync(stale)).toBe(false);
  });
});
