// heddle train as people start it: the script's options in its help, JSON, Ctrl-C, and a run that is killed and goes on to the same bits.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import { bundle, root } from "../bundle.ts";
import { testFolder } from "./sample_models.ts";

const folder = testFolder("train");
const command = join(folder, "cli.js");
const script = join(folder, "spiral.ts");

/** As a user writes it, beside nothing but heddle. */
const SCRIPT = `import { data, defineTraining, nn, optim } from "heddle/train";

const COUNT: number = 640;

export default defineTraining({
  name: "corners",
  epochs: 4,
  batch: 16,
  options: { learningRate: { default: 0.01, help: "How fast it learns" } },
  setup({ options, random }) {
    const model = new nn.Sequential(
      new nn.Linear(4, 32, { key: random }),
      new nn.ReLU(),
      new nn.Dropout(0.1, random),
      new nn.Linear(32, 2, { key: random }),
    );
    const x = Float32Array.from({ length: COUNT * 4 }, (_, i) => Math.sin(i * 12.9898) * 2);
    const y = Int32Array.from({ length: COUNT }, (_, i) => Number(x[4 * i] * x[4 * i + 1] > 0));
    const examples = new data.TensorDataset({ x: { dtype: "f32", shape: [COUNT, 4], data: x }, y: { dtype: "i32", shape: [COUNT], data: y } });
    return {
      model,
      data: examples,
      workers: 1,
      loss: (batch) => nn.crossEntropy(model.forward(batch.x), batch.y),
      optimizer: ({ parameters }) => new optim.Adam(parameters, { learningRate: options.learningRate }),
      evaluate: { data: examples, measure: ({ x, y }) => ({ accuracy: model.forward(x).argmax(1).eq(y).cast("f32").mean() }) },
    };
  },
});
`;

beforeAll(async () => {
  writeFileSync(script, SCRIPT);
  await bundle(folder, { cli: "src/cli/main.ts", train: "src/train/index.ts", data_worker: "src/data/worker.ts" });
});

const environment = { ...process.env, HEDDLE_CACHE: join(folder, "cache") }; // not the user's

function heddle(...args: string[]): { status: number | null; out: string; err: string } {
  const given = [command, "train", ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, given, {
    encoding: "utf8",
    timeout: 60_000,
    cwd: folder,
    env: environment,
  });
  return { status, out: stdout, err: stderr };
}

function json(...args: string[]): Record<string, unknown> {
  const { status, out, err } = heddle(...args, "--threads", "1", "--json");
  expect(status, err).toBe(0);
  return JSON.parse(out) as Record<string, unknown>; // an object, as the command promises
}

const newOut = (name: string): string => {
  const out = join(folder, name);
  rmSync(out, { recursive: true, force: true });
  return out;
};

/** A run that takes far longer than the test. */
function startLong(out: string): ChildProcess {
  const args = [command, "train", script, "--threads", "1", "--epochs", "5000", "--save-every", "7", "--out", out];
  return spawn(process.execPath, args, { cwd: folder, env: environment, stdio: ["ignore", "ignore", "pipe"] });
}

async function appears(file: string): Promise<void> {
  for (let i = 0; i < 600 && !existsSync(file); i++) await sleep(50);
  expect(existsSync(file)).toBe(true);
  await sleep(100);
}

const exitOf = (child: ChildProcess) => new Promise<string>((resolve) => child.on("exit", (code, signal) => resolve(`${code ?? signal}`)));

describe("a run", () => {
  test("prints what it planned and reached, and writes what it was asked to", () => {
    const files = ["run.jsonl", "run.csv", "curve.html"].map((name) => join(folder, name));
    const [log, csv, html] = files;
    const out = newOut("whole");
    const { status, out: text, err } = heddle(script, "--threads", "1", "--out", out, "--log", log, "--csv", csv, "--html", html);
    expect(status, err).toBe(0);
    expect(err).toMatch(/^226 parameters, 4 epochs, 160 steps$/m);
    expect(err).toMatch(/^memory: [\d.]+ MB planned \([\d.]+ MB for a step, [\d.]+ MB for weights and optimizer\)$/m);
    expect(err).toMatch(/^epoch 4 {2}loss [\d.]+ {2}accuracy [\d.]+ /m);
    expect(text).toMatch(/┤[⠀-⣿]+\n/);
    expect(text).toMatch(/^digest +sha256 [0-9a-f]{64}$/m);
    expect(text).toContain(`weights in ${join(out, "model.safetensors")}`);
    expect(readFileSync(log, "utf8").split("\n")[0]).toContain('"kind":"begin"');
    expect(readFileSync(csv, "utf8")).toContain(",accuracy,");
    expect(readFileSync(html, "utf8")).toContain("<svg");
  });
  test("--precision is that of the step, and refused where the device has none", () => {
    const args = (precision: string) => [script, "--epochs", "1", "--out", newOut("precision"), "--precision", precision];
    const [f32, bf16, f16] = ["f32", "bf16", "f16"].map((precision) => json(...args(precision)));
    expect([f32, bf16, f16].map(({ precision, skipped }) => [precision, skipped])).toEqual([["f32", 0], ["bf16", 0], ["f16", 0]]); // biome-ignore format: short
    expect(new Set([f32, bf16, f16].map(({ digest }) => digest)).size).toBe(3);
    const refused = heddle(...args("tf32"), "--device", "wasm");
    expect(refused.status).not.toBe(0);
    expect(refused.err).toContain("precision tf32: device wasm does not multiply it, only cuda does");
    expect(heddle(...args("f8")).err).toContain("--precision: got f8, wanted f32, tf32, bf16, f16");
  });
  test("--json; a seed gives the same weights twice, another seed others", () => {
    const [first, again, other] = [1, 1, 2].map((seed) => json(script, "--seed", `${seed}`, "--epochs", "1", "--out", newOut("seeds")));
    expect(first).toMatchObject({
      name: "corners",
      epochs: 1,
      batch: 16,
      seed: 1,
      options: { learningRate: 0.01 },
      step: 40,
      isComplete: true,
      arenaBytes: expect.any(Number),
      stateBytes: expect.any(Number),
      metrics: { accuracy: expect.any(Number) },
    });
    expect(again.digest).toBe(first.digest);
    expect(other.digest).not.toBe(first.digest);
  });
});

