// A network compiled for a GPU: device memories, one launch list, and steps in JavaScript between its stretches.
import type { GpuDevice, GpuLaunchList, GpuMemory } from "../../devices/gpu.ts";
import { inTurns } from "../../devices/turns.ts";
import type { DType, TypedArray } from "../../ir/dtype.ts";
import { HeddleError, invariant } from "../../ir/error.ts";
import type { Graph, TensorType, Value } from "../../ir/graph.ts";
import { type GpuKernel, isLibraryKernel } from "../../ir/library_kernel.ts";
import { elementCount, type TensorData } from "../../ir/tensor.ts";
import { evaluateNode } from "../../ops/index.ts";
import { Binding } from "../binding.ts";
import {
  type Address,
  assertFits,
  assertSamePlan,
  ownBytesOf,
  type PlacedConstant,
  type PlacedTensor,
  type ProgramPlan,
} from "../image.ts";
import { assertInputsFit, withinMemory } from "../memory_limit.ts";
import type { StepTime } from "../program.ts";
import { type Schedule, type ScheduleOptions, scheduleInPieces } from "../schedule.ts";
import type { StateSpec } from "../state.ts";
import { gpuBackend } from "./backend.ts";
import { libraryText } from "./library_text.ts";

/** A state in memory of the device that the caller gives. */
export interface GpuStateSpec extends StateSpec {
  readonly memory?: GpuMemory;
}

export interface GpuCompileOptions extends ScheduleOptions {
  readonly device: GpuDevice;
  readonly state?: readonly GpuStateSpec[];
  /** Gives every tensor memory of its own. */
  readonly separateTensors?: boolean;
  /** Bytes that tensors and weights may take. Default: what the GPU has, where it tells. */
  readonly memoryLimit?: number;
}

/** Compiles for a GPU, in turns of the event loop. The graph must come from the importer: its shapes are concrete. */
export async function compileForGpu(graph: Graph, options: GpuCompileOptions): Promise<GpuProgram> {
  const { device, state = [] } = options;
  const binding = await bindForGpu(graph, options);
  const given = new Map(state.flatMap(({ input, memory }) => (memory ? [[input, memory] as const] : [])));
  const program = await GpuProgram.load(device, binding.image(), contentOf(binding), given);
  program.attach(binding);
  return program;
}

/** All of compilation that needs no memory of the device. */
export async function bindForGpu(graph: Graph, options: GpuCompileOptions): Promise<Binding<GpuKernel>> {
  const { device, separateTensors: isSeparate = false, memoryLimit = device.memory()?.totalBytes } = options;
  assertInputsFit(graph, memoryLimit);
  const schedule = await inTurns(scheduleInPieces(graph, gpuBackend(device.target, device.alignment, options.precision), options));
  return withinMemory(new Binding(schedule, { threads: Number.POSITIVE_INFINITY, isSeparate }), memoryLimit);
}

/** What a program is loaded from, besides its plan. */
export interface GpuContent {
  /** Without bodies where there is code. */
  readonly kernels: readonly GpuKernel[];
  /** Where the node of each launch came from. */
  readonly origins: readonly string[];
  readonly constants: Iterable<PlacedConstant>;
  /** What the device made of these kernels before. */
  readonly code?: Uint8Array;
}

const contentOf = (binding: Binding<GpuKernel>): Omit<GpuContent, "code"> => ({
  kernels: binding.kernels,
  origins: binding.schedule.steps.flatMap(({ node }, i) => Array<string>(binding.ranges[i][1] - binding.ranges[i][0]).fill(node.from)),
  constants: binding.constants(),
});

export class GpuProgram {
  private readonly unset: Set<string>;
  private binding: Binding<GpuKernel> | undefined;
  private isFreed = false;

  private constructor(
    private readonly device: GpuDevice,
    readonly image: ProgramPlan,
    private readonly memories: readonly GpuMemory[],
    private readonly list: GpuLaunchList,
    given: ReadonlyMap<string, GpuMemory>,
  ) {
    this.unset = new Set(image.states.flatMap(({ name }) => (given.has(name) ? [] : [name])));
  }

  /** `given`: memories of states that the caller keeps. */
  static async load(
    device: GpuDevice,
    plan: ProgramPlan,
    { kernels, origins, constants, code }: GpuContent,
    given: ReadonlyMap<string, GpuMemory> = new Map(),
  ): Promise<GpuProgram> {
    const memories: GpuMemory[] = [];
    try {
      for (const need of plan.memories) memories.push(need.given === undefined ? device.alloc(need.bytes) : given.get(need.given)!); // the caller's names
      for (const { at: [memory, offset], dtype, data } of constants) device.write(memories[memory], offset, dtype, data); // biome-ignore format: short
      const launches = plan.launches.map(({ kernel, args }, i) => ({
        kernel,
        from: origins[i],
        args: args.map(([memory, offset]) => ({ memory: memories[memory], offset, bytes: memories[memory].bytes - offset })),
      }));
      return new GpuProgram(device, plan, memories, await device.load(kernels, launches, code), given);
    } catch (e) {
      for (const [i, memory] of memories.entries()) if (plan.memories[i].given === undefined) memory.free();
      throw e;
    }
  }

  /** Joins what the program was made from: steps in JavaScript, profile() and listings need it. */
  attach(binding: Binding<GpuKernel>): void {
    assertSamePlan(binding, this.image);
    this.binding = binding;
  }
  get isAttached(): boolean {
    return this.binding !== undefined;
  }
  private get source(): Binding<GpuKernel> {
    invariant(this.binding, "a program without its schedule");
    return this.binding;
  }

