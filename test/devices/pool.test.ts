// The thread pool below the x86 device: barriers, sleeping and waking, turns, and clean exits, with hand-made records.
import { describe, expect, test } from "vitest";
import { randomNumbers } from "../../src/cli/random.ts";
import { chainsOf } from "../../src/devices/launches.ts";
import { machineFacts } from "../../src/devices/machine.ts";
import { CONTROL, controlBytes } from "../../src/devices/x86/control.ts";
import { driverCode, LIST_HEADER, RECORD } from "../../src/devices/x86/driver.ts";
import { allocate, placeCode } from "../../src/devices/x86/memory.ts";
import { loadNative, type Native } from "../../src/devices/x86/native.ts";
import { acquirePool, type Job, type Pool } from "../../src/devices/x86/pool.ts";

const here = machineFacts().arch === "x64" && machineFacts().platform === "linux";
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** *args[1] ← *args[0] + 1: mov rax,[rdi]; mov rcx,[rdi+8]; mov rdx,[rax]; inc rdx; mov [rcx],rdx; ret. */
const STEP = Uint8Array.of(0x48, 0x8b, 0x07, 0x48, 0x8b, 0x4f, 0x08, 0x48, 0x8b, 0x10, 0x48, 0xff, 0xc2, 0x48, 0x89, 0x11, 0xc3);

const all = (threads: number, value: number): number[] => new Array<number>(threads).fill(value);
const together = (length: number) => new Array<"together">(length).fill("together");

/** ret. */
const IDLE = Uint8Array.of(0xc3);

/**
 * Steps in which every thread takes its neighbour's number of the step before, plus one: without barriers between them the numbers diverge. Two
 * cells a thread, used in turn. A step is a launch of all threads, or a launch for each cell on thread 0 alone, chained as far as such steps go.
 */
function relay(native: Native, threads: number, steps: readonly ("together" | "alone")[]) {
  const code = placeCode(native, [STEP, IDLE]);
  const launches = steps.flatMap((how, i) =>
    how === "together" ? [{ turn: i % 2, tid: -1 }] : all(threads, i % 2).map((turn, tid) => ({ turn, tid })),
  );
  const stride = launches.length * RECORD;
  const cells = allocate(native, threads * 128, false);
  const memory = allocate(native, LIST_HEADER + threads * (stride + 32), false);
  const words = new BigUint64Array(memory.view().buffer);
  words[0] = BigInt(stride);
  const cell = (tid: number, turn: number): bigint => BigInt(cells.address + tid * 128 + turn * 64);
  const argumentsOf = (tid: number, turn: number): number => LIST_HEADER + threads * stride + (2 * tid + turn) * 16;
  const chains = chainsOf(launches.map(({ tid }) => ({ threads: tid < 0 ? threads : 1 })));
  for (let tid = 0; tid < threads; tid++) {
    for (const turn of [0, 1]) {
      words[argumentsOf(tid, turn) / 8] = cell((tid + 1) % threads, turn);
      words[argumentsOf(tid, turn) / 8 + 1] = cell(tid, 1 - turn);
    }
    launches.forEach((launch, i) => {
      const record = (LIST_HEADER + tid * stride + i * RECORD) / 8;
      words[record] = BigInt(code.at[launch.tid < 0 || tid === 0 ? 0 : 1]);
      words[record + 1] = BigInt(memory.address + argumentsOf(launch.tid < 0 ? tid : launch.tid, launch.turn));
      words[record + 2] = BigInt(Math.max(0, chains[i] - 1));
    });
  }
  const values = new BigUint64Array(cells.view().buffer);
  return {
    job: (from = 0, to = launches.length): Job => ({ list: memory.address, from: from * RECORD, to: to * RECORD, isAlone: threads === 1 }),
    launches: launches.length,
    /** The numbers after an even count of launches. */
    numbers: () => Array.from({ length: threads }, (_, tid) => Number(values[tid * 16])),
    free: () => {
      for (const m of [code, cells, memory]) m.free();
    },
  };
}

