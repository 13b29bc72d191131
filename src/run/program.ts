// A compiled network in memory: memories, one launch list, and how to run and time it.
import type { Compiled, CpuDevice, LaunchList, Memory } from "../devices/cpu.ts";
import { nextTurn } from "../devices/turns.ts";
import { DTYPES, type DType, type TypedArray } from "../ir/dtype.ts";
import { HeddleError, invariant } from "../ir/error.ts";
import type { Node, Value } from "../ir/graph.ts";
import type { Kernel } from "../ir/kernel.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import type { Binding, View } from "./binding.ts";
import {
  type Address,
  assertFits,
  assertSamePlan,
  ownBytesOf,
  type PlacedTensor,
  type ProgramImage,
  type ProgramPlan,
  STRETCH_MS,
} from "./image.ts";
import type { Schedule } from "./schedule.ts";
import type { Step } from "./step.ts";

/** Time of one step. */
export interface StepTime {
  readonly node: Node;
  readonly ms: number;
}

/** A network compiled for one device and one set of shapes. */
export class Program {
  private binding: Binding | undefined;
  /** By name of an input or output: points its uses at an array, or with null back at the program's memory. Where the device can. */
  private readonly pointers = new Map<string, (data: TypedArray | null) => void>();
  private readonly unset: Set<string>;
  private isFreed = false;
  /** How long the last run took. */
  private lastMs = Number.POSITIVE_INFINITY;

  private constructor(
    private readonly device: CpuDevice,
    readonly image: ProgramImage,
    private readonly memories: readonly Memory[],
    private readonly list: LaunchList,
    given: ReadonlyMap<string, Memory>,
  ) {
    this.unset = new Set(image.states.flatMap(({ name }) => (given.has(name) ? [] : [name])));
    for (const { name, slots } of [...image.inputs, ...image.outputs]) {
      const point = slots?.length ? list.slots?.(slots) : undefined;
      if (point) this.pointers.set(name, point);
    }
  }

  /** `fill` writes the constants into the memories, which are numbered as in the plan, and gives the code. `given`: memories of states that the caller keeps. */
  static async load(
    device: CpuDevice,
    plan: ProgramPlan,
    fill: (memories: readonly Memory[]) => Compiled | Promise<Compiled>,
    given: ReadonlyMap<string, Memory> = new Map(),
  ): Promise<Program> {
    const memories: Memory[] = [];
    try {
      for (const need of plan.memories) memories.push(need.given === undefined ? device.alloc(need.bytes) : given.get(need.given)!); // the caller's names
      const compiled = await fill(memories);
      const address = ([memory, offset]: Address): number => memories[memory].address + offset;
      const launches = plan.launches.map(({ kernel, args }) => ({ kernel, args: args.map(address) }));
      return new Program(device, { ...plan, compiled }, memories, await device.load(compiled, launches), given);
    } catch (e) {
      for (const [i, memory] of memories.entries()) if (plan.memories[i].given === undefined) memory.free();
      throw e;
    }
  }

  /** Joins what the program was made from: steps in JavaScript, profile() and listings need it. */
  attach(binding: Binding): void {
    assertSamePlan(binding, this.image);
    this.binding = binding;
  }
  /** Lets go of it: weights as the file had them are most of it. */
  detach(): void {
    this.binding = undefined;
  }
  get isAttached(): boolean {
    return this.binding !== undefined;
  }
  private get source(): Binding {
    invariant(this.binding, "a program without its schedule");
    return this.binding;
  }

  /** What the program was compiled from. */
  get schedule(): Schedule {
    return this.source.schedule;
  }
  /** Bytes of generated code. */
  get codeBytes(): number {
    return this.list.codeBytes;
  }
  get arenaBytes(): number {
    return this.image.arenaBytes;
  }
  get ownBytes(): number {
    return ownBytesOf(this.image);
  }
  /** Kernels of the program with the step they belong to, for listings. */
  kernels(): { readonly step: Step; readonly kernel: Kernel }[] {
    return this.schedule.steps.flatMap((step) => (step.calls ?? []).map(({ kernel }) => ({ step, kernel })));
  }
  disassemble(kernel: Kernel): Promise<string> {
    return this.device.disassemble(kernel);
  }

  /** Names of the inputs that keep their values between runs. */
  get stateNames(): readonly string[] {
    return this.image.states.map((s) => s.name);
  }
  /** Copies a tensor into a state. */
  setState(name: string, tensor: TensorData): void {
    const state = this.state(name);
    assertFits(`state ${name}`, state, tensor);
    copyInto(this.view(state, state.at!).data, tensor.data); // states have places
    this.unset.delete(name);
  }
  /** A copy of a state as it is now. */
  getState(name: string): TensorData {
    const state = this.state(name);
    return copyOf(this.view(state, state.at!)); // states have places
  }
  private state(name: string): PlacedTensor {
    const state = this.image.states.find((s) => s.name === name);
    if (state) return state;
    throw new HeddleError("bad-input", `program: no state ${name}; it has ${this.stateNames.join(", ") || "none"}`);
  }

