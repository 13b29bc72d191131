// The WebAssembly device as pages see it: without shared memory, and with a main thread that must not sleep.
import { expect, test, vi } from "vitest";
import type { Host } from "../../src/devices/wasm/host.ts";
import { openWasm } from "../../src/devices/wasm/index.ts";
import { KernelBuilder, times } from "../../src/ir/kernel.ts";

const page = vi.hoisted(() => ({ canShare: true, canBlock: false }));
vi.mock("../../src/devices/wasm/host.ts", async (original) => {
  const { currentHost } = await original<{ currentHost(): Promise<Host> }>();
  return { currentHost: async () => ({ ...(await currentHost()), ...page, setFlags() {} }) };
});

async function addOnes(threads: number, rounds: number): Promise<{ got: Float32Array; threads: number }> {
  const device = await openWasm({ threads, relaxed: false });
  const n = 256;
  const k = new KernelBuilder("ones", device.target, device.threads);
  const a = k.buffer("a", n * 4, "readwrite");
  k.parallel(n / 4, (v) => k.store(k.op("add", k.load(a, times(v, 16)), k.f32(1)), a, times(v, 16)));
  const memory = device.alloc(n * 4);
  const list = await device.load([k.build()], [{ kernel: 0, args: [memory.address] }]);
  for (let i = 0; i < rounds; i++) list.run(0, 1);
  await list.runAsync(0, 1);
  const view = memory.view();
  const got = new Float32Array(view.slice().buffer);
  device.close();
  return { got, threads: device.threads };
}

test("without shared memory: one thread, and one warning for all devices", async () => {
  page.canShare = false;
  const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  for (const threads of [1, 2, 4]) {
    const result = await addOnes(threads, 5);
    expect(result.threads).toBe(1);
    expect([...result.got]).toEqual(new Array(256).fill(6));
  }
  expect(warn).toHaveBeenCalledTimes(1);
  expect(warn.mock.calls[0][0]).toMatch(/not cross-origin isolated/);
  warn.mockRestore();
});

test("with shared memory on a thread that must not sleep", async () => {
  page.canShare = true;
  const result = await addOnes(2, 300);
  expect(result.threads).toBe(2);
  expect([...result.got]).toEqual(new Array(256).fill(301));
});
