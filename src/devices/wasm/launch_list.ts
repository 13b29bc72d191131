// Turns kernels and launches into records in WebAssembly's memory and a module that walks them.

import { invariant } from "../../ir/error.ts";
import type { Compiled, CompiledKernel, Launch, LaunchList, Memory } from "../cpu.ts";
import { chainsOf, checkRange, scratchBytes } from "../launches.ts";
import type { RunsInFlight } from "../runs_in_flight.ts";
import { compileModule } from "./compile.ts";
import { RECORD } from "./driver.ts";
import type { Host } from "./host.ts";

/** What a list needs of its device. */
export interface ListHost {
  readonly host: Host;
  readonly threads: number;
  alloc(bytes: number): Memory;
  assertOpen(): void;
  /** Puts the module into every thread. */
  install(module: WebAssembly.Module): Promise<Installed>;
  readonly runs: RunsInFlight;
}
/** What is run: thread 0's records between two addresses and, so many bytes on, those of the others, which may have nothing to do. */
export interface Job {
  readonly from: number;
  readonly to: number;
  readonly stride: number;
  readonly isAlone: boolean;
}
/** A module in every thread. */
export interface Installed {
  run(job: Job): void;
  runAsync(job: Job): Promise<void>;
  remove(): void;
}

const LINE = 64;
const roundUp = (bytes: number): number => Math.ceil(bytes / LINE) * LINE;

/** One scratch buffer a thread, big enough for every kernel, whole lines so that threads never share one. */
function allocateScratch(device: ListHost, kernels: readonly CompiledKernel[]): Memory[] {
  const bytes = scratchBytes(kernels);
  return bytes === 0 ? [] : Array.from({ length: device.threads }, () => device.alloc(roundUp(bytes)));
}

/** Bytes of one thread's records. */
const strideOf = (launches: readonly Launch[]): number => roundUp(launches.length * RECORD);

/** The records of thread 0, 1, …, then their argument addresses; to be placed at `address`. */
function encode(
  kernels: readonly CompiledKernel[],
  launches: readonly Launch[],
  scratch: readonly Memory[],
  threads: number,
  address: number,
): Uint32Array {
  const stride = strideOf(launches) / 4;
  const launched = launches.map((launch) => kernels[launch.kernel]);
  const argumentCount = launched.reduce((n, k) => n + k.params.length, 0);
  const words = new Uint32Array(threads * (stride + argumentCount));
  const chains = chainsOf(launched);
  let at = threads * stride;
  for (let tid = 0; tid < threads; tid++)
    launches.forEach((launch, i) => {
      const record = tid * stride + (i * RECORD) / 4;
      words[record] = launched[i].threads === 1 && tid > 0 ? kernels.length : launched[i].entry; // after the kernels: a function that does nothing
      words[record + 1] = address + at * 4;
      words[record + 2] = Math.max(0, chains[i] - 1);
      let next = 0;
      for (const param of launched[i].params) words[at++] = param === null ? launch.args[next++] : scratch[tid].address;
    });
  return words;
}

export async function createLaunchList(
  device: ListHost,
  { code, kernels }: Compiled,
  launches: readonly Launch[],
  onFree: (list: LaunchList) => void,
): Promise<LaunchList> {
  const { threads } = device;
  const installed = await device.install(await compileModule(device.host, code));
  device.assertOpen();
  const scratch = allocateScratch(device, kernels);
  const size = encode(kernels, launches, scratch, threads, 0).byteLength;
  const memory = device.alloc(size);
  memory.view().set(new Uint8Array(encode(kernels, launches, scratch, threads, memory.address).buffer));
  const stride = strideOf(launches);
  const chains = chainsOf(launches.map((launch) => kernels[launch.kernel]));
  const jobOf = (from: number, to: number): Job => ({
    from: memory.address + from * RECORD,
    to: memory.address + to * RECORD,
    stride,
    isAlone: chains[from] >= to - from,
  });
  let isFreed = false;
  const check = (from: number, to: number): void => {
    device.assertOpen();
    invariant(!isFreed, "launch list run after it was freed");
    checkRange(from, to, launches.length);
  };
  const list: LaunchList = {
    length: launches.length,
    codeBytes: code.length,
    run(from, to) {
      check(from, to);
      if (from < to) installed.run(jobOf(from, to));
    },
    async runAsync(from, to) {
      check(from, to);
      if (from < to) await installed.runAsync(jobOf(from, to));
    },
    free() {
      if (isFreed) return;
      isFreed = true;
      onFree(list);
      device.runs.whenIdle(() => {
        installed.remove();
        for (const m of [...scratch, memory]) m.free();
      });
    },
  };
  return list;
}
