// Runs of a small training: it learns, repeats itself bit by bit, goes on from checkpoints as if it had not stopped, and refuses what makes no sense.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { loadCheckpoint } from "../../src/formats/checkpoint.ts";
import { loadSafetensors } from "../../src/formats/safetensors.ts";
import { defineTraining, type RunEvent, setDevice } from "../../src/train/index.ts";
import { checkpointPath, weightsPath } from "../../src/train/run.ts";
import { tiny } from "./tiny.ts";

const folder = mkdtempSync(join(tmpdir(), "heddle-train-test-"));
afterAll(() => rmSync(folder, { recursive: true }));
setDevice({ threads: 1 }); // steps of a network this small take less time than waking a thread
let folders = 0;
const newOut = (): string => join(folder, `${folders++}`);

test("learns, and says how it goes", async () => {
  const events: RunEvent[] = [];
  const result = await tiny.run({ epochs: 6, report: (event) => events.push(event) });
  const kinds = (kind: RunEvent["kind"]) => events.filter((event) => event.kind === kind);
  expect(events[0]).toEqual({ kind: "begin", step: 0, steps: 120, epochs: 6, parameters: 8 * 16 + 16 + 32 + 16 * 3 + 3 });
  expect(kinds("step")).toHaveLength(120);
  expect(kinds("loss")).toHaveLength(120); // an epoch has as many steps as points
  expect(kinds("epoch")).toHaveLength(6);
  expect(kinds("save")).toHaveLength(0);
  expect(events.at(-1)).toMatchObject({ kind: "epoch", epoch: 6, step: 120 });
  const { losses, epochs } = result.history;
  expect(losses.at(-1)!.loss).toBeLessThan(losses[0].loss / 2);
  expect(epochs.at(-1)!.metrics.accuracy).toBeGreaterThan(0.8);
  expect(result).toMatchObject({ step: 120, isComplete: true, identity: { epochs: 6, batch: 16, seed: 0 } });
});

test("memory is planned: the step's tensors, and all that lasts", async () => {
  const events: RunEvent[] = [];
  const { arenaBytes, stateBytes } = await tiny.run({ steps: 2, report: (event) => events.push(event) });
  const learned = 8 * 16 + 16 + 32 + 16 * 3 + 3;
  const statistics = 2 * 16 * 4 + 8; // means and variances, and an i64
  const averaged = 2 * 16 * 4 + 4; // of means and variances, and a count
  expect(stateBytes).toBe(4 * 4 * learned + statistics + averaged + 8); // weights, two moments, averages; steps and rate
  expect(arenaBytes).toBeGreaterThan(0);
  expect(events.find((event) => event.kind === "memory")).toEqual({ kind: "memory", arenaBytes, stateBytes });
});

test("a seed gives the same weights twice, another seed others", async () => {
  const digests = [];
  for (const seed of [5, 5, 6]) digests.push((await tiny.run({ seed, epochs: 1 })).digest);
  expect(digests[0]).toBe(digests[1]);
  expect(digests[0]).not.toBe(digests[2]);
});

test.each([{ workers: 0 }, { workers: 1 }])("a run that was stopped goes on to the same bits: %j", async ({ workers }) => {
  const out = newOut();
  const whole = await tiny.run({ out: newOut(), workers });
  const stopped = await tiny.run({ out, workers, steps: 33 }); // amid an epoch of 20
  expect(stopped).toMatchObject({ step: 33, isComplete: false });
  expect(existsSync(weightsPath(out))).toBe(false);
  const resumed = await tiny.run({ out, workers, resume: true });
  expect(resumed.digest).toBe(whole.digest);
  expect(resumed.history.epochs).toEqual(whole.history.epochs);
  expect(resumed.history.losses).toEqual(whole.history.losses);
  expect(resumed.isComplete).toBe(true);
});

test("a signal ends it after the step, with a checkpoint; saveEvery saves between epochs", async () => {
  const out = newOut();
  const controller = new AbortController();
  const saves: number[] = [];
  const result = await tiny.run({
    out,
    saveEvery: 4,
    signal: controller.signal,
    report(event) {
      if (event.kind === "save") saves.push(event.step);
      if (event.kind === "step" && event.step === 26) controller.abort();
    },
  });
  expect(result).toMatchObject({ step: 26, isComplete: false });
  expect(saves).toEqual([4, 8, 12, 16, 20, 24, 26]);
  expect((await loadCheckpoint(checkpointPath(out))).step).toBe(26);
});

