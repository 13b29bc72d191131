// The commands on WebGPU, and what they say where there is no GPU.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { bundle } from "../bundle.ts";
import { hasWebGpu } from "../run/gpu_devices.ts";
import { testFolder, writeClassifier } from "./sample_models.ts";

const folder = testFolder("gpu");
const command = join(folder, "cli.js");
const model = writeClassifier(folder);

beforeAll(async () => {
  await bundle(folder, { cli: "src/cli/main.ts" });
});

function heddle(args: readonly string[], env: Readonly<Record<string, string>> = {}): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [command, ...args], {
    encoding: "utf8",
    timeout: 60_000,
    cwd: folder,
    env: { ...process.env, HEDDLE_CACHE: "off", ...env },
  });
  return { status, out: stdout, err: stderr };
}

function json(...args: string[]): Record<string, unknown> {
  const { status, out, err } = heddle([...args, "--device", "webgpu", "--json"]);
  expect(status, err).toBe(0);
  return JSON.parse(out) as Record<string, unknown>; // objects, by what every command promises
}

describe.skipIf(!hasWebGpu)("on WebGPU", () => {
  test("run and verify", () => {
    expect(json("run", model, "--random")).toMatchObject({ device: expect.stringMatching(/^webgpu ./), outputs: [{ name: "y" }] });
    expect(json("verify", model, "--against", "reference", "--nodes")).toMatchObject({ ok: true, firstDivergingNode: null });
  });

  test("bench and profile", () => {
    const bench = json("bench", model, "--against", "wasm", "--seconds", "0.05", "--no-cold");
    expect(bench).toMatchObject({ device: expect.stringMatching(/^webgpu/), rivals: { wasm: { agrees: true } } });
    const profile = json("profile", model, "--runs", "1") as { totalMs: number; peaks: { fmaGflopsAllCores: number; copyGBs: number } };
    expect(profile.totalMs).toBeGreaterThan(0);
    expect(Math.min(profile.peaks.fmaGflopsAllCores, profile.peaks.copyGBs)).toBeGreaterThan(0);
  });

  test("inspect shows kernels as WGSL, and CUDA's only where that is the device", () => {
    const { status, out } = heddle(["inspect", model, "--stage", "wgsl", "--node", "conv"]);
    expect(status).toBe(0);
    expect(out).toMatch(/@compute @workgroup_size/);
    const refused = heddle(["inspect", model, "--stage", "ptx", "--device", "webgpu"]);
    expect(refused).toMatchObject({ status: 2, err: expect.stringMatching(/^heddle: --stage ptx: device webgpu has no such kernels/) });
  });

  test("doctor names the adapter", () => {
    const { out } = heddle(["doctor", "--no-peaks", "--json"]);
    expect(JSON.parse(out)).toMatchObject({ webgpu: { adapter: expect.stringMatching(/./), fault: null } });
  });
});

describe("where there is none", () => {
  test.skipIf(!hasWebGpu)("no adapter is one line that says what to do", () => {
    const { status, err } = heddle(["run", model, "--random", "--device", "webgpu"], { VK_DRIVER_FILES: "/nowhere.json" });
    expect(status).toBe(1);
    expect(err.trim().split("\n").at(-1)).toMatch(/^heddle: device webgpu: no GPU is found: .*libvulkan1.*VK_DRIVER_FILES=/);
  });

  test.skipIf(existsSync("/dev/nvidiactl"))("no NVIDIA driver, or no such device", () => {
    const cuda = heddle(["run", model, "--random", "--device", "cuda:0"]);
    expect(cuda).toMatchObject({ status: 1, err: expect.stringMatching(/^heddle: device cuda: no NVIDIA driver/) });
    const gpu = heddle(["run", model, "--random", "--device", "gpu"]);
    expect(gpu).toMatchObject({ status: 2, err: expect.stringMatching(/^heddle: --device: got gpu, wanted cpu, .*webgpu, cuda/) });
  });

  test("instruction sets are a CPU's", () => {
    const { status, err } = heddle(["run", model, "--random", "--device", "webgpu", "--isa", "avx2"]);
    expect([status, err]).toEqual([2, expect.stringMatching(/--isa: device webgpu has no instruction sets/)]);
  });
});
