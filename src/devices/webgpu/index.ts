// The WebGPU device: the browser's, or Dawn in Node; buffers, cached pipelines, and one submission for a stretch of launches.
import { FRAGMENT_FEATURES, fragmentTypes } from "../../codegen/wgsl/fragments.ts";
import { printWgsl, storedType } from "../../codegen/wgsl/index.ts";
import { DTYPES, type DType, type TypedArray } from "../../ir/dtype.ts";
import { HeddleError, invariant } from "../../ir/error.ts";
import { asMoved } from "../../ir/float8.ts";
import { type GpuKernel, isLibraryKernel } from "../../ir/library_kernel.ts";
import type { SimtKernel, SimtTarget } from "../../ir/simt.ts";
import { fromNumbers, toNumbers } from "../../ir/tensor.ts";
import type { GpuDevice, GpuLaunch, GpuLaunchList, GpuMemory, GpuRange } from "../gpu.ts";

/** Bits of GPUBufferUsage and GPUMapMode, which Node has no globals for. */
const USAGE = { mapRead: 1, copySrc: 4, copyDst: 8, storage: 128, queryResolve: 512 } as const;
const MAP_READ = 1;

/** Optional features that kernels use where they are there. */
const FEATURES = ["shader-f16", "timestamp-query", "subgroups"] as const satisfies readonly GPUFeatureName[];
/** WebGPU does not tell how many multiprocessors there are; GPUs with matrix units have some dozens. */
const UNITS_WITH_FRAGMENTS = 64;
const LIMITS = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupStorageSize",
  "maxComputeWorkgroupsPerDimension",
] as const satisfies readonly (keyof GPUSupportedLimits)[];

let entry: Promise<GPU> | undefined;

/** The browser's WebGPU, or that of the package `webgpu`: one for the process, which Dawn's devices must not outlive. */
function entryPoint(): Promise<GPU> {
  entry ??= findEntryPoint();
  entry.catch(() => {
    entry = undefined; // it may be installed meanwhile
  });
  return entry;
}
async function findEntryPoint(): Promise<GPU> {
  const own = (globalThis.navigator as { readonly gpu?: GPU } | undefined)?.gpu;
  if (own) return own;
  if (typeof process === "undefined") throw new HeddleError("missing", "device webgpu: this browser has no WebGPU");
  return (await import("./node.ts")).dawn();
}

const noAdapter = async (): Promise<string> =>
  typeof process === "undefined" ? "this browser finds no GPU" : (await import("./node.ts")).adapterRemedy();

/** Throws HeddleError("missing") where there is no WebGPU, or no adapter. */
export async function openWebGpu(): Promise<WebGpuDevice> {
  const gpu = await entryPoint();
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new HeddleError("missing", `device webgpu: ${await noAdapter()}`);
  const features = [...FEATURES, ...(FRAGMENT_FEATURES as readonly GPUFeatureName[])].filter((f) => adapter.features.has(f)); // an experiment, of which the types do not know
  const requiredLimits = Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]]));
  const device = await adapter.requestDevice({ requiredFeatures: features, requiredLimits });
  return new WebGpuDevice(device, adapter.info);
}

/** Threads of a subgroup; 0 where their number may differ from kernel to kernel: which threads are together is not known then. */
const subgroupSize = ({ subgroupMinSize, subgroupMaxSize }: GPUAdapterInfo): number =>
  subgroupMinSize === subgroupMaxSize ? subgroupMinSize : 0;

class WebGpuMemory implements GpuMemory {
  constructor(
    readonly bytes: number,
    readonly buffer: GPUBuffer,
  ) {}
  free(): void {
    this.buffer.destroy();
  }
}

const align = (bytes: number, to: number): number => Math.ceil(bytes / to) * to;

export class WebGpuDevice implements GpuDevice {
  readonly name = "webgpu";
  readonly target: SimtTarget;
  readonly alignment: number;
  readonly description: string;
  readonly codeKey: string;
  readonly hasF16: boolean;
  /** What the device reported since the last sync. */
  private readonly errors: HeddleError[] = [];
  private lost: HeddleError | undefined;
  private isClosing = false;
  /** Memory that was asked for, and whether it could be had. */
  private readonly allocations: Promise<void>[] = [];

