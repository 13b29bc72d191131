// The CUDA device: memory, kernels compiled at run time, and launch lists replayed as captured graphs, through the driver's own functions.
import { type CudaOptions as PrintOptions, printCuda } from "../../codegen/cuda/index.ts";
import { DTYPES, type DType, type TypedArray } from "../../ir/dtype.ts";
import { HeddleError, invariant } from "../../ir/error.ts";
import { type GpuKernel, isLibraryKernel, type LibraryConv, type LibraryGemm } from "../../ir/library_kernel.ts";
import type { SimtKernel, SimtTarget } from "../../ir/simt.ts";
import type { GpuDevice, GpuLaunch, GpuLaunchList, GpuMemory } from "../gpu.ts";
import { CudaBlas } from "./blas.ts";
import { compileCubin, compilePtx } from "./compiler.ts";
import { type CudaContext, openContext } from "./context.ts";
import { CudaDnn } from "./dnn.ts";
import { type CudaApi, type Handle, loadCuda, NOT_READY, OUT_OF_MEMORY } from "./driver.ts";
import { FollowedLaunches } from "./followed.ts";
import { kernelLaunch, type LaunchCode } from "./launch.ts";

export interface CudaOptions {
  /** Which GPU, from 0. */
  readonly ordinal?: number;
  /** Traps at any access outside of a buffer: for tests. */
  readonly isChecked?: boolean;
}

/** Numbers of cuDeviceGetAttribute. */
const ATTRIBUTE = { multiprocessors: 16, major: 75, minor: 76, sharedBytes: 97 } as const;
/** Kernels whose start overlaps the end of those before: GPUs from Hopper on, and drivers that capture such launches. */
const OVERLAP = { major: 9, driver: 12030 } as const;
/** Compute capability (8.9) of the first GPUs that multiply float8 numbers. */
const FLOAT8_UNITS = 89;
const NON_BLOCKING = 1;
const CAPTURE_THREAD_LOCAL = 1;

/** Throws HeddleError("missing") where there is no driver or no such GPU. */
export async function openCuda({ ordinal = 0, isChecked = false }: CudaOptions = {}): Promise<CudaDevice> {
  const cuda = await loadCuda();
  const failed = cuda.attempt("cuInit", 0);
  if (failed !== 0) throw new HeddleError("missing", `device cuda: the driver does not start: ${cuda.errorText(failed)}`);
  const count = new Int32Array(1);
  cuda.driver("cuDeviceGetCount", count);
  if (ordinal >= count[0])
    throw new HeddleError("missing", `device cuda:${ordinal}: this machine has ${count[0]} CUDA device${count[0] === 1 ? "" : "s"}`);
  return new CudaDevice(cuda, ordinal, isChecked);
}

class CudaMemory implements GpuMemory {
  address: Handle;
  constructor(
    private readonly device: CudaDevice,
    readonly bytes: number,
  ) {
    this.address = device.allocate(bytes);
  }
  free(): void {
    if (this.address !== 0n) this.device.release(this.address);
    this.address = 0n;
  }
}

const bytesOf = (data: TypedArray): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

export class CudaDevice implements GpuDevice {
  readonly name = "cuda";
  readonly target: SimtTarget;
  readonly alignment = 256;
  readonly blas: CudaBlas | null;
  readonly dnn: CudaDnn | null;
  readonly description: string;
  readonly codeKey: string;
  readonly multiprocessors: number;
  readonly stream: Handle;
  readonly cuda: CudaApi;
  /** Whether a kernel may start before the one before it has ended. */
  readonly isOverlapped: boolean;
  /** Launches that are not replayed. */
  readonly followed: FollowedLaunches;
  private readonly context: CudaContext;
  private readonly arch: string;
  private readonly device: number;