describe("a run that ends early", () => {
  test("killed: goes on from its last checkpoint to the same bits", { timeout: 120_000 }, async () => {
    const out = newOut("killed");
    const child = startLong(out);
    const end = exitOf(child);
    await appears(join(out, "checkpoint.safetensors"));
    child.kill("SIGKILL");
    expect(await end).toBe("SIGKILL");
    const upTo = ["--steps", "3000", "--epochs", "5000"];
    const resumed = json(script, "--resume", ...upTo, "--out", out);
    const whole = json(script, ...upTo, "--out", newOut("unkilled"));
    expect(resumed).toMatchObject({ step: 3000, digest: whole.digest });
  });
  test("Ctrl-C saves, and says how to go on", { timeout: 120_000 }, async () => {
    const out = newOut("interrupted");
    const child = startLong(out);
    const end = exitOf(child);
    await appears(join(out, "checkpoint.safetensors"));
    child.kill("SIGINT");
    expect(await end).toBe("130");
    const { out: text } = heddle(script, "--resume", "--out", out, "--steps", "1", "--threads", "1");
    expect(text).toMatch(/stopped after step \d+; saved in .*; go on with: heddle train .*spiral\.ts --resume --out /);
  });
});

/** Pictures and labels as the four IDX files of Fashion-MNIST. */
function writePictures(to: string): void {
  mkdirSync(to, { recursive: true });
  for (const part of ["train", "t10k"]) {
    const header = (kind: number, ...sizes: number[]) => Buffer.from([0, 0, 8, kind, ...sizes.flatMap((n) => [0, 0, 0, n])]);
    const pixels = Uint8Array.from({ length: 32 * 784 }, (_, i) => (i * i) % 251);
    const labels = Uint8Array.from({ length: 32 }, (_, i) => i % 10);
    writeFileSync(join(to, `${part}-images-idx3-ubyte.gz`), gzipSync(Buffer.concat([header(3, 32, 28, 28), pixels])));
    writeFileSync(join(to, `${part}-labels-idx1-ubyte.gz`), gzipSync(Buffer.concat([header(1, 32), labels])));
  }
}

describe("examples/fashion-mnist", () => {
  const example = join(root, "examples/fashion-mnist/train.ts");
  test("the same weights twice", () => {
    const pictures = newOut("pictures");
    writePictures(pictures);
    const args = [example, "--folder", pictures, "--batch", "16", "--epochs", "1", "--out", newOut("fashion")];
    const [first, again] = [json(...args), json(...args)];
    expect(first).toMatchObject({ name: "fashion-mnist", step: 2, metrics: { accuracy: expect.any(Number) } });
    expect(again.digest).toBe(first.digest);
  });
  test("says what to install where the pictures are not there", () => {
    const { status, err } = heddle(example, "--folder", join(folder, "nowhere"));
    expect(err).toMatch(/^heddle: .*nowhere.* apt-get install dataset-fashion-mnist/);
    expect(status).toBe(1);
  });
});

describe("scripts", () => {
  test("--help shows the script's options", () => {
    const { status, out } = heddle(script, "--help");
    expect(status).toBe(0);
    expect(out).toMatch(/--learning-rate <number> +How fast it learns \(default 0\.01\)/);
    expect(out).toContain("--resume");
  });
  test("options of the script are read, others refused", () => {
    const report = json(script, "--learning-rate", "0.5", "--steps", "1", "--out", newOut("options"));
    expect(report).toMatchObject({ options: { learningRate: 0.5 } });
    expect(heddle(script, "--learning-rate", "fast")).toMatchObject({
      status: 2,
      err: expect.stringContaining("--learning-rate: got fast"),
    });
    expect(heddle(script, "--speed", "1")).toMatchObject({ status: 2, err: expect.stringContaining("speed") });
  });
  test.each([
    ["absent.ts", null, /absent\.ts: there is no such file/],
    ["broken.ts", "export default {", /broken\.ts: does not load: .*Expected/],
    ["other.mjs", "export default { epochs: 3 };", /other\.mjs: its default export is no training/],
    ["throws.mjs", "throw new Error('on purpose');", /throws\.mjs: does not load: on purpose/],
  ])("%s is refused in one line", (name, text, message) => {
    const file = join(folder, name);
    rmSync(file, { force: true });
    if (text !== null) writeFileSync(file, text);
    const { status, err } = heddle(file);
    expect(err).toMatch(message);
    expect(err.trim().split("\n")).toHaveLength(1);
    expect(status).toBeGreaterThan(0);
  });
  test("a folder is refused in one line", () => {
    expect(heddle(folder)).toMatchObject({ status: 1, err: `heddle: ${folder}: it is a folder\n` });
  });
  test("JavaScript needs no compiler", () => {
    const file = join(folder, "plain.mjs");
    writeFileSync(file, SCRIPT.replace("COUNT: number", "COUNT").replace('"heddle/train"', '"./train.js"'));
    expect(json(file, "--steps", "2", "--out", newOut("plain"))).toMatchObject({ step: 2, name: "corners" });
  });
});
