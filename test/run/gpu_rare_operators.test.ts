// Operators that few networks have run as kernels, not in JavaScript between them.
import { expect, test } from "vitest";
import { OPS } from "../../src/ops/index.ts";
import { gpuBackend } from "../../src/run/gpu/backend.ts";
import { scheduleGraph } from "../../src/run/schedule.ts";
import { H200 } from "../kernels/simt_machine.ts";
import { sampleGraph } from "./samples.ts";

test.each(["GridSample", "MaxRoiPool", "RoiAlign"])("%s", (name) => {
  const op = OPS.get(name)!; // in the table
  const samples = op.samples ?? [];
  expect(samples.length).toBeGreaterThan(1);
  for (const sample of samples) {
    const { steps } = scheduleGraph(sampleGraph(op, sample).graph, gpuBackend(H200, 256));
    expect(steps.map(({ calls }) => calls !== null)).toEqual(steps.map(() => true));
  }
});
