// One compiled graph: a program of a device, or the reference interpreter; with states that live in places of their own, which several may share.
import type { CpuDevice, Memory } from "../devices/cpu.ts";
import type { GpuDevice, GpuMemory } from "../devices/gpu.ts";
import { type Device, isGpu } from "../devices/open.ts";
import { assertPrecision } from "../devices/precision.ts";
import { DTYPES, type TypedArray } from "../ir/dtype.ts";
import type { Graph, TensorType } from "../ir/graph.ts";
import type { Precision } from "../ir/precision.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import { evaluateGraph } from "../ops/index.ts";
import { inPrecision } from "../passes/mixed_precision.ts";
import { compile } from "../run/compile.ts";
import type { GpuProgram } from "../run/gpu/program.ts";
import type { Program, StepTime } from "../run/program.ts";

/** Where a state lives from run to run: memory of a device, or a tensor for the reference interpreter. All of its methods are for the queue. */
export class Place {
  private memory: Memory | null = null;
  private onGpu: { readonly device: GpuDevice; readonly memory: GpuMemory } | null = null;
  private tensor: TensorData | null = null;

  constructor(readonly type: TensorType) {}

  /** Memory of the device, from the first call on. */
  memoryOn(device: CpuDevice): Memory {
    this.memory ??= device.alloc(Math.max(1, this.bytes(DTYPES[this.type.dtype].bytes)));
    return this.memory;
  }
  gpuMemoryOn(device: GpuDevice): GpuMemory {
    const { dtype } = this.type;
    this.onGpu ??= { device, memory: device.alloc(this.bytes(device.target.storedBytes[dtype] ?? DTYPES[dtype].bytes)) };
    return this.onGpu.memory;
  }
  private bytes(each: number): number {
    return elementCount(this.type.shape) * each;
  }

  write(tensor: TensorData): void {
    if (this.onGpu) this.onGpu.device.write(this.onGpu.memory, 0, tensor.dtype, tensor.data);
    else if (this.memory)
      (this.elements(this.memory) as Float32Array).set(tensor.data as Float32Array); // of one type: set() converts nothing
    else this.tensor = tensor;
  }
  /** A copy, where the next run would change it. */
  async read(): Promise<TensorData> {
    const { dtype, shape } = this.type;
    if (this.onGpu) return { dtype, shape, data: await this.onGpu.device.read(this.onGpu.memory, 0, dtype, elementCount(shape)) };
    return this.memory ? { dtype, shape, data: this.elements(this.memory).slice() } : this.tensor!; // written before it is read
  }
  free(): void {
    this.memory?.free();
    this.onGpu?.memory.free();
    this.memory = null;
    this.onGpu = null;
    this.tensor = null;
  }

  private elements(memory: Memory): TypedArray {
    const { buffer, byteOffset } = memory.view();
    return new DTYPES[this.type.dtype].array(buffer, byteOffset, elementCount(this.type.shape));
  }
}

/** An input that is a state, and the output that it becomes: the input itself where it does not change. */
export interface StatePair {
  readonly input: string;
  readonly output: string;
  readonly place: Place;
}

type Tensors = Readonly<Record<string, TensorData>>;

/** Runs are not to overlap: device.ts queues them. */
export class Runner {
  private constructor(
    private readonly graph: Graph | null,
    private readonly program: Program | GpuProgram | null,
    private readonly states: readonly StatePair[],
    private readonly onGpu: GpuProgram | null = null,
  ) {}

  /** `device` null: the reference interpreter. */
  static async make(graph: Graph, device: Device | null, states: readonly StatePair[] = [], precision?: Precision): Promise<Runner> {
    assertPrecision(device, precision);
    if (!device) return new Runner(inPrecision(graph, precision), null, states);
    const stateOn = <M>(memoryOf: (place: Place) => M) =>
      states.map(({ input, output, place }) => ({ input, output, memory: memoryOf(place) }));
    if (!isGpu(device))
      return new Runner(null, await compile(graph, { device, precision, state: stateOn((place) => place.memoryOn(device)) }, true), states);
    const { compileForGpu } = await import("../run/gpu/program.ts");
    const program = await compileForGpu(graph, { device, precision, state: stateOn((place) => place.gpuMemoryOn(device)) });
    return new Runner(null, program, states, program);
  }

  /** Bytes that the program plans for itself, without its states: tensors, partial results of kernels, constants; 0 where nothing is compiled. */
  get arenaBytes(): number {
    return this.program?.ownBytes ?? 0;
  }

  /** All outputs but those that states become. */
  async run(inputs: Tensors): Promise<Record<string, TensorData>> {
    if (this.program) return this.program.run(inputs);
    const all: Record<string, TensorData> = { ...inputs };
    for (const { input, place } of this.states) all[input] = await place.read();
    const results = evaluateGraph(this.graph!, all); // one of both is there
    for (const { output, place } of this.states) place.write(results[output]);
    return results;
  }

  /** Runs it, and says how long each node took where the device has a clock for them. */
  async profile(inputs: Tensors): Promise<readonly StepTime[]> {
    if (this.onGpu) return this.onGpu.profile(inputs);
    await this.run(inputs);
    return [];
  }

  free(): void {
    this.program?.free();
  }
}
