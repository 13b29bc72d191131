// An NVIDIA GPU whose kernel failed: which one it was, and what is left of the process.
import { describe, expect, test } from "vitest";
import { loadModel } from "../../src/index.ts";
import { info, model } from "../formats/onnx_model.ts";
import { COUNT, hasGpu, openCuda, runNumbers } from "./cuda_numbers.ts";

const network = model({
  name: "network",
  input: [info("x", [2])],
  output: [info("y", [2])],
  node: [{ opType: "Relu", input: ["x"], output: ["y"] }],
});

describe.skipIf(!hasGpu)("a CUDA device", () => {
  test("whose kernel failed says which, and so does all that comes after it in this process", { timeout: 60_000 }, async () => {
    const [device, other] = [await openCuda(), await openCuda()];
    const kept = other.alloc(64);
    const cause = /cuda:0: kernel astray of second failed: .*CUDA_ERROR_LAUNCH_FAILED/;
    await expect(runNumbers(device, COUNT)).rejects.toMatchObject({ code: "io", message: expect.stringMatching(cause) });
    const after = expect.stringMatching(/kernel astray of second failed.*start it again/);
    await expect(runNumbers(other, 0)).rejects.toMatchObject({ code: "io", message: after });
    await expect(openCuda()).rejects.toMatchObject({ code: "io", message: after });
    // What lives is freed without another error, and other devices work.
    kept.free();
    await device.close();
    await other.close();
    using onCpu = await loadModel(network, { device: "cpu", threads: 1 });
    const x = { dtype: "f32", shape: [2], data: Float32Array.of(-1, 2) } as const;
    expect([...(await onCpu.run({ x })).y.data]).toEqual([0, 2]);
  });
});
