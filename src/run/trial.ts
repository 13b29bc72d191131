// Kernels over memory that is filled, timed in turns: what measurements of this machine are made with.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { CpuDevice, Memory } from "../devices/cpu.ts";
import type { TypedArray } from "../ir/dtype.ts";
import type { Kernel } from "../ir/kernel.ts";

export interface TrialCall {
  readonly kernel: Kernel;
  readonly args: readonly Memory[];
}

export class Trial {
  private readonly memories: Memory[] = [];

  constructor(private readonly device: CpuDevice) {}

  empty(bytes: number): Memory {
    const memory = this.device.alloc(bytes);
    memory.view().fill(0); // pages that were never written all lie on one
    this.memories.push(memory);
    return memory;
  }
  put(data: TypedArray): Memory {
    const memory = this.empty(data.byteLength);
    memory.view().set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    return memory;
  }

  /** The least nanoseconds that each contestant's calls took together. */
  async least(contestants: readonly (readonly TrialCall[])[], runs: number): Promise<number[]> {
    const calls = contestants.flat();
    const kernels = [...new Set(calls.map(({ kernel }) => kernel))];
    const launches = calls.map(({ kernel, args }) => ({ kernel: kernels.indexOf(kernel), args: args.map((m) => m.address) }));
    const list = await this.device.load(kernels, launches);
    const ns = contestants.map(() => Number.POSITIVE_INFINITY);
    for (let run = 0; run < runs; run++)
      for (let i = 0, from = 0; i < contestants.length; from += contestants[i].length, i++) {
        const start = performance.now();
        list.run(from, from + contestants[i].length);
        ns[i] = Math.min(ns[i], (performance.now() - start) * 1e6);
        await nextTurn();
      }
    list.free();
    return ns;
  }

  free(): void {
    for (const memory of this.memories) memory.free();
  }
}