  /** Runs the network. Inputs that are states are not given. `isOffThread`: the calling thread stays free all the time; otherwise it is held for some milliseconds at a time. */
  async run(inputs: Readonly<Record<string, TensorData>>, isOffThread = false): Promise<Record<string, TensorData>> {
    // Segments are cut by estimates for a slow machine: a program that was quick as a whole needs no turn of the event loop.
    // While it turns the user could transfer an input's memory away.
    const isOneStretch = !isOffThread && (this.image.segments.length === 1 || this.lastMs <= STRETCH_MS);
    this.write(inputs, isOneStretch);
    const outputs = this.makeOutputs();
    const start = performance.now();
    for (const [i, segment] of this.image.segments.entries()) {
      if (segment.k === "host") this.source.evaluate(segment.step, this.view);
      else if (isOffThread) await this.list.runAsync(segment.from, segment.to);
      else {
        if (i > 0 && !isOneStretch) await nextTurn();
        this.list.run(segment.from, segment.to);
      }
    }
    this.lastMs = performance.now() - start;
    return this.read(outputs);
  }

  /** Runs the network step by step and says how long each took. */
  profile(inputs: Readonly<Record<string, TensorData>>): readonly StepTime[] {
    this.write(inputs, false);
    for (const { name } of this.image.outputs) this.pointers.get(name)?.(null);
    const { schedule, ranges } = this.source;
    return schedule.steps.map((step, i) => {
      const [from, to] = ranges[i];
      const start = performance.now();
      if (step.calls) this.list.run(from, to);
      else this.source.evaluate(i, this.view);
      return { node: step.node, ms: performance.now() - start };
    });
  }

  /** Copies of all values that the last profile() computed and that nothing has overwritten since, in order; for debugging with separate tensors. */
  values(): { readonly value: Value; readonly tensor: TensorData }[] {
    const { steps } = this.schedule;
    return steps.flatMap((s) => s.node.outputs.map((value) => ({ value, tensor: copyOf(this.source.read(value, this.view)) })));
  }

  /** The constants as they were filled in. */
  constants(): Uint8Array[] {
    invariant(!this.isFreed, "program used after it was freed");
    return this.memories.filter((_, i) => this.image.memories[i].isConstant).map((m) => m.view());
  }

  free(): void {
    if (this.isFreed) return;
    this.isFreed = true;
    this.list.free();
    for (const [i, m] of this.memories.entries()) if (this.image.memories[i].given === undefined) m.free();
    this.detach();
  }

  /** A tensor in device memory: valid until the next allocation. */
  private readonly view: View = ({ dtype, shape }, [memory, offset]) => {
    invariant(!this.isFreed, "program used after it was freed");
    const bytes = this.memories[memory].view();
    return { dtype, shape, data: new DTYPES[dtype].array(bytes.buffer, bytes.byteOffset + offset, elementCount(shape)) };
  };

  /** Copies the inputs into the program's memory, or points the program at large ones. */
  private write(inputs: Readonly<Record<string, TensorData>>, mayPoint: boolean): void {
    for (const name of this.unset) throw new HeddleError("bad-input", `state ${name} was never set`);
    for (const tensor of this.image.inputs) {
      const { name, at } = tensor;
      const given = inputs[name];
      if (!given) throw new HeddleError("bad-input", `input ${name} is missing`);
      assertFits(`input ${name}`, tensor, given);
      const point = this.pointers.get(name);
      const isPointed = mayPoint && point !== undefined && given.data.byteLength >= LARGE_BYTES;
      point?.(isPointed ? given.data : null);
      if (at && !isPointed) copyInto(this.view(tensor, at).data, given.data);
    }
  }

  /** Arrays that the program writes large outputs into. */
  private makeOutputs(): ReadonlyMap<string, TypedArray> {
    const made = new Map<string, TypedArray>();
    for (const { name, dtype, shape } of this.image.outputs) {
      const point = this.pointers.get(name);
      const isLarge = elementCount(shape) * DTYPES[dtype].bytes >= LARGE_BYTES;
      const data = point && isLarge ? unfilled(dtype, elementCount(shape)) : null;
      point?.(data);
      if (data) made.set(name, data);
    }
    return made;
  }

  private read(made: ReadonlyMap<string, TypedArray>): Record<string, TensorData> {
    const tensorOf = (tensor: PlacedTensor): TensorData => {
      const { name, dtype, shape, at } = tensor;
      const data = made.get(name);
      return data ? { dtype, shape, data } : copyOf(this.view(tensor, at!)); // outputs have places
    };
    return Object.fromEntries(this.image.outputs.map((tensor) => [tensor.name, tensorOf(tensor)]));
  }
}

/** Tensors of this size are worth the microsecond that finding an array's address takes. */
const LARGE_BYTES = 16 << 10;

/** An array of a large output, which the program fills: only Node has memory that is not cleared first. */
function unfilled(dtype: DType, count: number): TypedArray {
  const { array, bytes } = DTYPES[dtype];
  return typeof Buffer === "undefined" ? new array(count) : new array(Buffer.allocUnsafeSlow(count * bytes).buffer, 0, count);
}

const copyOf = (t: TensorData): TensorData => ({ ...t, data: t.data.slice() });

/** Element by element: both have the same type. */
function copyInto(to: TypedArray, from: TypedArray): void {
  (to as Float32Array).set(from as Float32Array); // any typed array: set() converts nothing between equal types
}