  constructor(
    readonly device: GPUDevice,
    info: GPUAdapterInfo,
  ) {
    const { limits, features } = device;
    this.hasF16 = features.has("shader-f16");
    this.alignment = limits.minStorageBufferOffsetAlignment;
    this.description = [info.vendor, info.architecture, info.description].filter(Boolean).join(" ") || "unnamed GPU";
    const dtypes = Object.keys(DTYPES) as DType[]; // the table's keys
    const fragments = this.hasF16 ? fragmentTypes(info, features) : [];
    this.target = {
      name: "wgsl",
      subgroup: features.has("subgroups") ? subgroupSize(info) : 0,
      maxThreads: Math.min(256, limits.maxComputeInvocationsPerWorkgroup),
      sharedBytes: limits.maxComputeWorkgroupStorageSize,
      maxGroups: limits.maxComputeWorkgroupsPerDimension,
      maxBuffers: limits.maxStorageBuffersPerShaderStage,
      holdsCopies: true,
      fragments,
      units: fragments.length > 0 ? UNITS_WITH_FRAGMENTS : undefined,
      storedBytes: Object.fromEntries(dtypes.flatMap((d) => this.storedEntry(d))),
    };
    this.codeKey = JSON.stringify([this.description, this.alignment, this.target]);
    device.addEventListener("uncapturederror", ({ error }) => {
      const isMemory = typeof GPUOutOfMemoryError !== "undefined" && error instanceof GPUOutOfMemoryError;
      this.errors.push(new HeddleError(isMemory ? "limit" : "io", `device webgpu: ${error.message.split("\n")[0]}`));
    });
    device.lost.then(({ reason, message }) => {
      if (!this.isClosing)
        this.lost = new HeddleError(
          "io",
          `device webgpu: the device is lost (${reason || "unknown"}): ${message.split("\n")[0]}; load the model again`,
        );
    });
  }

  private storedEntry(dtype: DType): [DType, number][] {
    const type = storedType(dtype, this.hasF16);
    return type ? [[dtype, type === "f16" ? 2 : 4]] : [];
  }

  alloc(bytes: number): WebGpuMemory {
    this.assertHealthy();
    const size = align(Math.max(4, bytes), 4);
    const { maxBufferSize } = this.device.limits;
    if (size > maxBufferSize)
      throw new HeddleError("limit", `device webgpu: ${bytes} bytes are needed in one buffer, which has ${maxBufferSize} at most here`);
    const usage = USAGE.storage | USAGE.copySrc | USAGE.copyDst;
    this.device.pushErrorScope("out-of-memory");
    const buffer = this.device.createBuffer({ size, usage });
    this.allocations.push(this.allocated(bytes, this.device.popErrorScope()));
    return new WebGpuMemory(size, buffer);
  }
  /** Whether there was memory is known later: load() waits for it. */
  private async allocated(bytes: number, outcome: Promise<GPUError | null>): Promise<void> {
    const error = await outcome.catch(() => null); // a lost device, which is told elsewhere
    if (error)
      this.errors.push(new HeddleError("limit", `device webgpu: ${bytes} bytes are needed, which the GPU does not have: ${error.message}`));
  }

  write(to: GpuMemory, offset: number, dtype: DType, data: TypedArray): void {
    const stored = this.toStored(dtype, data);
    if (stored.byteLength > 0) this.device.queue.writeBuffer(bufferOf(to), offset, stored);
  }

