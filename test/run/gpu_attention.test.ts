// Attention of files on GPUs: one kernel, or one for parts of the keys and one that joins them, which agree with the reference; rows without any key as well.
import { describe, expect, test } from "vitest";
import { fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph } from "../../src/ops/index.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { ATTENTIONS, graphOf } from "../passes/attention_graphs.ts";
import { useDevice } from "./devices.ts";
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
});
