// The x86 device as the layers above use it: kernels loaded and launched on any number of threads, lifetimes, and errors at its border.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { CpuDevice } from "../../src/devices/cpu.ts";
import { machineFacts } from "../../src/devices/machine.ts";
import { measurePeaks } from "../../src/devices/peaks.ts";
import { chooseIsa, openX86, type X86Options } from "../../src/devices/x86/index.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { KernelBuilder, times } from "../../src/ir/kernel.ts";
import { floats, increment, withOpened } from "./increment.ts";

const { isa } = machineFacts();
const isas = (["avx2", "avx512"] as const).filter((i) => i === "avx2" || isa === "avx512");
const here = isa !== null && machineFacts().platform === "linux";

const withDevice = (options: X86Options, use: (device: CpuDevice) => Promise<void> | void): Promise<void> =>
  withOpened(openX86(options), use);

describe.skipIf(!here)("x86 device", () => {
  const cases = isas.flatMap((i) => [1, 2, 3].flatMap((threads) => [false, true].map((guardPages) => ({ isa: i, threads, guardPages }))));
  test.each(cases)("runs kernels: $isa, $threads threads, guard pages $guardPages", (options) =>
    withDevice(options, async (device) => {
      const n = 1003;
      const [a, b] = [device.alloc(n * 4), device.alloc(n * 4)];
      const alignment = options.guardPages ? 8 : 64; // memory ends at its guard page then
      expect([a.address % alignment, b.address % alignment]).toEqual([0, 0]);
      floats(a).set(Float32Array.from({ length: n }, (_, i) => i));
      const there = { kernel: 0, args: [a.address, b.address] };
      const back = { kernel: 0, args: [b.address, a.address] };
      const list = await device.load([increment(device, n)], [there, back, there, back]);
      expect([list.length, list.codeBytes > 0]).toEqual([4, true]);
      for (let i = 0; i < 25; i++) list.run(0, 4);
      list.run(0, 1);
      list.run(1, 4);
      await list.runAsync(0, 4);
      list.run(2, 2);
      expect([...floats(a)]).toEqual(Array.from({ length: n }, (_, i) => i + 108));
    }),
  );

  test.each([1, 2, 3])("each of %i threads has its own scratch", (threads) =>
    withDevice({ threads }, async (device) => {
      const { target } = device;
      const vector = target.lanes * 4;
      const shares = threads * 4;
      const k = new KernelBuilder("scratch", target, threads);
      const out = k.buffer("out", shares * vector, "write");
      const scratch = k.buffer("scratch", vector, "scratch");
      k.parallel(shares, (v) => {
        k.store(k.iota(times(v, 100)), scratch, 0, target.lanes, "i32");
        k.loop(0, 50, 1, () => k.store(k.op("iadd", k.load(scratch, 0, target.lanes, "i32"), k.i32(1)), scratch, 0, target.lanes, "i32"));
        k.store(k.load(scratch, 0, target.lanes, "i32"), out, times(v, vector), target.lanes, "i32");
      });
      const memory = device.alloc(shares * vector);
      const list = await device.load([k.build()], [{ kernel: 0, args: [memory.address] }]);
      list.run(0, 1);
      const got = new Int32Array(memory.view().buffer, memory.view().byteOffset, shares * target.lanes);
      expect([...got]).toEqual(Array.from(got, (_, i) => Math.floor(i / target.lanes) * 100 + (i % target.lanes) + 50));
    }),
  );

  test("20,000 regions on two devices in turn", async () => {
    await withDevice({ threads: 2 }, (one) =>
      withDevice({ threads: 2 }, async (two) => {
        const n = 64;
        const runs = await Promise.all(
          [one, two].map(async (device) => {
            const [a, b] = [device.alloc(n * 4), device.alloc(n * 4)];
            const launches = [
              { kernel: 0, args: [a.address, b.address] },
              { kernel: 0, args: [b.address, a.address] },
            ];
            return { list: await device.load([increment(device, n)], launches), a };
          }),
        );
        for (let i = 0; i < 5000; i++) for (const { list } of runs) list.run(0, 2);
        for (const { a } of runs) expect([...floats(a)]).toEqual(new Array(n).fill(10_000));
      }),
    );
  });

  test("lists and memory freed during an asynchronous run stay until it ends; close() likewise", async () => {
    const device = await openX86({ threads: 2 });
    const n = 1 << 16;
    const [a, b] = [device.alloc(n * 4), device.alloc(n * 4)];
    const launch = { kernel: 0, args: [a.address, b.address] };
    const list = await device.load([increment(device, n)], new Array(200).fill(launch));
    const run = list.runAsync(0, 200);
    list.free();
    a.free();
    b.free();
    device.close();
    device.close();
    await run;
    expect(() => list.run(0, 1)).toThrow(HeddleError);
    expect(() => device.alloc(64)).toThrow("used after close()");
    expect(() => a.view()).toThrow(HeddleError);
  });

  test("says what is wrong in one line", async () => {
    await expect(openX86({ threads: 0 })).rejects.toThrow("threads is 0, wanted 1 to 256");
    await withDevice({ threads: 1 }, async (device) => {
      expect(() => device.alloc(-1)).toThrow("-1 is not a number of bytes");
      expect(() => device.alloc(2 ** 50)).toThrow("mmap failed");
      const list = await device.load([increment(device, 16)], [{ kernel: 0, args: [device.alloc(64).address, device.alloc(64).address] }]);
      expect(() => list.run(0, 2)).toThrow("range 0..2 of 1 launches");
      await expect(list.runAsync(-1, 1)).rejects.toThrow("range -1..1");
      await expect(device.load([increment(device, 16)], [{ kernel: 0, args: [1] }])).rejects.toThrow("takes 2 buffers, got 1");
      await expect(device.load([], [{ kernel: 0, args: [] }])).rejects.toThrow("no kernel 0");
    });
  });

  test("200 devices opened and closed leave no mappings behind", async () => {
    const mappings = (): number => readFileSync("/proc/self/maps", "utf8").split("\n").length;
    const once = (): Promise<void> =>
      withDevice({ threads: 1, guardPages: true }, async (device) => {
        const args = [device.alloc(64).address, device.alloc(6 << 20).address];
        const list = await device.load([increment(device, 16)], [{ kernel: 0, args }]);
        list.run(0, 1);
      });
    for (let i = 0; i < 20; i++) await once();
    const before = mappings();
    for (let i = 0; i < 200; i++) await once();
    expect(mappings() - before).toBeLessThan(100);
  });

  test("lists a kernel's code", () =>
    withDevice({ threads: 1 }, async (device) => {
      expect(await device.disassemble(increment(device, 32))).toMatch(/vaddps/);
    }));

  test("measures plausible peaks", () =>
    withDevice({ threads: 2 }, async (device) => {
      const peaks = await measurePeaks(device);
      for (const value of Object.values(peaks)) expect(value).toBeGreaterThan(0);
      expect(peaks.fmaGflopsOneCore).toBeGreaterThan(1);
      expect(peaks.l1GBs).toBeGreaterThan(1);
    }));
});

test.each([
  [{ arch: "arm64" }, {}, "needs x86-64 Linux, this is arm64 linux"],
  [{ platform: "win32" }, {}, "needs x86-64 Linux, this is x64 win32"],
  [{ isa: null }, {}, "some CPU has no AVX2 with FMA; use the WebAssembly device"],
  [{ isa: "avx2" }, { isa: "avx512" }, "some CPU has no AVX-512"],
  [{}, { isa: "avx2" }, "avx2"],
  [{ isa: "avx2" }, {}, "avx2"],
  [{}, {}, "avx512"],
] as const)("instruction set of a machine with %j, asked for %j: %s", (machine, options, wanted) => {
  const choose = (): string =>
    chooseIsa(options, { ...machineFacts(), cpu: "some CPU", arch: "x64", platform: "linux", isa: "avx512", ...machine });
  if (wanted.startsWith("avx")) expect(choose()).toBe(wanted);
  else expect(choose).toThrow(wanted);
});
