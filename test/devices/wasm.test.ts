// The WebAssembly device as the layers above use it: kernels loaded and launched on any number of threads, lifetimes, and errors at its border.
import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import type { CpuDevice, Memory } from "../../src/devices/cpu.ts";
import { measurePeaks } from "../../src/devices/peaks.ts";
import { openWasm, type WasmDeviceOptions } from "../../src/devices/wasm/index.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { KernelBuilder, times } from "../../src/ir/kernel.ts";
import { floats, increment, withOpened } from "./increment.ts";

const withDevice = (options: WasmDeviceOptions, use: (device: CpuDevice) => Promise<void> | void): Promise<void> =>
  withOpened(openWasm(options), use);

describe("wasm device", () => {
  const cases = [1, 2, 3].flatMap((threads) => [true, false].map((relaxed) => ({ threads, relaxed })));
  test.each(cases)("runs kernels: $threads threads, relaxed $relaxed", (options) =>
    withDevice(options, async (device) => {
      const n = 1003;
      const [a, b] = [device.alloc(n * 4), device.alloc(n * 4)];
      expect([a.address % 64, b.address % 64]).toEqual([0, 0]);
      floats(a).set(Float32Array.from({ length: n }, (_, i) => i));
      const there = { kernel: 0, args: [a.address, b.address] };
      const back = { kernel: 1, args: [b.address, a.address] };
      // Kernels of one thread among those of several, alone and side by side.
      const kernels = [increment(device, n, options.threads), increment(device, n, 1)];
      const list = await device.load(kernels, [there, back, { ...there, kernel: 1 }, back]);
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
      const shares = threads * 4;
      const k = new KernelBuilder("scratch", target, threads);
      const out = k.buffer("out", shares * 16, "write");
      const scratch = k.buffer("scratch", 16, "scratch");
      k.parallel(shares, (v) => {
        k.store(k.iota(times(v, 100)), scratch, 0, 4, "i32");
        k.loop(0, 50, 1, () => k.store(k.op("iadd", k.load(scratch, 0, 4, "i32"), k.i32(1)), scratch, 0, 4, "i32"));
        k.store(k.load(scratch, 0, 4, "i32"), out, times(v, 16), 4, "i32");
      });
      const memory = device.alloc(shares * 16);
      const list = await device.load([k.build()], [{ kernel: 0, args: [memory.address] }]);
      list.run(0, 1);
      const got = new Int32Array(memory.view().buffer, memory.address, shares * 4);
      expect([...got]).toEqual(Array.from(got, (_, i) => Math.floor(i / 4) * 100 + (i % 4) + 50));
    }),
  );

  test("10,000 regions on two devices in turn", () =>
    withDevice({ threads: 2 }, (one) =>
      withDevice({ threads: 2 }, async (two) => {
        const n = 64;
        const runs = await Promise.all(
          [one, two].map(async (device) => {
            const [a, b] = [device.alloc(n * 4), device.alloc(n * 4)];
            const launches = [
              { kernel: 0, args: [a.address, b.address] },
              { kernel: 0, args: [b.address, a.address] },
            ];
            return { list: await device.load([increment(device, n, 2)], launches), a };
          }),
        );
        for (let i = 0; i < 2500; i++) for (const { list } of runs) list.run(0, 2);
        for (const { a } of runs) expect([...floats(a)]).toEqual(new Array(n).fill(5000));
      }),
    ));

  test("threads that fell asleep wake up; several lists; synchronous runs wait for asynchronous ones", () =>
    withDevice({ threads: 2, spinMicroseconds: 0 }, async (device) => {
      const n = 4096;
      const [a, b] = [device.alloc(n * 4), device.alloc(n * 4)];
      const launches = [
        { kernel: 0, args: [a.address, b.address] },
        { kernel: 0, args: [b.address, a.address] },
      ];
      const lists = [];
      for (let i = 0; i < 4; i++) {
        lists.push(await device.load([increment(device, n, 2)], launches));
        lists[i].run(0, 2);
        await new Promise((resolve) => setTimeout(resolve, 5));
        if (i === 2) lists[0].free();
      }
      const pending = [lists[1].runAsync(0, 2), lists[2].runAsync(0, 2)];
      lists[3].run(0, 2);
      pending.push(lists[3].runAsync(0, 2));
      await Promise.all(pending);
      expect([...floats(a)]).toEqual(new Array(n).fill(16));
    }));

  test("lists and memory freed during an asynchronous run stay until it ends; close() likewise", async () => {
    const device = await openWasm({ threads: 2 });
    const n = 1 << 16;
    const [a, b] = [device.alloc(n * 4), device.alloc(n * 4)];
    const launch = { kernel: 0, args: [a.address, b.address] };
    const list = await device.load([increment(device, n, 2)], new Array(200).fill(launch));
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

  test("memory is zero, grows, is used again, and does not overlap", () =>
    withDevice({ threads: 1 }, (device) => {
      const live = new Map<Memory, number>();
      let seed = 1;
      const next = (n: number): number => {
        seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
        return (seed >> 8) % n;
      };
      for (let i = 1; i < 1500; i++) {
        const kept = [...live];
        if (kept.length > 20 || (kept.length && next(3) === 0)) {
          const [memory, mark] = kept[next(kept.length)];
          expect(memory.view().every((x) => x === mark)).toBe(true);
          memory.free();
          live.delete(memory);
        } else {
          const memory = device.alloc(next(5) ? next(3000) : next(300_000));
          expect(memory.view().every((x) => x === 0)).toBe(true);
          memory.view().fill((i % 255) + 1);
          live.set(memory, (i % 255) + 1);
        }
      }
      const before = device.alloc(16).address;
      for (const memory of live.keys()) memory.free();
      expect(device.alloc(3_000_000).address).toBeLessThan(before + 3_000_000);
      expect(() => device.alloc(-1)).toThrow("-1 is not a number of bytes");
      expect(() => device.alloc(2 ** 33)).toThrow("WebAssembly has at most 4096");
    }));

  test("a kernel that leaves the memory is an error, on any thread, and ends the device", async () => {
    for (const bad of [0, 1, 2]) {
      const threads = 3;
      await withDevice({ threads }, async (device) => {
        const k = new KernelBuilder("bad", device.target, threads);
        const out = k.buffer("out", 2 ** 31, "write");
        k.parallel(threads, (v) => k.when(v, bad + 1, () => k.when(bad - 1, v, () => k.store(k.f32(1), out, 2 ** 31 - 16))));
        const memory = device.alloc(64); // not what the kernel was told
        const list = await device.load([k.build()], [{ kernel: 0, args: [memory.address] }]);
        if (bad === 1) await expect(list.runAsync(0, 1)).rejects.toThrow(/thread [012] of 3 failed/);
        else expect(() => list.run(0, 1)).toThrow(/failed/);
        expect(() => list.run(0, 1)).toThrow(/failed/);
      });
    }
  });

  test("says what is wrong in one line", async () => {
    await expect(openWasm({ threads: 0 })).rejects.toThrow("threads is 0, wanted 1 to 256");
    await withDevice({ threads: 1 }, async (device) => {
      const args = [device.alloc(64).address, device.alloc(64).address];
      const list = await device.load([increment(device, 16, 1)], [{ kernel: 0, args }]);
      expect(() => list.run(0, 2)).toThrow("range 0..2 of 1 launches");
      await expect(list.runAsync(-1, 1)).rejects.toThrow("range -1..1");
      await expect(device.load([increment(device, 16, 1)], [{ kernel: 0, args: [1] }])).rejects.toThrow("takes 2 buffers, got 1");
      await expect(device.load([], [{ kernel: 0, args: [] }])).rejects.toThrow("no kernel 0");
    });
  });

  test("lists a kernel's code", () =>
    withDevice({ threads: 1 }, async (device) => {
      expect(await device.disassemble(increment(device, 32, 1))).toMatch(/v128\.load\n.*\n(.*\n)*.*f32x4\.add/);
    }));

  test("measures plausible peaks", () =>
    withDevice({ threads: 2 }, async (device) => {
      const peaks = await measurePeaks(device);
      for (const value of Object.values(peaks)) expect(value).toBeGreaterThan(0);
      expect(peaks.fmaGflopsOneCore).toBeGreaterThan(1);
      expect(peaks.l1GBs).toBeGreaterThan(1);
    }));

  test.each([true, false])("the process ends by itself, device closed: %s", (isClosed) => {
    const script = `
      import { openWasm } from "./src/devices/wasm/index.ts";
      import { KernelBuilder } from "./src/ir/kernel.ts";
      const device = await openWasm({ threads: 2 });
      const list = await device.load([new KernelBuilder("empty", device.target, 2).build()], [{ kernel: 0, args: [] }]);
      list.run(0, 1);
      await list.runAsync(0, 1);
      ${isClosed ? "device.close();" : ""}
      console.log("done");`;
    const bundled = spawnSync("node_modules/.bin/esbuild", ["--bundle", "--format=esm", "--platform=node", "--loader=ts"], {
      input: script,
    });
    expect(bundled.status).toBe(0);
    const { stdout, status } = spawnSync(process.execPath, ["--input-type=module"], { input: bundled.stdout, timeout: 20_000 });
    expect([stdout.toString(), status]).toEqual(["done\n", 0]);
  });
});