describe.skipIf(!here)("pool", () => {
  test.each([1, 2, 3, 5])("%i threads: 20,000 launches in small regions stay in step", async (threads) => {
    const native = await loadNative();
    const pool = acquirePool(native, { threads, spinMicroseconds: 200 });
    const r = relay(native, threads, together(10));
    const regions = threads > 2 ? 200 : 2000;
    for (let i = 0; i < regions; i++) pool.run(r.job());
    expect(r.numbers()).toEqual(all(threads, regions * 10));
    for (let i = 0; i < 100; i++) {
      pool.run(r.job(0, 1));
      pool.run(r.job(1, 4));
    }
    expect(r.numbers()).toEqual(all(threads, regions * 10 + 400));
    r.free();
    pool.release();
  });

  test.each([2, 3, 5])(
    "%i threads: launches of one thread are chained, and stay in step with the others, wherever runs are cut",
    async (threads) => {
      const native = await loadNative();
      const pool = acquirePool(native, { threads, spinMicroseconds: 200 });
      const random = randomNumbers(threads);
      const steps = Array.from({ length: 60 }, (_, i) => (i % 20 < 10 || random() < 0.5 ? "alone" : "together"));
      const r = relay(native, threads, steps);
      const regions = threads > 2 ? 100 : 1000;
      for (let i = 0; i < regions; i++) {
        const cut = Math.floor(random() * (r.launches + 1));
        if (i % 2) pool.run(r.job());
        else for (const job of [r.job(0, cut), r.job(cut)]) if (job.from < job.to) pool.run(job);
      }
      expect(r.numbers()).toEqual(all(threads, regions * steps.length));
      r.free();
      pool.release();
    },
  );

  test.each([2, 5])("%i threads of which only the caller's is there: it runs all parts, in step", async (threads) => {
    const native = await loadNative();
    const { code, run: entry } = driverCode();
    const driver = placeCode(native, [code]);
    const control = allocate(native, controlBytes(threads), false);
    const cells = new DataView(control.view().buffer);
    cells.setUint32(CONTROL.threads, threads, true);
    cells.setUint32(CONTROL.barrierPolls, 2000, true);
    const r = relay(native, threads, together(10));
    const call = native.callable(driver.at[0] + entry);
    const run = ({ list, from, to }: Job): number => call(control.address, list, from, to);
    for (let i = 0; i < 100; i++) run(r.job());
    run(r.job(2, 6));
    expect(r.numbers()).toEqual(all(threads, 1004));
    r.free();
    control.free();
    driver.free();
  });

  test.each([0, 50])("threads that sleep after %i µs wake for the next job", async (spinMicroseconds) => {
    const native = await loadNative();
    const pool = acquirePool(native, { threads: 2, spinMicroseconds });
    const r = relay(native, 2, together(2));
    for (let i = 0; i < 60; i++) {
      pool.run(r.job());
      if (i % 3 === 0) await sleep(i % 2);
    }
    await sleep(1100); // past two naps
    for (let i = 0; i < 2000; i++) pool.run(r.job());
    expect(r.numbers()).toEqual(all(2, 4120));
    r.free();
    pool.release();
  });

  test("the same options share a pool, others do not, and both work in turn", async () => {
    const native = await loadNative();
    const pools: Pool[] = [2, 2, 3].map((threads) => acquirePool(native, { threads, spinMicroseconds: 100 }));
    expect(pools[0]).toBe(pools[1]);
    expect(pools[0]).not.toBe(pools[2]);
    const relays = [2, 2, 3].map((threads) => relay(native, threads, together(4)));
    for (let i = 0; i < 100; i++) for (const [p, r] of relays.entries()) pools[p].run(r.job());
    relays.forEach((r, p) => {
      expect(r.numbers()).toEqual(all(p < 2 ? 2 : 3, 400));
      r.free();
      pools[p].release();
    });
  });

  test("asynchronous runs queue up, and a blocking run waits for the one in flight", async () => {
    const native = await loadNative();
    const pool = acquirePool(native, { threads: 2, spinMicroseconds: 100 });
    const r = relay(native, 2, together(1000));
    const runs = Array.from({ length: 20 }, () => pool.runAsync(r.job()));
    await runs[3];
    for (let i = 0; i < 20; i++) pool.run(r.job());
    await Promise.all(runs);
    for (let i = 0; i < 10; i++) {
      const one = pool.runAsync(r.job());
      await sleep(0);
      pool.run(r.job());
      await one;
    }
    expect(r.numbers()).toEqual(all(2, 60_000));
    r.free();
    pool.release();
  });

  test("200 pools opened and closed leave no mappings behind", async () => {
    const native = await loadNative();
    const { readFileSync } = await import("node:fs");
    const mappings = (): number => readFileSync("/proc/self/maps", "utf8").split("\n").length;
    const once = (): void => {
      const pool = acquirePool(native, { threads: 1, spinMicroseconds: 0 });
      const r = relay(native, 1, together(2));
      pool.run(r.job());
      r.free();
      pool.release();
    };
    for (let i = 0; i < 20; i++) once();
    const before = mappings();
    for (let i = 0; i < 200; i++) once();
    expect(mappings() - before).toBeLessThan(100);
  });
});
