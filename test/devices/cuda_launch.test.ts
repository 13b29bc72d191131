// Launches of CUDA kernels as the driver is given them: which may start early, and the structures in memory that say so.
import { expect, test } from "vitest";
import { printCuda } from "../../src/codegen/cuda/index.ts";
import type { CudaApi } from "../../src/devices/cuda/driver.ts";
import { kernelLaunch } from "../../src/devices/cuda/launch.ts";
import { fn, group, product, SimtBuilder, type SimtKernel, sum, thread } from "../../src/ir/simt.ts";
import { H200 } from "../kernels/simt_machine.ts";

const [STREAM, FUNCTION] = [0x1234_5678_9abcn, 77n];

function increment(groups: number): SimtKernel {
  const b = new SimtBuilder("increment", H200);
  const out = b.buffer("out", "f32", 64 * groups, "readwrite");
  const at = b.let(sum(product(group(), 64), thread()));
  b.store(out, at, fn("add", b.load(out, at), 1));
  return b.build([64, 1, 1], [groups, 1, 1]);
}

/** What the driver was called with; addresses are numbers that stand for arrays. */
function launched(kernel: SimtKernel, isOverlapped: boolean) {
  const calls: unknown[][] = [];
  const arrays: ArrayBufferView[] = [];
  const api = {
    driver: (...args: unknown[]) => void calls.push(args),
    addressOf: (data: ArrayBufferView) => BigInt(1000 * arrays.push(data)),
  } as unknown as CudaApi; // all that a launch asks for
  kernelLaunch(api, STREAM, kernel, FUNCTION, [4096n], isOverlapped).launch();
  return { call: calls[0], arrays };
}

test("a kernel that may start early is launched with the attribute that says so, and waits", () => {
  const kernel = increment(6);
  const { call, arrays } = launched(kernel, true);
  expect(call.slice(0, 1).concat(call[2])).toEqual(["cuLaunchKernelEx", FUNCTION]);
  const words = call[1] as Uint32Array; // the configuration
  expect([...words.subarray(0, 7)]).toEqual([6, 1, 1, 64, 1, 1, 0]);
  const [stream, attributes] = new BigUint64Array(words.buffer, 32, 2);
  expect(stream).toBe(STREAM);
  expect(words[12]).toBe(1);
  const attribute = arrays[Number(attributes) / 1000 - 1] as Uint32Array;
  expect(attribute.byteLength).toBe(72);
  expect([attribute[0], attribute[2]]).toEqual([6, 1]);
  expect(printCuda([kernel], { isOverlapped: true })).toContain("griddepcontrol.wait;");
});

test("a kernel of many workgroups, and one on an older GPU, waits for those before it", () => {
  for (const [kernel, isOverlapped] of [
    [increment(5000), true],
    [increment(6), false],
  ] as const) {
    const { call } = launched(kernel, isOverlapped);
    const blocks = kernel.grid[0];
    expect(call.slice(0, 8)).toEqual(["cuLaunchKernel", FUNCTION, blocks, 1, 1, 64, 1, 1]);
    expect(printCuda([kernel], { isOverlapped })).not.toContain("griddepcontrol");
  }
});
