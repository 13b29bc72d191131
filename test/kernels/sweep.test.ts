// Sweeping reads each byte of whole chunks once, and nothing beyond.
import { describe, expect, test } from "vitest";
import { sweepKernel, sweptLines } from "../../src/kernels/sweep.ts";
import { DEVICES, randomNumbers, useDevice } from "../run/devices.ts";

describe.each(DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each([4096, 3 * 4096, 5 * 4096 + 100, 64])("%i bytes", async (bytes) => {
    const { target, threads } = device();
    const [from, out] = [device().alloc(bytes), device().alloc(sweptLines(bytes))];
    const numbers = Float32Array.from(randomNumbers(1, bytes / 4), (v) => Math.round(8 * v)); // whole ones: sums are exact
    from.view().set(new Uint8Array(numbers.buffer));
    const list = await device().load([sweepKernel(bytes, target, threads)], [{ kernel: 0, args: [from.address, out.address] }]);
    list.run(0, 1);
    const { buffer, byteOffset, byteLength } = out.view();
    const sums = new Float32Array(buffer, byteOffset, byteLength / 4);
    for (let chunk = 0; chunk < Math.floor(bytes / 4096); chunk++) {
      const got = sums.slice(16 * chunk, 16 * chunk + target.lanes).reduce((a, b) => a + b, 0);
      expect(got).toBe(numbers.slice(1024 * chunk, 1024 * (chunk + 1)).reduce((a, b) => a + b, 0));
    }
    list.free();
    for (const memory of [from, out]) memory.free();
  });
});