  constructor(
    api: CudaApi,
    readonly ordinal: number,
    private readonly isChecked: boolean,
  ) {
    const device = new Int32Array(1);
    api.driver("cuDeviceGet", device, ordinal);
    this.device = device[0];
    this.context = openContext(api, this.device);
    const { cuda } = this.context;
    this.cuda = cuda;
    const name = Buffer.alloc(256);
    cuda.driver("cuDeviceGetName", name, name.length, this.device);
    this.description = name.toString("latin1", 0, name.indexOf(0));
    const [major, minor] = [this.attribute(ATTRIBUTE.major), this.attribute(ATTRIBUTE.minor)];
    this.multiprocessors = this.attribute(ATTRIBUTE.multiprocessors);
    this.arch = `sm_${major}${minor}${major >= 9 ? "a" : ""}`;
    this.isOverlapped = major >= OVERLAP.major && this.driverVersion() >= OVERLAP.driver;
    this.stream = cuda.handle("cuStreamCreate", NON_BLOCKING);
    this.followed = new FollowedLaunches(cuda, this.stream);
    const gpu = JSON.stringify([this.description, this.arch, this.driverVersion()]);
    this.blas = CudaBlas.open(cuda, this.stream, gpu);
    this.dnn = CudaDnn.open(cuda, this.stream, gpu, (bytes) => this.allocate(bytes));
    const hasTensorCores = major >= 8;
    this.target = {
      name: "cuda",
      subgroup: 32,
      maxThreads: 1024,
      sharedBytes: this.attribute(ATTRIBUTE.sharedBytes),
      units: this.multiprocessors,
      maxGroups: 65535,
      maxBuffers: 64,
      hasSets: true,
      hasGemm: this.blas !== null,
      hasFloat8: this.blas !== null && 10 * major + minor >= FLOAT8_UNITS,
      hasConvolutions: this.dnn !== null,
      opensFragments: hasTensorCores,
      fragments: hasTensorCores ? ["f16", "bf16", "f32"] : [],
      storedBytes: Object.fromEntries(Object.entries(DTYPES).map(([dtype, { bytes }]) => [dtype, bytes])),
    };
    this.codeKey = JSON.stringify([this.description, this.arch, this.printing, this.alignment, this.target]);
  }

  private attribute(number: number): number {
    const value = new Int32Array(1);
    this.cuda.driver("cuDeviceGetAttribute", value, number, this.device);
    return value[0];
  }

  private driverVersion(): number {
    const version = new Int32Array(1);
    this.cuda.driver("cuDriverGetVersion", version);
    return version[0];
  }
  private get printing(): PrintOptions {
    return { isChecked: this.isChecked, isOverlapped: this.isOverlapped };
  }

  memory(): { totalBytes: number; freeBytes: number } {
    const [free, total] = [new BigUint64Array(1), new BigUint64Array(1)];
    this.cuda.driver("cuMemGetInfo_v2", free, total);
    return { totalBytes: Number(total[0]), freeBytes: Number(free[0]) };
  }

  alloc(bytes: number): CudaMemory {
    return new CudaMemory(this, Math.max(1, bytes));
  }
  /** Zeroed bytes at a device address. */
  allocate(bytes: number): Handle {
    this.context.assertWorks();
    const out = new BigUint64Array(1);
    const code = this.cuda.attempt("cuMemAlloc_v2", out, bytes);
    if (code === OUT_OF_MEMORY) {
      const { freeBytes, totalBytes } = this.memory();
      throw new HeddleError("limit", `device cuda:${this.ordinal}: ${bytes} bytes are needed, ${freeBytes} of ${totalBytes} are free`);
    }
    if (code !== 0) throw new HeddleError("io", `device cuda: cuMemAlloc: ${this.cuda.errorText(code)}`);
    this.cuda.driver("cuMemsetD8Async", out[0], 0, bytes, this.stream);
    return out[0];
  }
  release(address: Handle): void {
    this.cuda.attempt("cuMemFree_v2", address); // gone already where a kernel failed
  }

