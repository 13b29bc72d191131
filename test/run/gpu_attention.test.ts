// Attention of files on GPUs: one kernel, or one for parts of the keys and one that joins them, which agree with the reference; rows without any key as well.
import { describe, expect, test } from "vitest";
import { apply } from "../../src/ir/graph.ts";
import { fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { input, inputName } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { ATTENTIONS, graphOf } from "../passes/attention_graphs.ts";
import { expectClose, randomNumbers, useDevice } from "./devices.ts";
import { GPU_DEVICES } from "./gpu_devices.ts";

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  async function agrees(name: string, hides = false): Promise<Float64Array> {
    const [, y] = ATTENTIONS.find(([own]) => own === name)!; // of the table
    const { graph, data } = graphOf(y);
    const given = hides ? { ...data, mask: fromNumbers("bool", data.mask.shape, toNumbers(data.mask).map((x, i) => (i < 9 ? 0 : x))) } : data; // biome-ignore format: one idea
    const want = toNumbers(evaluateGraph(graph, given).y0);
    const program = await compileForGpu(graph, { device: device() });
    try {
      const own = program.schedule.steps.filter(({ node }) => node.op.name === "MaskedAttention").map(({ calls }) => calls?.length);
      expect(own).toEqual([name === "one query" ? 2 : 1]);
      // What only moves heads is seen through.
      const others = program.schedule.steps.filter(({ node }) => node.op.name !== "MaskedAttention");
      if (name === "packed" || name === "scaled" || name === "groups of heads") expect(others).toEqual([]);
      const got = toNumbers((await program.run(given)).y0);
      for (const [i, x] of want.entries()) expect(Number.isNaN(x) ? Number.isNaN(got[i]) : Math.abs(got[i] - x) < 2e-5, `${i}: ${got[i]}, wanted ${x}`).toBe(true); // biome-ignore format: one idea
      return want;
    } finally {
      program.free();
    }
  }

  test.each(ATTENTIONS)("%s", async (name) => void (await agrees(name)), 60_000);

  test("a row that sees no key is a mean where hidden scores are finite, NaN where they are not", async () => {
    expect((await agrees("a mask of places", true)).some(Number.isNaN)).toBe(false);
    expect((await agrees("scaled on both sides", true)).filter(Number.isNaN)).toHaveLength(32);
  }, 60_000);

  test("ONNX's Attention is one kernel, with a mask and causal as well", async () => {
    const [q, k, v] = ["q", "k", "v"].map((name) => input(name, { dtype: "f32", shape: [1, 12, 16] }));
    const mask = input("mask", { dtype: "bool", shape: [1, 1, 1, 12] });
    const [value] = apply(OPS.get("Attention")!, [q, k, v, mask], { q_num_heads: 2, kv_num_heads: 2, is_causal: 1 }, "attention"); // an operator of ONNX
    const graph = { inputs: [q, k, v, mask], outputs: [{ name: "y", value }] };
    const places = Object.fromEntries([q, k, v].map((x, i) => [inputName(x), fromNumbers("f32", x.type.shape, randomNumbers(i + 1, 192))]));
    const data = { ...places, mask: fromNumbers("bool", [1, 1, 1, 12], [1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1]) };
    const program = await compileForGpu(graph, { device: device() });
    try {
      const nodes = program.schedule.steps.filter(({ calls }) => calls !== null && calls.length > 0).map(({ node }) => node);
      expect(nodes.map(({ op }) => op.name)).toEqual(["MaskedAttention"]);
      expect(nodes[0].attrs).toMatchObject({ before: 0, hidden: Number.NEGATIVE_INFINITY });
      expectClose((await program.run(data)).y, evaluateGraph(graph, data).y, "y", 1e-5);
    } finally {
      program.free();
    }
  });
});