test("files have PyTorch's keys; the weights at the end are the averages", async () => {
  const out = newOut();
  const { model } = await tiny.run({ out, epochs: 1 });
  const { model: weights, optimizer, ema, step } = await loadCheckpoint(checkpointPath(out));
  const { tensors } = await loadSafetensors(weightsPath(out));
  const keys = ["hidden.bias", "hidden.weight", "norm.bias", "norm.num_batches_tracked", "norm.running_mean", "norm.running_var"];
  expect(Object.keys(weights).sort()).toEqual([...keys, "norm.weight", "out.bias", "out.weight"]);
  expect(Object.keys(optimizer!)).toContain("state.0.exp_avg");
  expect(step).toBe(20);
  expect(tensors["hidden.weight"]).toEqual(ema!["hidden.weight"]);
  expect(tensors["hidden.weight"]).not.toEqual(weights["hidden.weight"]);
  expect(tensors["norm.running_mean"]).toEqual(ema!["norm.running_mean"]);
  expect(tensors["norm.running_mean"]).not.toEqual(weights["norm.running_mean"]);
  expect(tensors["norm.num_batches_tracked"]).toEqual(weights["norm.num_batches_tracked"]);
  expect((await model.stateDict())["hidden.weight"]).toEqual(weights["hidden.weight"]);
});

test("refuses what makes no sense, in one line", async () => {
  const out = newOut();
  await tiny.run({ out, steps: 1, options: { rate: 0.02 } });
  const refused = (settings: Parameters<typeof tiny.run>[0]) => expect(tiny.run(settings)).rejects;
  await refused({ out, resume: true, batch: 8 }).toThrow("batch is 8, but the run that is resumed has 16");
  await refused({ out, resume: true, options: { rate: 0.01 } }).toThrow("rate is 0.01, but the run that is resumed has 0.02");
  await refused({ out: newOut(), resume: true }).toThrow("cannot be opened");
  await refused({ resume: true }).toThrow("wants the folder");
  await refused({ options: { rat: 1 } }).toThrow("no option rat (it has rate, examples, explode, steep, note)");
  await refused({ options: { rate: "fast" } }).toThrow("rate is fast, wanted a number");
  await refused({ epochs: 0 }).toThrow("epochs is 0, wanted a whole number from 1 on");
  await refused({ options: { examples: 15 } }).toThrow("make no batch of 16");
  await refused({ options: { explode: true } }).toThrow("the loss is Infinity at step 1");
  const resumed = await tiny.run({ out, resume: true, steps: 2 });
  expect(resumed.identity.options.rate).toBe(0.02); // what is not given is as it was
});

test("options may not take the names that every run has", () => {
  const spec = { name: "x", epochs: 1, batch: 1, setup: () => Promise.reject(new Error("never called")) };
  expect(() => defineTraining({ ...spec, options: { epochs: { default: 1, help: "" } } })).toThrow("every run has an option epochs");
  expect(() => defineTraining({ ...spec, name: "a/b" })).toThrow("name a/b");
});

test("products in 16 bits: it learns as well, repeats itself, and a run that is resumed keeps the precision", async () => {
  const f32 = await tiny.run({ epochs: 4 });
  for (const precision of ["bf16", "f16"] as const) {
    const out = newOut();
    const whole = await tiny.run({ epochs: 4, precision });
    expect(whole.identity.precision).toBe(precision);
    expect(whole.digest).not.toBe(f32.digest);
    expect(whole.skipped).toBe(0);
    for (const [i, { loss }] of whole.history.losses.entries()) expect(Math.abs(loss - f32.history.losses[i].loss)).toBeLessThan(0.05);
    await tiny.run({ epochs: 4, precision, out, steps: 33 });
    await expect(tiny.run({ out, resume: true, precision: "f32" })).rejects.toThrow(/precision is f32, but the run that is resumed has/);
    expect((await tiny.run({ out, resume: true })).digest).toBe(whole.digest);
  }
});

test("steps whose gradients float16 cannot hold are left out, the loss is scaled less, and a checkpoint keeps the scale", async () => {
  const out = newOut();
  const options = { steep: 100 };
  const { skipped, history } = await tiny.run({ epochs: 4, precision: "f16", options, out });
  expect(skipped).toBeGreaterThan(0);
  expect(skipped).toBeLessThan(12);
  expect(history.losses.at(-1)!.loss).toBeLessThan(history.losses[0].loss / 2);
  const { scale } = await loadCheckpoint(checkpointPath(out));
  expect(scale!.loss_scale.data[0]).toBe(2 ** (16 - skipped));
  expect(scale!.skipped.data[0]).toBe(skipped);
  expect((await tiny.run({ epochs: 2, precision: "bf16", options })).skipped).toBe(0);
});

test("a precision that the device does not multiply is refused before anything is read", async () => {
  await expect(tiny.run({ precision: "tf32" })).rejects.toThrow(
    /precision tf32: device x86 does not multiply it|precision tf32: device wasm/,
  );
  await expect(tiny.run({ precision: "f8" as "f16" })).rejects.toThrow(/precision f8: there is none of that name/);
});
