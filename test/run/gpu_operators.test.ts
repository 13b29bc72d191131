// Every operator's samples as GPU programs, against the float64 reference.
import { describe, test } from "vitest";
import { zeros } from "../../src/ir/tensor.ts";
import { evaluateGraph } from "../../src/ops/index.ts";
import { inputName } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { expectClose, useDevice } from "./devices.ts";
import { GPU_DEVICES } from "./gpu_devices.ts";
import { SAMPLED, sampleGraph } from "./samples.ts";

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each(SAMPLED)("%s", async (name, op) => {
    for (const [i, sample] of (op.samples ?? []).entries()) {
      const { graph, inputs } = sampleGraph(op, sample);
      const want = evaluateGraph(graph, inputs);
      const program = await compileForGpu(graph, { device: device() });
      try {
        // Zeros first: nothing of an earlier run may be left in a later one.
        await program.run(Object.fromEntries(graph.inputs.map((v) => [inputName(v), zeros(v.type.dtype, v.type.shape)])));
        const got = await program.run(inputs);
        // Functions of a GPU are good to a few more ULP than ours.
        for (const [output, tensor] of Object.entries(want)) expectClose(got[output], tensor, `${name}, sample ${i}: ${output}`, 1e-3);
      } finally {
        program.free();
      }
    }
  });
});
