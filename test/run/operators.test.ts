// Every operator's samples, compiled for every device of this machine, against the float64 reference.
import { afterAll, beforeAll, describe, test } from "vitest";
import type { CpuDevice } from "../../src/devices/cpu.ts";
import { DEVICES, expectCompiledRight } from "./devices.ts";
import { SAMPLED, sampleGraph } from "./samples.ts";

describe.each(DEVICES)("$name", ({ open, guardPages }) => {
  let device: CpuDevice;
  beforeAll(async () => {
    device = await open();
  });
  afterAll(() => device?.close());

  test.each(SAMPLED)("%s", async (name, op) => {
    for (const [i, sample] of (op.samples ?? []).entries()) {
      const { graph, inputs } = sampleGraph(op, sample);
      await expectCompiledRight(graph, inputs, device, `${name}, sample ${i}`, guardPages);
    }
  });
});
