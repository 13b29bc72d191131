// Turns kernels' code and launches into the records that the driver walks: for each thread, function and arguments of every launch.

import type { TypedArray } from "../../ir/dtype.ts";
import { invariant } from "../../ir/error.ts";
import type { CompiledKernel, Launch, LaunchList, Memory, Slot } from "../cpu.ts";
import { chainsOf, checkRange, scratchBytes } from "../launches.ts";
import type { RunsInFlight } from "../runs_in_flight.ts";
import { LIST_HEADER, RECORD } from "./driver.ts";
import type { CodeRegion } from "./memory.ts";
import type { Job, Pool } from "./pool.ts";

/** What a list needs of its device. */
export interface ListHost {
  readonly threads: number;
  readonly pool: Pool;
  alloc(bytes: number): Memory;
  addressOf(data: TypedArray): number;
  readonly runs: RunsInFlight;
  assertOpen(): void;
}

const LINE = 64;

/** Scratch for a kernel ends where the buffer ends, so that guard pages fence it too. */
const scratchAddress = (scratch: Memory, bytes: number): number => scratch.address + scratch.bytes - Math.ceil(bytes / LINE) * LINE;

/** One scratch buffer a thread, big enough for every kernel, whole lines so that threads never share one. */
function allocateScratch(host: ListHost, kernels: readonly CompiledKernel[]): Memory[] {
  const bytes = scratchBytes(kernels);
  return bytes === 0 ? [] : Array.from({ length: host.threads }, () => host.alloc(Math.ceil(bytes / LINE) * LINE));
}

/** Where kernels begin; `idle` is a function that does nothing, for threads that a single-threaded kernel has no use for. */
export interface Entries {
  readonly kernels: readonly number[];
  readonly idle: number;
}

/** Header, then the records of thread 0, 1, …, then their arguments. Returns the bytes to be placed at `address`. */
function encode(
  kernels: readonly CompiledKernel[],
  entries: Entries,
  launches: readonly Launch[],
  scratch: readonly Memory[],
  threads: number,
  address: number,
): BigUint64Array {
  const launched = launches.map((launch) => kernels[launch.kernel]);
  const argumentCount = launched.reduce((n, k) => n + k.params.length, 0);
  const stride = launches.length * RECORD;
  const words = new BigUint64Array((LIST_HEADER + threads * stride) / 8 + threads * argumentCount);
  words[0] = BigInt(stride);
  const chains = chainsOf(launched);
  let at = (LIST_HEADER + threads * stride) / 8;
  for (let tid = 0; tid < threads; tid++)
    launches.forEach((launch, i) => {
      const record = (LIST_HEADER + tid * stride + i * RECORD) / 8;
      words[record] = BigInt(launched[i].threads > 1 || tid === 0 ? entries.kernels[launch.kernel] : entries.idle);
      words[record + 1] = BigInt(address + at * 8);
      words[record + 2] = BigInt(Math.max(0, chains[i] - 1));
      let next = 0;
      for (const param of launched[i].params)
        words[at++] = BigInt(param === null ? launch.args[next++] : scratchAddress(scratch[tid], param));
    });
  return words;
}

/** Word of an argument in what encode() returns. */
function argumentWord(
  kernels: readonly CompiledKernel[],
  launches: readonly Launch[],
  threads: number,
  tid: number,
  { launch, arg }: Slot,
): number {
  const counts = launches.map((l) => kernels[l.kernel].params.length);
  const sum = (list: readonly number[]): number => list.reduce((n, c) => n + c, 0);
  const { params } = kernels[launches[launch].kernel];
  const given = params.flatMap((p, i) => (p === null ? [i] : []));
  return (LIST_HEADER + threads * launches.length * RECORD) / 8 + tid * sum(counts) + sum(counts.slice(0, launch)) + given[arg];
}

/** Bytes that encode() needs. */
const listBytes = (kernels: readonly CompiledKernel[], launches: readonly Launch[], threads: number): number =>
  LIST_HEADER + threads * launches.reduce((n, l) => n + RECORD + 8 * kernels[l.kernel].params.length, 0);

/** `entries` lie inside `code`, which the list owns from now on. */
export function createLaunchList(
  host: ListHost,
  kernels: readonly CompiledKernel[],
  code: CodeRegion,
  entries: Entries,
  launches: readonly Launch[],
  onFree: (list: LaunchList) => void,
): LaunchList {
  const scratch = allocateScratch(host, kernels);
  const memory = host.alloc(listBytes(kernels, launches, host.threads));
  const words = encode(kernels, entries, launches, scratch, host.threads, memory.address);
  memory.view().set(new Uint8Array(words.buffer));
  const words64 = (): BigUint64Array => {
    const bytes = memory.view();
    return new BigUint64Array(bytes.buffer, bytes.byteOffset, words.length);
  };
  const chains = chainsOf(launches.map((launch) => kernels[launch.kernel]));
  const jobOf = (from: number, to: number): Job => ({
    list: memory.address,
    from: from * RECORD,
    to: to * RECORD,
    isAlone: chains[from] >= to - from,
  });
  let isFreed = false;
  const check = (from: number, to: number): void => {
    host.assertOpen();
    invariant(!isFreed, "launch list run after it was freed");
    checkRange(from, to, launches.length);
  };
  const list: LaunchList = {
    length: launches.length,
    codeBytes: code.bytes,
    run(from, to) {
      check(from, to);
      if (from < to) host.pool.run(jobOf(from, to));
    },
    async runAsync(from, to) {
      check(from, to);
      if (from < to) await host.runs.track(() => host.pool.runAsync(jobOf(from, to)));
    },
    slots(places) {
      const threads = Array.from({ length: host.threads }, (_, tid) => tid);
      const at = threads.flatMap((tid) => places.map((p) => argumentWord(kernels, launches, host.threads, tid, p)));
      const [home] = places.map(({ launch, arg }) => launches[launch].args[arg]);
      return (data) => {
        const address = BigInt(data ? host.addressOf(data) : home);
        const view = words64();
        for (const word of at) view[word] = address;
      };
    },
    free() {
      if (isFreed) return;
      isFreed = true;
      onFree(list);
      host.runs.whenIdle(() => {
        code.free();
        for (const m of [...scratch, memory]) m.free();
      });
    },
  };
  return list;
}
