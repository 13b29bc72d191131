// An NVIDIA GPU whose kernel failed: which one it was, and what is left of the process.
import { describe, expect, test } from "vitest";
import { COUNT, hasGpu, NUMBERS, openCuda, runNumbers } from "./cuda_numbers.ts";

describe.skipIf(!hasGpu)("a CUDA device", () => {
  test("whose kernel failed says which, and opens anew", { timeout: 60_000 }, async () => {
    const [device, other] = [await openCuda(), await openCuda()];
    const kept = other.alloc(64);
    await expect(runNumbers(device, COUNT)).rejects.toMatchObject({
      code: "io",
      message: expect.stringMatching(/kernel astray of second failed/),
    });
    // All that lives on this GPU is lost, and says so; nothing of it is freed into what is opened anew.
    await expect(runNumbers(other, 0)).rejects.toMatchObject({
      code: "io",
      message: expect.stringMatching(/a kernel failed on it before; load the model again/),
    });
    const again = await openCuda();
    expect(await runNumbers(again, 0, 3)).toEqual(NUMBERS);
    kept.free();
    await device.close();
    await other.close();
    expect(await runNumbers(again, 0)).toEqual(NUMBERS);
    await again.close();
  });
});
