// Kernels over memory that is filled, timed in turns and cold: what measurements of this machine are made with.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { CpuDevice, LaunchList, Memory } from "../devices/cpu.ts";
import type { TypedArray } from "../ir/dtype.ts";
import type { Kernel } from "../ir/kernel.ts";
import { sweepKernel, sweptLines } from "../kernels/sweep.ts";

export interface TrialCall {
  readonly kernel: Kernel;
  readonly args: readonly Memory[];
}

export interface RoundsOptions {
  /** Bytes that pass through the caches before each run, as those of other layers do. Default: none, weights stay where they are. */
  readonly swept?: number;
  /** What is read after that: activations, which another layer has just written. */
  readonly warm?: readonly Memory[];
  /** How often each contestant goes in a run: where nothing comes in between, what it reads is near but for the first time. Default: once. */
  readonly again?: number;
}

const MOST_SWEPT = 24 << 20;
const LINE = 64;
/** Bytes that are allocated at once: the system backs as many with huge pages. */
const ROOM = 8 << 20;

export class Trial {
  private readonly memories: Memory[] = [];
  /** The last of them, and how much of it is taken. */
  private room: Memory | undefined;
  private used = 0;
  private readonly lists: LaunchList[] = [];
  private swept: Memory | undefined;
  private sums: Memory | undefined;

  constructor(private readonly device: CpuDevice) {}

  /** Next to each other, on pages as large as a program's are: small layers with pages of their own for each array would mostly wait for these. */
  empty(bytes: number): Memory {
    const size = Math.ceil(bytes / LINE) * LINE;
    if (!this.room || this.used + size > this.room.bytes) {
      this.room = this.device.alloc(Math.max(size, ROOM));
      this.room.view().fill(0); // pages that were never written all lie on one
      this.memories.push(this.room);
      this.used = 0;
    }
    const [room, from] = [this.room, this.used];
    this.used += size;
    return { address: room.address + from, bytes, view: () => room.view().subarray(from, from + bytes), free: () => {} };
  }
  put(data: TypedArray): Memory {
    const memory = this.empty(data.byteLength);
    memory.view().set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    return memory;
  }

  /** Contestants that are going to take turns. */
  async rounds(contestants: readonly (readonly TrialCall[])[], { swept = 0, warm = [], again = 1 }: RoundsOptions = {}): Promise<Rounds> {
    const before = warm.map((m) => this.reading(m, m.bytes));
    const bytes = Math.min(swept, MOST_SWEPT);
    if (bytes > 0) before.unshift(this.reading(this.others(bytes), bytes));
    const idle = this.reading(this.lines(), 0);
    // All threads begin each: a run of kernels of one thread would not wait for others.
    const runs = contestants.map((calls) => [idle, ...Array.from({ length: again }, () => calls).flat()]);
    const calls = [...before, idle, ...runs.flat()];
    const kernels = [...new Set(calls.map(({ kernel }) => kernel))];
    const launches = calls.map(({ kernel, args }) => ({ kernel: kernels.indexOf(kernel), args: args.map((m) => m.address) }));
    const list = await this.device.load(kernels, launches);
    this.lists.push(list);
    return new Rounds(
      list,
      before.length,
      runs.map(({ length }) => length),
      again,
    );
  }
  private reading(memory: Memory, bytes: number): TrialCall {
    const { target, threads } = this.device;
    return { kernel: sweepKernel(bytes, target, threads), args: [memory, this.lines()] };
  }
  /** What is read between runs, and where sums of that go. */
  private others(bytes: number): Memory {
    if (!this.swept || this.swept.bytes < bytes) this.swept = this.empty(bytes);
    return this.swept;
  }
  private lines(): Memory {
    this.sums ??= this.empty(sweptLines(MOST_SWEPT));
    return this.sums;
  }

  free(): void {
    for (const list of this.lists) list.free();
    for (const memory of this.memories) memory.free();
  }
}

/** Runs of all contestants in turns, so that what disturbs one disturbs all. A series is some of them at once; several are spread in time. */
export class Rounds {
  /** Of each contestant the least nanoseconds of each series. */
  private readonly taken: readonly number[][];
  /** The least of a call without work. */
  private idle = Number.POSITIVE_INFINITY;

  constructor(
    private readonly list: LaunchList,
    /** Launches that come before each run and are not timed; one without work follows. */
    private readonly before: number,
    private readonly lengths: readonly number[],
    private readonly again = 1,
  ) {
    this.taken = lengths.map(() => []);
  }

  /** Of each contestant once the least nanoseconds of each series, without what a call takes from JavaScript. */
  get lows(): readonly (readonly number[])[] {
    return this.taken.map((all) => all.map((ns) => Math.max(ns - this.idle, 1) / this.again));
  }

  /** `isFirst`: with a run of each that is not counted. */
  async series(runs: number, isFirst = this.taken[0].length === 0): Promise<void> {
    const { before, lengths } = this;
    const all = [1, ...lengths];
    const least = all.map(() => Number.POSITIVE_INFINITY);
    for (let run = isFirst ? -1 : 0; run < runs; run++)
      for (let i = 0, from = before; i < all.length; from += all[i], i++) {
        if (before > 0) this.list.run(0, before);
        const ns = this.time(from, from + all[i]);
        if (run >= 0) least[i] = Math.min(least[i], ns);
        await nextTurn();
      }
    const [idle, ...own] = least;
    this.idle = Math.min(this.idle, idle); // a call that was disturbed would be taken from all
    for (const [i, ns] of own.entries()) this.taken[i].push(ns);
  }
  /** How far series of a contestant disagree: the middle one over a low one. */
  spread(): number {
    const middle = (lows: readonly number[]): number => [...lows].sort((a, b) => a - b)[lows.length >> 1];
    return Math.max(...this.lows.map((lows) => middle(lows) / lowOf(lows)));
  }
  private time(from: number, to: number): number {
    const start = performance.now();
    this.list.run(from, to);
    return (performance.now() - start) * 1e6;
  }
}

/** Of what series found a low one that others come close to: the least may be luck, and most of them another process. */
export const lowOf = (lows: readonly number[]): number => {
  const sorted = [...lows].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 4)];
};

/** Times as long as the first the second took in the middle one of their series, the longer one of two: in each they took turns, and what slows one down slows both. */
export function ratioOf([first, second]: readonly (readonly number[])[]): number {
  const ratios = second.map((ns, i) => ns / first[i]).sort((a, b) => a - b);
  return ratios[ratios.length >> 1];
}

/** Series of all, one after another in turns, until those of each agree, so far as they do. Returns how far most of them disagree in the end. */
export async function inSeries(all: readonly Rounds[], runs: number): Promise<number> {
  for (let series = 0; series < MOST_SERIES; series++)
    for (const rounds of all) if (series < LEAST_SERIES || rounds.spread() > STEADY) await rounds.series(runs);
  const spreads = all.map((rounds) => rounds.spread()).sort((a, b) => a - b);
  return spreads[Math.floor((spreads.length * 3) / 4)];
}
const LEAST_SERIES = 4;
const MOST_SERIES = 8;
/** Series that are no further apart agree. */
const STEADY = 1.06;
