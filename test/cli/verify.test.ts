// What counts as agreement, and that a wrong kernel is found and named.
import { describe, expect, test } from "vitest";
import { compareOutputs, compareTensors } from "../../src/cli/agreement.ts";
import { firstDivergence } from "../../src/cli/diverging_node.ts";
import { randomInputs } from "../../src/cli/random.ts";
import { evaluateInTurns } from "../../src/cli/reference.ts";
import type { CpuDevice } from "../../src/devices/cpu.ts";
import { openDevice } from "../../src/devices/open.ts";
import type { Kernel, Stmt } from "../../src/ir/kernel.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph } from "../../src/ops/index.ts";
import { classifierGraph } from "./sample_models.ts";

const vector = (...values: number[]) => fromNumbers("f32", [values.length], values);
const compare = (got: readonly number[], wanted: readonly number[]) => compareTensors("y", vector(...got), vector(...wanted));

describe("agreement", () => {
  test("equal tensors agree, zeros and infinities too", () => {
    expect(compare([1, -2, 0], [1, -2, 0])).toMatchObject({ ok: true, maxAbs: 0, maxRel: 0, cosine: 1 });
    expect(compare([0, 0], [0, 0])).toMatchObject({ ok: true, cosine: 1 });
    expect(compare([Number.POSITIVE_INFINITY, Number.NaN], [Number.POSITIVE_INFINITY, Number.NaN]).ok).toBe(true);
    expect(compare([], []).ok).toBe(true);
  });
  test("relative errors count above 1e-3 only", () => {
    expect(compare([1, 1e-4], [1, 2e-4])).toMatchObject({ ok: true, maxRel: 0 });
    expect(compare([1, 0.101], [1, 0.1])).toMatchObject({ ok: false, maxRel: expect.closeTo(0.01, 5) });
  });
  test("directions count where values are small", () => expect(compare([9e-4, 0], [0, 9e-4]).ok).toBe(true)); // all below what counts
  test("vectors that point elsewhere do not agree", () =>
    expect(compare([9e-4, 9e-4, 9e-4, 9e-4], [-9e-4, 9e-4, -9e-4, 9e-4]).ok).toBe(false));
  test("NaN, shapes, types and missing outputs have reasons", () => {
    expect(compare([Number.NaN], [1])).toMatchObject({ ok: false, maxAbs: null, reason: expect.stringContaining("NaN") });
    expect(compare([1, 2], [1])).toMatchObject({ ok: false, reason: "is [2], wanted [1]" });
    expect(compareTensors("y", fromNumbers("i32", [1], [1]), vector(1))).toMatchObject({ ok: false, reason: "is i32, wanted f32" });
    expect(compareOutputs({}, { y: vector(1) })).toMatchObject([{ name: "y", ok: false, reason: "missing" }]);
  });
});

const graph = classifierGraph();
const inputs = randomInputs([{ name: "x", dtype: "f32", shape: [1, 3, 12, 16] }], 1);

test("evaluating in turns gives what evaluating at once gives", async () => {
  expect(await evaluateInTurns(graph, inputs)).toEqual(evaluateGraph(graph, inputs));
});

/** A device whose multiply-adds subtract, in kernels of one name. */
function sabotaged(device: CpuDevice, isVictim: (kernel: Kernel) => boolean): CpuDevice {
  const broken = (body: readonly Stmt[]): Stmt[] =>
    body.map((s) => {
      if (s.k === "for" || s.k === "parallel") return { ...s, body: broken(s.body) };
      if (s.k === "if") return { ...s, body: broken(s.body), otherwise: broken(s.otherwise) };
      return s.k === "vec" && s.op === "fma" ? { ...s, op: "fnma" } : s;
    });
  const replaced = (kernels: readonly Kernel[]) => kernels.map((k) => (isVictim(k) ? { ...k, body: broken(k.body) } : k));
  const overrides: Pick<CpuDevice, "load" | "compile"> = {
    compile: (kernels) => device.compile(replaced(kernels)),
    load: (kernels, launches) => device.load("code" in kernels ? kernels : replaced(kernels), launches),
  };
  return Object.assign(Object.create(device), overrides) as CpuDevice; // everything else is the device's own
}

test.each(["x86", "wasm"] as const)("the node whose kernel is wrong is named: %s", async (name) => {
  const device = await openDevice({ device: name, threads: 1 });
  try {
    expect(await firstDivergence(graph, device, inputs, () => {})).toBeNull();
    const names: string[] = [];
    const first = await firstDivergence(
      graph,
      sabotaged(device, (k) => names.push(k.name) > 0),
      inputs,
      () => {},
    );
    expect(first).toMatchObject({ node: "conv", operator: expect.stringContaining("Conv"), maxScaled: expect.any(Number) });
    // Of all kernels, the linear layer's alone: the last but that of Softmax.
    const linear = await firstDivergence(
      graph,
      sabotaged(device, (k) => k.name === names.at(-2)),
      inputs,
      () => {},
    );
    expect(linear).toMatchObject({ node: "linear", kernels: [names.at(-2)] });
  } finally {
    device.close();
  }
});