  /** In the device's form, as a multiple of 4 bytes. */
  private toStored(dtype: DType, data: TypedArray): Uint8Array<ArrayBuffer> {
    const type = this.stored(dtype);
    const moved = asMoved(dtype);
    const given = { dtype: moved, shape: [data.length], data };
    const elements = type === moved ? data : fromNumbers(type, given.shape, toNumbers(given)).data;
    const bytes = new Uint8Array(align(elements.byteLength, 4));
    bytes.set(new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength));
    return bytes;
  }
  /** What kernels do not read is kept as it is. */
  private stored(dtype: DType): DType {
    return storedType(dtype, this.hasF16) ?? dtype;
  }

  async read(from: GpuMemory, offset: number, dtype: DType, count: number): Promise<TypedArray> {
    const { array } = DTYPES[dtype];
    if (count === 0) return new array(0);
    const type = this.stored(dtype);
    const bytes = align(count * DTYPES[type].bytes, 4);
    const staging = this.device.createBuffer({ size: bytes, usage: USAGE.mapRead | USAGE.copyDst });
    try {
      const encoder = this.device.createCommandEncoder();
      encoder.copyBufferToBuffer(bufferOf(from), offset, staging, 0, bytes);
      this.device.queue.submit([encoder.finish()]);
      await this.mapped(staging);
      const copy = staging.getMappedRange().slice(0);
      if (type === dtype) return new array(copy, 0, count);
      const stored = { dtype: type, shape: [count], data: new DTYPES[type].array(copy, 0, count) };
      return fromNumbers(asMoved(dtype), stored.shape, toNumbers(stored)).data;
    } finally {
      staging.destroy();
    }
  }
  private async mapped(buffer: GPUBuffer): Promise<void> {
    this.assertHealthy();
    await this.settled(buffer.mapAsync(MAP_READ), "io", "device webgpu: results cannot be read");
  }

  /** Throws what went wrong since; what follows from it is not told again. */
  assertHealthy(): void {
    if (this.lost) throw this.lost;
    const [error] = this.errors.splice(0);
    if (error) throw error;
  }
  /** Waits for what the device does; its own errors go before what it rejects with. */
  private async settled<T>(work: Promise<T>, code: "io" | "verify", what: string): Promise<T> {
    try {
      const result = await work;
      this.assertHealthy();
      return result;
    } catch (cause) {
      if (cause instanceof HeddleError) throw cause;
      await new Promise((resolve) => setTimeout(resolve)); // a loss is told after what it rejects
      this.assertHealthy();
      throw new HeddleError(code, `${what}: ${(cause as Error).message.split("\n")[0]}`, { cause }); // it rejects with errors
    }
  }

  async load(given: readonly GpuKernel[], launches: readonly GpuLaunch[], code?: Uint8Array): Promise<GpuLaunchList> {
    const kernels = given.map((kernel) => {
      invariant(!isLibraryKernel(kernel), `${kernel.name}: WebGPU has no library`);
      return kernel;
    });
    const pipelines = new Map<string, Promise<GPUComputePipeline>>();
    const texts: Record<string, string> = code ? JSON.parse(new TextDecoder().decode(code)) : {};
    const prepared = launches.map(({ kernel: number, args }) => {
      const kernel = kernels[number];
      const bindings = bindingsOf(kernel, args);
      const key = `${number} ${bindings}`;
      texts[key] ??= printWgsl(kernel, { hasF16: this.hasF16, bindings });
      const pipeline = pipelines.get(key) ?? this.pipeline(kernel, bindings, texts[key]);
      pipelines.set(key, pipeline);
      return { kernel, args, bindings, pipeline };
    });
    const ready = await Promise.all(
      prepared.map(async ({ kernel, args, bindings, pipeline }): Promise<Prepared> => {
        const made = await pipeline;
        const entries = args.flatMap(({ memory, offset }, i) =>
          bindings[i] === i
            ? [{ binding: i, resource: { buffer: bufferOf(memory), offset, size: align(Math.max(4, kernel.params[i].bytes), 4) } }]
            : [],
        );
        return { kernel, pipeline: made, group: this.device.createBindGroup({ layout: made.getBindGroupLayout(0), entries }) };
      }),
    );
    await Promise.all(this.allocations.splice(0));
    this.assertHealthy();
    return new WebGpuLaunchList(this, ready, texts);
  }

  private async pipeline(kernel: SimtKernel, bindings: readonly number[], code: string): Promise<GPUComputePipeline> {
    const { device } = this;
    invariant(
      kernel.params.length <= this.target.maxBuffers,
      `${kernel.name}: ${kernel.params.length} buffers of ${this.target.maxBuffers}`,
    );
    const most = device.limits.maxStorageBufferBindingSize;
    const large = kernel.params.find((p) => p.bytes > most);
    if (large)
      throw new HeddleError("limit", `device webgpu: a tensor of ${large.bytes} bytes (${kernel.name}), kernels here see ${most} at most`);
    const module = device.createShaderModule({ label: kernel.name, code });
    const entries = bindings.flatMap((to, i) =>
      to === i ? [{ binding: i, visibility: 4, buffer: { type: "storage" } } as const satisfies GPUBindGroupLayoutEntry] : [],
    );
    const layout = device.createPipelineLayout({ bindGroupLayouts: [device.createBindGroupLayout({ entries })] });
    const pipeline = device.createComputePipelineAsync({ label: kernel.name, layout, compute: { module, entryPoint: "main" } });
    return this.settled(pipeline, "verify", `internal: device webgpu: ${kernel.name} does not compile`);
  }

  print(kernel: SimtKernel): string {
    return printWgsl(kernel, { hasF16: this.hasF16 });
  }
  /** The driver shows no code of its own. */
  async disassemble(kernel: SimtKernel): Promise<string> {
    return this.print(kernel);
  }

  async sync(): Promise<void> {
    await this.settled(this.device.queue.onSubmittedWorkDone(), "io", "device webgpu: its work does not end");
  }
  memory(): null {
    return null;
  }
  async close(): Promise<void> {
    this.isClosing = true;
    this.device.destroy();
  }

  /** Milliseconds of each launch, where the device counts time; a launch's submission and wait where not. */
  async profile(launches: readonly Prepared[]): Promise<readonly number[]> {
    if (!this.device.features.has("timestamp-query") || launches.length > MAX_QUERIES / 2) return this.profileByWaiting(launches);
    const { device } = this;
    const count = 2 * launches.length;
    const queries = device.createQuerySet({ type: "timestamp", count });
    const resolved = device.createBuffer({ size: 8 * count, usage: USAGE.queryResolve | USAGE.copySrc });
    const staging = device.createBuffer({ size: 8 * count, usage: USAGE.mapRead | USAGE.copyDst });
    const encoder = device.createCommandEncoder();
    for (const [i, p] of launches.entries()) {
      const timestampWrites = { querySet: queries, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
      encode(encoder, [p], timestampWrites);
    }
    encoder.resolveQuerySet(queries, 0, count, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 8 * count);
    device.queue.submit([encoder.finish()]);
    await this.mapped(staging);
    const times = new BigUint64Array(staging.getMappedRange().slice(0));
    for (const owned of [queries, resolved, staging]) owned.destroy();
    return launches.map((_, i) => Number(times[2 * i + 1] - times[2 * i]) / 1e6);
  }
  private async profileByWaiting(launches: readonly Prepared[]): Promise<readonly number[]> {
    const times: number[] = [];
    for (const p of launches) {
      const start = performance.now();
      this.submit([p]);
      await this.sync();
      times.push(performance.now() - start);
    }
    return times;
  }

  submit(launches: readonly Prepared[]): void {
    this.assertHealthy();
    const encoder = this.device.createCommandEncoder();
    encode(encoder, launches);
    this.device.queue.submit([encoder.finish()]);
  }
}

