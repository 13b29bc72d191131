// Every operator's samples, compiled for every device of this machine, against the float64 reference.
import { describe, test } from "vitest";
import { DEVICES, expectCompiledRight, useDevice } from "./devices.ts";
import { SAMPLED, sampleGraph } from "./samples.ts";

describe.each(DEVICES)("$name", ({ open, guardPages }) => {
  const device = useDevice(open);

  test.each(SAMPLED)("%s", async (name, op) => {
    for (const [i, sample] of (op.samples ?? []).entries()) {
      const { graph, inputs } = sampleGraph(op, sample);
      await expectCompiledRight(graph, inputs, device(), `${name}, sample ${i}`, guardPages);
    }
  });
});
