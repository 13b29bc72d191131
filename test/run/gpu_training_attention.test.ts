// Attention in training with masks and dropout on GPUs: results and gradients against the reference, and losses of a small network beside the CPU's.
import { afterAll, describe, expect, test } from "vitest";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { HeadAttention, HeadAttentionGrad } from "../../src/ops/head_attention.ts";
import { evaluateGraph } from "../../src/ops/index.ts";
import { input, inputName } from "../../src/ops/source.ts";
import { inPrecision } from "../../src/passes/mixed_precision.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { setDevice } from "../../src/tensor/index.ts";
import { randomNumbers, useDevice } from "./devices.ts";
import { GPU_DEVICES } from "./gpu_devices.ts";
import { learnText } from "./text_model.ts";

const PATIENCE_MS = 240_000;

interface Case {
  readonly name: string;
  readonly queries: number;
  readonly keys: number;
  readonly seen?: readonly number[];
  readonly bias?: readonly number[];
  readonly attrs: { readonly causal: number; readonly scale: number; readonly dropout: number };
}
const CASES: readonly Case[] = [
  { name: "a mask of keys", queries: 80, keys: 96, seen: [2, 1, 1, 96], attrs: { causal: 1, scale: 0.3, dropout: 0 } },
  { name: "what is added to scores", queries: 70, keys: 70, bias: [1, 2, 70, 70], attrs: { causal: 0, scale: 0.3, dropout: 0 } },
  { name: "dropout", queries: 96, keys: 96, attrs: { causal: 1, scale: 0.3, dropout: 0.2 } },
  { name: "all of it", queries: 33, keys: 37, seen: [2, 1, 33, 37], bias: [2, 2, 1, 1], attrs: { causal: 1, scale: 0.3, dropout: 0.4 } },
];

/** Heads of 32 columns; results, and gradients of the sum of results times dy. */
function graphOf({ queries, keys, seen, bias, attrs }: Case): { graph: Graph; data: Record<string, TensorData> } {
  const float = (name: string, places: number): Value => input(name, { dtype: "f32", shape: [2, places, 2, 32] });
  const [q, k, v, dy] = [float("q", queries), float("k", keys), float("v", keys), float("dy", queries)];
  const masks = [seen && input("seen", { dtype: "bool", shape: seen }), bias && input("bias", { dtype: "f32", shape: bias })];
  const key = attrs.dropout > 0 ? input("key", { dtype: "u32", shape: [2] }) : null;
  const given = [q, k, v, ...masks.map((m) => m ?? null), key];
  const [y, logs, ...bits] = apply(HeadAttention, given, attrs, "attention");
  const grads = apply(HeadAttentionGrad, [logs, dy, y, ...given, ...bits], attrs, "gradient");
  const inputs = [...given, dy].filter((x) => x !== null);
  const outputs = [y, ...grads].map((value, i) => ({ name: ["y", "dq", "dk", "dv"][i], value }));
  const data = inputs.map((x, i) => {
    const { dtype, shape } = x.type;
    const numbers = randomNumbers(i + 1, elementCount(shape));
    const values = dtype === "bool" ? numbers.map((n, at) => (n > -0.5 || at % shape[3] === 0 ? 1 : 0)) : dtype === "u32" ? [7, 0xdeadbeef] : numbers; // biome-ignore format: one idea
    return [inputName(x), fromNumbers(dtype, shape, [...values])] as const;
  });
  return { graph: { inputs, outputs }, data: Object.fromEntries(data) };
}

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ name: kind, options, open }) => {
  const device = useDevice(open);
  afterAll(() => setDevice({}));

  test.each(CASES)("$name", { timeout: PATIENCE_MS }, async (own) => {
    const { graph, data } = graphOf(own);
    const want = evaluateGraph(inPrecision(graph, "bf16"), data);
    const program = await compileForGpu(graph, { device: device(), precision: "bf16" });
    try {
      const kept = program.schedule.steps.filter(({ node }) => node.op.name.startsWith("HeadAttention")).map(({ calls }) => calls?.length);
      if (kind === "cuda") expect(kept).toEqual([own.attrs.dropout > 0 ? 2 : 1, 2]);
      const got = await program.run(data);
      for (const { name } of graph.outputs) {
        const [a, b] = [got[name], want[name]].map(toNumbers);
        for (const [i, x] of b.entries()) expect(Math.abs(a[i] - x), `${name} ${i}: ${a[i]}, wanted ${x}`).toBeLessThan(0.03); // 8 bits of weights and gradients
      }
    } finally {
      program.free();
    }
  });

  test("losses follow the CPU's", { timeout: PATIENCE_MS }, async () => {
    const model = { width: 32, dropout: 0.3 };
    const { losses: wanted } = await learnText({ threads: 1 }, model);
    const { losses: got } = await learnText(options, model);
    for (const [i, loss] of got.entries()) expect(Math.abs(loss - wanted[i]), `step ${i}`).toBeLessThan(2e-3);
    expect(got[3]).toBeLessThan(got[0]);
  });
});