  write(to: GpuMemory, offset: number, _dtype: DType, data: TypedArray): void {
    if (data.length > 0) this.cuda.driver("cuMemcpyHtoDAsync_v2", addressIn(to, offset), data, data.byteLength, this.stream);
  }
  async read(from: GpuMemory, offset: number, dtype: DType, count: number): Promise<TypedArray> {
    const data = new DTYPES[dtype].array(count);
    if (count === 0) return data;
    await this.sync();
    this.cuda.driver("cuMemcpyDtoHAsync_v2", bytesOf(data), addressIn(from, offset), data.byteLength, this.stream);
    this.cuda.driver("cuStreamSynchronize", this.stream);
    return data;
  }

  async load(kernels: readonly GpuKernel[], launches: readonly GpuLaunch[], code?: Uint8Array): Promise<GpuLaunchList> {
    const own = kernels.filter((k): k is SimtKernel => !isLibraryKernel(k));
    return new CudaLaunchList(this, kernels, own.length > 0 ? (code ?? this.compile(own)) : null, launches);
  }
  compile(kernels: readonly SimtKernel[]): Uint8Array {
    return compileCubin(this.cuda, printCuda(kernels, this.printing), this.arch);
  }
  print(kernel: SimtKernel): string {
    return printCuda([kernel], this.printing);
  }
  async disassemble(kernel: SimtKernel): Promise<string> {
    return compilePtx(this.cuda, printCuda([kernel], this.printing), this.arch);
  }