/** Queries of one set. */
const MAX_QUERIES = 4096;

interface Prepared {
  readonly kernel: SimtKernel;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
}

function encode(encoder: GPUCommandEncoder, launches: readonly Prepared[], timestampWrites?: GPUComputePassTimestampWrites): void {
  const pass = encoder.beginComputePass({ timestampWrites });
  for (const { kernel, pipeline, group } of launches) {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...kernel.grid);
  }
  pass.end();
}

function bufferOf(memory: GpuMemory): GPUBuffer {
  invariant(memory instanceof WebGpuMemory, "a WebGPU launch with memory of another device");
  return memory.buffer;
}

/** Of each parameter the first that is the same memory: WebGPU binds no range twice for writing. */
function bindingsOf({ name, params }: SimtKernel, args: readonly GpuRange[]): number[] {
  invariant(args.length === params.length, `${name}: ${params.length} buffers, ${args.length} given`);
  return args.map(({ memory, offset }, i) => {
    const same = args.findIndex((a) => a.memory === memory && a.offset === offset);
    const overlaps = args.some(
      (a, j) =>
        j < i && a.memory === memory && a.offset !== offset && a.offset < offset + params[i].bytes && offset < a.offset + params[j].bytes,
    );
    invariant(!overlaps, `${name}: ${params[i].name} overlaps another buffer`);
    return same;
  });
}

class WebGpuLaunchList implements GpuLaunchList {
  readonly codeBytes = 0;
  constructor(
    private readonly device: WebGpuDevice,
    private readonly prepared: readonly Prepared[],
    /** By the kernel's number and its bindings. */
    private readonly texts: Readonly<Record<string, string>>,
  ) {}
  code(): Uint8Array {
    return new TextEncoder().encode(JSON.stringify(this.texts));
  }
  get length(): number {
    return this.prepared.length;
  }
  run(from: number, to: number): void {
    invariant(from >= 0 && from <= to && to <= this.length, `launch list: range ${from}..${to} of ${this.length} launches`);
    if (to > from) this.device.submit(this.prepared.slice(from, to));
  }
  profile(): Promise<readonly number[]> {
    return this.device.profile(this.prepared);
  }
  free(): void {}
}