  /** What the program was compiled from. */
  get schedule(): Schedule<GpuKernel> {
    return this.source.schedule;
  }
  /** What it was loaded from, to be kept on disk. */
  get content(): Required<GpuContent> {
    return { ...contentOf(this.source), code: this.list.code() };
  }
  get codeBytes(): number {
    return this.list.codeBytes;
  }
  get arenaBytes(): number {
    return this.image.arenaBytes;
  }
  get ownBytes(): number {
    return ownBytesOf(this.image);
  }
  get stateNames(): readonly string[] {
    return this.image.states.map((s) => s.name);
  }
  /** Kernels of the program with the step they belong to, for listings. */
  kernels(): { readonly step: Schedule<GpuKernel>["steps"][number]; readonly kernel: GpuKernel }[] {
    return this.schedule.steps.flatMap((step) => (step.calls ?? []).map(({ kernel }) => ({ step, kernel })));
  }
  print(kernel: GpuKernel): string {
    return isLibraryKernel(kernel) ? libraryText(kernel) : this.device.print(kernel);
  }
  async disassemble(kernel: GpuKernel): Promise<string> {
    return isLibraryKernel(kernel) ? libraryText(kernel) : this.device.disassemble(kernel);
  }

  /** Copies a tensor into a state. */
  setState(name: string, tensor: TensorData): void {
    const state = this.state(name);
    assertFits(`state ${name}`, state, tensor);
    this.put(state.at!, tensor); // states have places
    this.unset.delete(name);
  }
  /** A copy of a state as it is after all that was run. */
  async getState(name: string): Promise<TensorData> {
    const state = this.state(name);
    return this.get(state, state.at!); // states have places
  }
  private state(name: string): PlacedTensor {
    const state = this.image.states.find((s) => s.name === name);
    if (state) return state;
    throw new HeddleError("bad-input", `program: no state ${name}; it has ${this.stateNames.join(", ") || "none"}`);
  }

  /** Runs the network. Inputs that are states are not given. */
  async run(inputs: Readonly<Record<string, TensorData>>): Promise<Record<string, TensorData>> {
    this.write(inputs);
    for (const segment of this.image.segments) {
      if (segment.k === "launch") this.list.run(segment.from, segment.to);
      else await this.evaluate(segment.step);
    }
    return this.outputs();
  }

  /** Runs what was given last once more, without reading its outputs: for measuring. Waits until the device is done. One by one: not as one graph. */
  async replay(times: number, isOneByOne = false): Promise<void> {
    invariant(
      this.image.segments.every((s) => s.k === "launch"),
      "a program with steps in JavaScript is replayed",
    );
    for (let i = 0; i < times; i++) for (const s of this.image.segments) if (s.k === "launch") this.list.run(s.from, s.to, isOneByOne);
    await this.device.sync();
  }

  /** Runs the network and says how long each step took: launches by the device's clock. */
  async profile(inputs: Readonly<Record<string, TensorData>>): Promise<readonly StepTime[]> {
    await this.run(inputs);
    const hostMs = new Map<number, number>();
    for (const segment of this.image.segments) {
      if (segment.k === "launch") continue;
      const start = performance.now();
      await this.evaluate(segment.step);
      hostMs.set(segment.step, performance.now() - start);
    }
    const ms = await this.list.profile();
    return this.schedule.steps.map((step, i) => {
      const [from, to] = this.source.ranges[i];
      return { node: step.node, ms: hostMs.get(i) ?? ms.slice(from, to).reduce((a, b) => a + b, 0) };
    });
  }

  /** Copies of all values that the last run computed and that nothing has overwritten since, in order; for debugging with separate tensors. */
  values(): Promise<{ readonly value: Value; readonly tensor: TensorData }[]> {
    const all = this.schedule.steps.flatMap((s) => s.node.outputs);
    return Promise.all(all.map(async (value) => ({ value, tensor: await this.valueOf(value) })));
  }

  free(): void {
    if (this.isFreed) return;
    this.isFreed = true;
    this.list.free();
    for (const [i, memory] of this.memories.entries()) if (this.image.memories[i].given === undefined) memory.free();
  }

  private put([memory, offset]: Address, { dtype, data }: { readonly dtype: DType; readonly data: TypedArray }): void {
    invariant(!this.isFreed, "program used after it was freed");
    this.device.write(this.memories[memory], offset, dtype, data);
  }
  private async get({ dtype, shape }: TensorType, [memory, offset]: Address): Promise<TensorData> {
    invariant(!this.isFreed, "program used after it was freed");
    return { dtype, shape, data: await this.device.read(this.memories[memory], offset, dtype, elementCount(shape)) };
  }

  private write(inputs: Readonly<Record<string, TensorData>>): void {
    for (const name of this.unset) throw new HeddleError("bad-input", `state ${name} was never set`);
    for (const tensor of this.image.inputs) {
      const given = inputs[tensor.name];
      if (!given) throw new HeddleError("bad-input", `input ${tensor.name} is missing`);
      assertFits(`input ${tensor.name}`, tensor, given);
      if (tensor.at) this.put(tensor.at, given);
    }
  }

  private async outputs(): Promise<Record<string, TensorData>> {
    const read = this.image.outputs.map(async (tensor) => [tensor.name, await this.get(tensor, tensor.at!)] as const); // outputs have places
    return Object.fromEntries(await Promise.all(read));
  }

  /** Runs a step in JavaScript. */
  private async evaluate(step: number): Promise<void> {
    const { node } = this.schedule.steps[step];
    const values = await Promise.all(node.inputs.map((v) => v && this.valueOf(v)));
    for (const [i, tensor] of evaluateNode(node, values).entries()) this.put(this.source.address(node.outputs[i]), tensor);
  }
  private async valueOf(value: Value): Promise<TensorData> {
    const constant = this.source.constantOf(value);
    return constant ?? this.get(value.type, this.source.address(value));
  }
}
