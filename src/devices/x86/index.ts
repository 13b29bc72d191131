// Opens the x86-64 device: kernels become machine code in executable memory, launched on a pool of threads.

import { avx2Target, avx512Target } from "../../codegen/x86/target.ts";
import type { TypedArray } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";
import type { Kernel, SimdTarget } from "../../ir/kernel.ts";
import type { Compiled, CpuDevice, CpuDeviceOptions, Launch, LaunchList, Memory } from "../cpu.ts";
import { checkLaunches, compiledKernel } from "../launches.ts";
import { type MachineFacts, machineFacts } from "../machine.ts";
import { RunsInFlight } from "../runs_in_flight.ts";
import { mapInTurns } from "../turns.ts";
import { MAX_THREADS } from "./control.ts";
import { createLaunchList, type ListHost } from "./launch_list.ts";
import { allocate, joinCode, placeCode } from "./memory.ts";
import { loadNative, type Native } from "./native.ts";
import { acquirePool, type Pool } from "./pool.ts";

export interface X86Options extends CpuDeviceOptions {
  /** Default: the widest this processor has. */
  readonly isa?: "avx512" | "avx2";
  /** How long an idle thread polls for work before it sleeps. Default 200. */
  readonly spinMicroseconds?: number;
  /** Default: binds the other threads to a core each; true: this one too; false: none. */
  readonly pin?: boolean;
}

const DEFAULT_SPIN_MICROSECONDS = 200;
/** The function that does nothing. */
const RETURN = Uint8Array.of(0xc3);

/** The instruction set to generate code for; throws where this machine cannot run such code. */
export function chooseIsa(options: Pick<X86Options, "isa">, machine: MachineFacts): "avx512" | "avx2" {
  if (machine.arch !== "x64" || machine.platform !== "linux")
    throw new HeddleError(
      "missing",
      `device x86: needs x86-64 Linux, this is ${machine.arch} ${machine.platform}; use the WebAssembly device`,
    );
  if (!machine.isa) throw new HeddleError("missing", `device x86: ${machine.cpu} has no AVX2 with FMA; use the WebAssembly device`);
  if (options.isa === "avx512" && machine.isa !== "avx512")
    throw new HeddleError("missing", `device x86: ${machine.cpu} has no AVX-512 (F, BW, DQ, VL); use isa "avx2"`);
  return options.isa ?? machine.isa;
}

/** Opens the device. Throws HeddleError("missing") where koffi, Linux on x86-64, or AVX2 with FMA is not there. */
export async function openX86(options: X86Options): Promise<CpuDevice> {
  const { threads } = options;
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS)
    throw new HeddleError("bad-argument", `device x86: threads is ${threads}, wanted 1 to ${MAX_THREADS}`);
  const machine = machineFacts();
  const isa = chooseIsa(options, machine);
  const native = await loadNative();
  const pool = acquirePool(native, { threads, spinMicroseconds: options.spinMicroseconds ?? DEFAULT_SPIN_MICROSECONDS, pin: options.pin });
  const { l1, l2, dotsBf16, splitsIndexed, slowWordLookups } = machine;
  const target = (isa === "avx512" ? avx512Target : avx2Target)(l1, l2, { dotsBf16, splitsIndexed, slowWordLookups });
  return new X86Device(native, pool, target, threads, options.guardPages ?? false);
}

class X86Device implements CpuDevice, ListHost {
  readonly name = "x86";
  private readonly memories = new Set<Memory>();
  private readonly lists = new Set<LaunchList>();
  readonly runs = new RunsInFlight();
  private isClosed = false;

  constructor(
    private readonly native: Native,
    readonly pool: Pool,
    readonly target: SimdTarget,
    readonly threads: number,
    private readonly guardPages: boolean,
  ) {}

  start(): void {
    this.assertOpen();
    this.pool.start();
  }

  alloc(bytes: number): Memory {
    this.assertOpen();
    const memory = allocate(this.native, bytes, this.guardPages, (m, unmap) => {
      this.memories.delete(m);
      this.runs.whenIdle(unmap);
    });
    this.memories.add(memory);
    return memory;
  }

  /** The processor's model is not part of it: code is made for an instruction set and sizes of caches. */
  get codeKey(): string {
    return JSON.stringify([this.name, this.target, this.threads]);
  }

  addressOf(data: TypedArray): number {
    return this.native.addressOf(data);
  }

  async compile(kernels: readonly Kernel[]): Promise<Compiled> {
    this.start(); // threads come up while kernels are compiled
    const { emitX86 } = await import("../../codegen/x86/index.ts");
    const emitted = await mapInTurns(kernels, (kernel) => emitX86(kernel, this.target));
    this.assertOpen();
    const { code, at } = joinCode(emitted.map((e) => e.code));
    return { code, kernels: kernels.map((kernel, i) => compiledKernel(kernel, at[i] + emitted[i].entry)) };
  }

  async load(source: Compiled | readonly Kernel[], launches: readonly Launch[]): Promise<LaunchList> {
    this.start();
    const { code, kernels } = "code" in source ? source : await this.compile(source);
    checkLaunches(kernels, launches, this.threads);
    const region = placeCode(this.native, [code, RETURN]);
    const entries = { kernels: kernels.map((k) => region.at[0] + k.entry), idle: region.at[1] };
    const list = createLaunchList(this, kernels, region, entries, launches, (l) => this.lists.delete(l));
    this.lists.add(list);
    return list;
  }

  async disassemble(kernel: Kernel): Promise<string> {
    const { listX86 } = await import("../../codegen/x86/index.ts");
    return listX86(kernel, this.target);
  }

  assertOpen(): void {
    if (this.isClosed) throw new HeddleError("bad-argument", "device x86: used after close()");
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    for (const list of [...this.lists]) list.free();
    for (const memory of [...this.memories]) memory.free();
    this.runs.whenIdle(() => this.pool.release());
  }
}
