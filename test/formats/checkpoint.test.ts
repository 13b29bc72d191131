// Checkpoints come back the same, hold weights under their own names, and survive a writer that is killed.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { loadCheckpoint, saveCheckpoint } from "../../src/formats/checkpoint.ts";
import { loadSafetensors, saveSafetensors } from "../../src/formats/safetensors.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";

const folder = mkdtempSync(join(tmpdir(), "heddle-checkpoint-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, "run.safetensors");

const model = { "fc.weight": fromNumbers("f32", [2, 1], [1, 2]), "fc.bias": fromNumbers("bf16", [2], [3, 4]) };
const optimizer = { "fc.weight.exp_avg": fromNumbers("f32", [2, 1], [5, 6]), step: fromNumbers("i64", [], [7]) };

describe("checkpoint", () => {
  test("comes back", async () => {
    const checkpoint = { model, optimizer, ema: model, loader: { epoch: 1, position: 3 }, step: 12, notes: { best: 0.5 } };
    await saveCheckpoint(path, checkpoint);
    expect(await loadCheckpoint(path)).toEqual(checkpoint);
    const { tensors, metadata } = await loadSafetensors(path);
    expect(tensors["fc.weight"]).toEqual(model["fc.weight"]); // where PyTorch looks for it
    expect(metadata.format).toBe("pt");
  });

  test("a model alone, and an optimizer without state", async () => {
    await saveCheckpoint(path, { model, step: 0 });
    expect(await loadCheckpoint(path)).toEqual({ model, step: 0, loader: null, notes: null });
    await saveCheckpoint(path, { model: {}, optimizer: {}, step: 0 });
    expect(await loadCheckpoint(path)).toEqual({ model: {}, optimizer: {}, step: 0, loader: null, notes: null });
  });

  test("refuses what it could not tell apart or did not write", async () => {
    await expect(saveCheckpoint(path, { model: { "ema.w": model["fc.bias"] }, step: 0 })).rejects.toThrow(
      "the weight ema.w is named as if",
    );
    await saveSafetensors(path, model);
    await expect(loadCheckpoint(path)).rejects.toThrow("is not a checkpoint of a training run");
    for (const state of [
      "{",
      "null",
      '{"version":2}',
      '{"version":1,"step":-1,"sections":[]}',
      '{"version":1,"step":1,"sections":["x"]}',
    ]) {
      await saveSafetensors(path, model, { "heddle.checkpoint": state });
      await expect(loadCheckpoint(path)).rejects.toThrow("its checkpoint state is not of version 1");
    }
  });

  test("a killed writer never leaves a broken file", async () => {
    const { build } = await import("esbuild");
    const program = join(folder, "writer.mjs");
    await build({
      stdin: {
        contents: `import { saveCheckpoint } from "./src/formats/checkpoint.ts";
          const data = (step) => ({ dtype: "f32", shape: [2 ** 20], data: new Float32Array(2 ** 20).fill(step) });
          for (let step = 0; ; step++) {
            await saveCheckpoint(process.argv[2], { model: { w: data(step) }, optimizer: { m: data(step) }, step });
            if (step === 1) process.stdout.write("started");
          }`,
        resolveDir: fileURLToPath(new URL("../..", import.meta.url)),
        loader: "ts",
      },
      bundle: true,
      format: "esm",
      platform: "node",
      target: "node20",
      outfile: program,
      logLevel: "silent",
    });
    for (const ms of [0, 3, 7, 11]) {
      const writer = spawn(process.execPath, [program, path], { stdio: ["ignore", "pipe", "inherit"] });
      await once(writer.stdout, "data");
      await new Promise((resolve) => setTimeout(resolve, ms));
      const ended = once(writer, "exit");
      writer.kill("SIGKILL");
      await ended;
      const { model, optimizer, step } = await loadCheckpoint(path);
      for (const { data } of [model.w, optimizer!.m]) expect(new Set(data as Float32Array)).toEqual(new Set([step]));
    }
    expect(readFileSync(path).length).toBeGreaterThan(2 ** 23);
  });
});
