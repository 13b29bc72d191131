// Opens the WebAssembly device: kernels become one module a launch list, run by a pool of workers on shared memory, in Node and in browsers.

import { kernelFunction, listWasm, wasmTarget } from "../../codegen/wasm/index.ts";
import { HeddleError } from "../../ir/error.ts";
import type { Kernel, SimdTarget } from "../../ir/kernel.ts";
import type { Compiled, CpuDevice, CpuDeviceOptions, Launch, LaunchList, Memory } from "../cpu.ts";
import { checkLaunches, compiledKernel } from "../launches.ts";
import { RunsInFlight } from "../runs_in_flight.ts";
import { mapInTurns } from "../turns.ts";
import { hasRelaxedSimd } from "./compile.ts";
import { type ListExports, listModule } from "./driver.ts";
import { FIRST_PAGES, Heap, MAX_PAGES } from "./heap.ts";
import { currentHost, type Host } from "./host.ts";
import { createLaunchList, type Installed, type ListHost } from "./launch_list.ts";
import { Pool } from "./pool.ts";

export interface WasmDeviceOptions extends CpuDeviceOptions {
  /** Whether to use fused multiply-add; default: where the engine has it. */
  readonly relaxed?: boolean;
  /** How long an idle thread polls for work before it sleeps. Default 200. */
  readonly spinMicroseconds?: number;
  /** Data caches of one core, bytes. Default: what nearly every processor has. */
  readonly l1?: number;
  readonly l2?: number;
}

const MAX_THREADS = 256;
const DEFAULT_SPIN_MICROSECONDS = 200;
const [DEFAULT_L1, DEFAULT_L2] = [32 << 10, 512 << 10];
/** Looks before a thread that waits for others sleeps: about 50 µs; few where threads share cores. */
const BARRIER_POLLS = 50_000;
const CROWDED_POLLS = 20;

let hasWarned = false;

/** Threads that there can be here: one, with a warning, in a page without cross-origin isolation. */
function possibleThreads(host: Host, threads: number): number {
  if (threads === 1 || host.canShare) return threads;
  if (!hasWarned) console.warn("heddle: this page is not cross-origin isolated (COOP and COEP headers), so WebAssembly runs on one thread");
  hasWarned = true;
  return 1;
}

/** Opens the device. Throws HeddleError("missing") where the engine has no WebAssembly SIMD. `guardPages` is of no use here: leaving the memory always traps. */
export async function openWasm(options: WasmDeviceOptions): Promise<CpuDevice> {
  const { threads } = options;
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS)
    throw new HeddleError("bad-argument", `device wasm: threads is ${threads}, wanted 1 to ${MAX_THREADS}`);
  const host = await currentHost();
  const relaxed = (await hasRelaxedSimd(host)) && options.relaxed !== false;
  if (options.relaxed && !relaxed) throw new HeddleError("missing", "device wasm: this JavaScript engine has no relaxed SIMD");
  return new WasmDevice(host, options, possibleThreads(host, threads), relaxed);
}

class WasmDevice implements CpuDevice, ListHost {
  readonly name = "wasm";
  readonly target: SimdTarget;
  private readonly isShared: boolean;
  private readonly barrierPolls: number;
  private readonly heap: Heap;
  private readonly pool: Pool | undefined;
  private readonly memories = new Set<Memory>();
  private readonly lists = new Set<LaunchList>();
  readonly runs = new RunsInFlight();
  private isClosed = false;

  constructor(
    readonly host: Host,
    options: WasmDeviceOptions,
    readonly threads: number,
    private readonly relaxed: boolean,
  ) {
    this.target = wasmTarget(options.l1 ?? DEFAULT_L1, options.l2 ?? DEFAULT_L2);
    this.isShared = host.canShare;
    const isCrowded = threads > host.cores;
    this.barrierPolls = isCrowded ? CROWDED_POLLS : BARRIER_POLLS;
    this.heap = new Heap(
      this.isShared
        ? new WebAssembly.Memory({ initial: FIRST_PAGES, maximum: MAX_PAGES, shared: true })
        : new WebAssembly.Memory({ initial: FIRST_PAGES }),
    );
    const spinMicroseconds = isCrowded ? 0 : (options.spinMicroseconds ?? DEFAULT_SPIN_MICROSECONDS);
    if (this.isShared) this.pool = new Pool(host, this.heap.memory, { threads, spinMicroseconds });
  }

  start(): void {
    this.assertOpen();
    this.pool?.start().catch(() => {}); // reported where somebody waits for them
  }

  alloc(bytes: number): Memory {
    this.assertOpen();
    const memory = this.heap.alloc(bytes, (m, release) => {
      this.memories.delete(m);
      this.runs.whenIdle(release);
    });
    this.memories.add(memory);
    return memory;
  }

  get codeKey(): string {
    return JSON.stringify([this.name, this.target, this.threads, this.relaxed, this.isShared, this.barrierPolls]);
  }

  async compile(kernels: readonly Kernel[]): Promise<Compiled> {
    this.assertOpen();
    const functions = await mapInTurns(kernels, (kernel, i) => kernelFunction(kernel, i, this.relaxed));
    this.assertOpen();
    const code = listModule(functions, this.threads, this.barrierPolls, this.isShared);
    return { code, kernels: kernels.map(compiledKernel) };
  }

  async load(source: Compiled | readonly Kernel[], launches: readonly Launch[]): Promise<LaunchList> {
    this.assertOpen();
    const compiled = "code" in source ? source : await this.compile(source);
    checkLaunches(compiled.kernels, launches, this.threads);
    const list = await createLaunchList(this, compiled, launches, (l) => this.lists.delete(l));
    this.lists.add(list);
    return list;
  }

  async install(module: WebAssembly.Module): Promise<Installed> {
    const { pool } = this;
    if (!pool) return this.installHere(module);
    const list = await pool.add(module);
    return {
      run: (job) => pool.run(list, job),
      runAsync: (job) => this.runs.track(() => pool.runAsync(list, job)),
      remove: () => pool.remove(list),
    };
  }

  /** Without shared memory there is only this thread, and an asynchronous run blocks it too. */
  private async installHere(module: WebAssembly.Module): Promise<Installed> {
    const instance = await WebAssembly.instantiate(module, { env: { memory: this.heap.memory } });
    const { walkAlone } = instance.exports as unknown as ListExports; // driver.ts wrote the module
    return {
      run: ({ from, to }) => walkAlone(from, to),
      runAsync: async ({ from, to }) => walkAlone(from, to),
      remove() {},
    };
  }

  async disassemble(kernel: Kernel): Promise<string> {
    return listWasm(kernel, this.relaxed);
  }

  assertOpen(): void {
    if (this.isClosed) throw new HeddleError("bad-argument", "device wasm: used after close()");
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    for (const list of [...this.lists]) list.free();
    for (const memory of [...this.memories]) memory.free();
    this.runs.whenIdle(() => this.pool?.close());
  }
}