  /** The event loop turns while the GPU works. */
  async sync(): Promise<void> {
    for (;;) {
      this.context.assertWorks();
      const code = this.cuda.attempt("cuStreamQuery", this.stream);
      if (code === 0) return this.followed.clear();
      if (code !== NOT_READY) throw this.failure(code, this.followed.failed());
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  /** What an asynchronous error becomes: of the launch of this name, or of one among many. */
  failure(code: number, launch?: string): HeddleError {
    const what = launch ?? "a kernel queued before";
    const hint = launch ? "" : "; with HEDDLE_DEBUG=1 kernels are waited for one by one, and the message names the one";
    return this.context.fail(new HeddleError("io", `device cuda:${this.ordinal}: ${what} failed: ${this.cuda.errorText(code)}${hint}`));
  }

  works(): boolean {
    return this.context.works();
  }

  async close(): Promise<void> {
    if (!this.works()) return;
    this.cuda.attempt("cuStreamSynchronize", this.stream);
    this.blas?.close();
    this.dnn?.close();
    this.followed.close();
    this.cuda.attempt("cuStreamDestroy_v2", this.stream);
    this.context.close();
  }
}

function addressIn(memory: GpuMemory, offset: number): Handle {
  invariant(memory instanceof CudaMemory && memory.address !== 0n, "a CUDA launch with memory that is freed or another device's");
  return memory.address + BigInt(offset);
}

/** One launch, ready. */
interface Prepared extends LaunchCode {
  /** Of the kernel and the node, for errors. */
  readonly name: string;
}

class CudaLaunchList implements GpuLaunchList {
  readonly length: number;
  readonly codeBytes: number;
  private readonly module: Handle | null;
  private readonly prepared: readonly Prepared[];
  /** Captured stretches, by "from-to"; each is captured when it runs for the second time. */
  private readonly graphs = new Map<string, Handle | null>();

  /** `cubin` is of the kernels that no library computes. */
  constructor(
    private readonly device: CudaDevice,
    kernels: readonly GpuKernel[],
    private readonly cubin: Uint8Array | null,
    launches: readonly GpuLaunch[],
  ) {
    const { cuda } = device;
    this.length = launches.length;
    this.codeBytes = cubin?.byteLength ?? 0;
    const module = cubin && cuda.handle("cuModuleLoadData", cubin);
    this.module = module;
    const functions = kernels.map((k) => (isLibraryKernel(k) ? 0n : cuda.handle("cuModuleGetFunction", module, k.name)));
    this.prepared = launches.map(({ kernel: number, args, from }) => {
      const kernel = kernels[number];
      const { params, name } = kernel;
      invariant(args.length === params.length, `${name}: ${params.length} buffers, ${args.length} given`);
      for (const [i, { bytes }] of args.entries())
        invariant(bytes >= params[i].bytes, `${name}: ${params[i].name} has ${bytes} bytes of ${params[i].bytes}`);
      const addresses = args.map((a) => addressIn(a.memory, a.offset));
      const code = isLibraryKernel(kernel)
        ? this.library(kernel, addresses)
        : kernelLaunch(cuda, device.stream, kernel, functions[number], addresses, device.isOverlapped);
      return { ...code, name: `kernel ${name}${from ? ` of ${from}` : ""}` };
    });
  }

  private library(kernel: LibraryGemm | LibraryConv, addresses: readonly Handle[]): LaunchCode {
    const { blas, dnn } = this.device;
    invariant(kernel.library === "gemm" ? blas : dnn, `${kernel.name}: its library is not there`);
    const ready = kernel.library === "gemm" ? blas!.prepare(kernel, addresses) : dnn!.prepare(kernel, addresses); // as they are there
    return { launch: () => ready.call(), free: () => ready.free() };
  }

  code(): Uint8Array {
    return this.cubin ?? new Uint8Array();
  }

  run(from: number, to: number, isOneByOne = false): void {
    invariant(from >= 0 && from <= to && to <= this.length, `launch list: range ${from}..${to} of ${this.length} launches`);
    if (Number(process.env.HEDDLE_DEBUG) >= 1) {
      for (const p of this.prepared.slice(from, to)) this.runAlone(p);
      return;
    }
    const isFirst = !this.graphs.has(`${from}-${to}`);
    const graph = isOneByOne ? null : this.captured(from, to);
    if (graph) this.device.cuda.driver("cuGraphLaunch", graph, this.device.stream);
    else
      for (const p of this.prepared.slice(from, to)) {
        p.launch();
        if (isFirst) this.device.followed.add(p.name);
      }
  }

  private runAlone(p: Prepared): void {
    p.launch();
    const code = this.device.cuda.attempt("cuStreamSynchronize", this.device.stream);
    if (code !== 0) throw this.device.failure(code, p.name);
  }

  /** The stretch as one launch; null the first time. */
  private captured(from: number, to: number): Handle | null {
    const key = `${from}-${to}`;
    const known = this.graphs.get(key);
    if (known !== undefined && known !== null) return known;
    if (known === undefined || to - from < 2) {
      this.graphs.set(key, null);
      return null;
    }
    const { cuda, stream } = this.device;
    cuda.driver("cuStreamBeginCapture_v2", stream, CAPTURE_THREAD_LOCAL);
    for (let i = from; i < to; i++) this.prepared[i].launch();
    const out = new BigUint64Array(1);
    cuda.driver("cuStreamEndCapture", stream, out);
    const graph = cuda.handle("cuGraphInstantiateWithFlags", out[0], 0);
    cuda.driver("cuGraphDestroy", out[0]);
    this.graphs.set(key, graph);
    return graph;
  }

  async profile(): Promise<readonly number[]> {
    const { cuda, stream } = this.device;
    const events = Array.from({ length: this.length + 1 }, () => cuda.handle("cuEventCreate", 0));
    cuda.driver("cuEventRecord", events[0], stream);
    for (const [i, p] of this.prepared.entries()) {
      p.launch();
      cuda.driver("cuEventRecord", events[i + 1], stream);
    }
    await this.device.sync();
    const ms = new Float32Array(1);
    const times = this.prepared.map((_, i) => {
      cuda.driver("cuEventElapsedTime", ms, events[i], events[i + 1]);
      return ms[0];
    });
    for (const e of events) cuda.driver("cuEventDestroy_v2", e);
    return times;
  }

  free(): void {
    const { cuda } = this.device;
    if (!this.device.works()) return;
    for (const graph of this.graphs.values()) if (graph) cuda.attempt("cuGraphExecDestroy", graph);
    this.graphs.clear();
    for (const p of this.prepared) p.free();
    if (this.module) cuda.attempt("cuModuleUnload", this.module);
  }
}
