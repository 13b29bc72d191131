// A compiled network in memory: constants, an arena, one launch list, and how to run and time it.
import type { CpuDevice, Launch, LaunchList, Memory } from "../devices/cpu.ts";
import { DTYPES, type TypedArray } from "../ir/dtype.ts";
import { HeddleError, invariant } from "../ir/error.ts";
import type { Node, Value } from "../ir/graph.ts";
import type { Kernel } from "../ir/kernel.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import { evaluateNode } from "../ops/index.ts";
import { constantOf, inputName } from "../ops/source.ts";
import { byteSize, type CompileOptions, type Schedule } from "./compile.ts";
import type { Place, Step } from "./step.ts";

const ALIGNMENT = 64;
const align = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** Longest stretch of launches that runs without letting the event loop turn, by estimate, milliseconds. */
const CHUNK_MS = 20;
/** What a slow core manages: for the estimate only. */
const SLOW_FLOPS_PER_MS = 1e7;
const SLOW_BYTES_PER_MS = 2e6;

/** A stretch of the program: launches [from, to), or one node in JavaScript. */
type Segment = { readonly k: "launch"; readonly from: number; readonly to: number } | { readonly k: "host"; readonly node: Node };

/** Time of one step. */
export interface StepTime {
  readonly node: Node;
  readonly ms: number;
}

/** Where values are in memory. */
class Places {
  private readonly separate = new Map<Value, Memory>();
  private arena: Memory | undefined;

  constructor(
    device: CpuDevice,
    private readonly schedule: Schedule,
    isSeparate: boolean,
  ) {
    if (!isSeparate) this.arena = device.alloc(Math.max(ALIGNMENT, schedule.arenaBytes));
    else for (const v of schedule.offsets.keys()) this.separate.set(v, device.alloc(Math.max(1, byteSize(v))));
  }

  private owner(value: Value): Value {
    return this.schedule.owners.get(value) ?? value;
  }
  address(value: Value): number {
    const v = this.owner(value);
    const own = this.separate.get(v);
    if (own) return own.address;
    const offset = this.schedule.offsets.get(v);
    invariant(this.arena && offset !== undefined, `${v.node.op.name}: a value without memory`);
    return this.arena.address + offset;
  }
  /** A view of the tensor in device memory: valid until the next allocation. */
  view(value: Value): TensorData {
    const v = this.owner(value);
    const constant = constantOf(v);
    const { dtype, shape } = value.type;
    if (constant) return { dtype, shape, data: constant.data };
    const own = this.separate.get(v);
    const offset = own ? 0 : (this.schedule.offsets.get(v) as number); // every value is placed
    const memory = own ?? this.arena;
    invariant(memory, "program used after it was freed");
    const bytes = memory.view();
    const start = bytes.byteOffset + offset;
    const info = DTYPES[dtype];
    // A guard-page view may start at an odd address of its buffer only when its type is one byte wide.
    return { dtype, shape, data: new info.array(bytes.buffer, start, elementCount(shape)) };
  }
  free(): void {
    this.arena?.free();
    this.arena = undefined;
    for (const m of this.separate.values()) m.free();
    this.separate.clear();
  }
}

/** A network compiled for one device and one set of shapes. */
export class Program {
  private constructor(
    private readonly device: CpuDevice,
    readonly schedule: Schedule,
    private readonly places: Places,
    private readonly constants: readonly Memory[],
    private readonly list: LaunchList,
    /** Launches [from, to) of each step. */
    private readonly launches: readonly (readonly [from: number, to: number])[],
  ) {}

  static async load(schedule: Schedule, options: CompileOptions): Promise<Program> {
    const { device, separateTensors } = options;
    const places = new Places(device, schedule, separateTensors ?? false);
    const binder = new Binder(device, places, separateTensors ?? false);
    const launches = binder.bind(schedule.steps);
    const list = await device.load(binder.kernels, binder.launches);
    return new Program(device, schedule, places, binder.memories, list, launches);
  }

  /** Bytes of generated code. */
  get codeBytes(): number {
    return this.list.codeBytes;
  }
  get arenaBytes(): number {
    return this.schedule.arenaBytes;
  }
  /** Kernels of the program with the step they belong to, for listings. */
  kernels(): { readonly step: Step; readonly kernel: Kernel }[] {
    return this.schedule.steps.flatMap((step) => (step.calls ?? []).map(({ kernel }) => ({ step, kernel })));
  }
  disassemble(kernel: Kernel): string {
    return this.device.disassemble(kernel);
  }

  /** Runs the network. `isOffThread`: the calling thread stays free all the time; otherwise it is held for some milliseconds at a time. */
  async run(inputs: Readonly<Record<string, TensorData>>, isOffThread = false): Promise<Record<string, TensorData>> {
    this.write(inputs);
    for (const [i, segment] of this.segments().entries()) {
      if (segment.k === "host") this.host(segment.node);
      else if (isOffThread) await this.list.runAsync(segment.from, segment.to);
      else {
        if (i > 0) await nextTurn();
        this.list.run(segment.from, segment.to);
      }
    }
    return this.read();
  }

  /** Runs the network step by step and says how long each took. */
  profile(inputs: Readonly<Record<string, TensorData>>): readonly StepTime[] {
    this.write(inputs);
    return this.schedule.steps.map((step, i) => {
      const [from, to] = this.launches[i];
      const start = performance.now();
      if (step.calls) this.list.run(from, to);
      else this.host(step.node);
      return { node: step.node, ms: performance.now() - start };
    });
  }

  /** Copies of all values that the last run computed and that nothing has overwritten since, in order; for debugging with separate tensors. */
  values(): { readonly value: Value; readonly tensor: TensorData }[] {
    return this.schedule.steps.flatMap((s) => s.node.outputs.map((value) => ({ value, tensor: copyOf(this.places.view(value)) })));
  }

  free(): void {
    this.list.free();
    this.places.free();
    for (const m of this.constants) m.free();
  }

  private write(inputs: Readonly<Record<string, TensorData>>): void {
    for (const value of this.schedule.graph.inputs) {
      const name = inputName(value);
      const given = inputs[name];
      const { dtype, shape } = value.type;
      if (!given) throw new HeddleError("bad-input", `input ${name} is missing`);
      if (given.dtype !== dtype || given.shape.join() !== shape.join() || given.data.length !== elementCount(shape))
        throw new HeddleError("bad-input", `input ${name}: got ${given.dtype}[${given.shape}], wanted ${dtype}[${shape}]`);
      if (this.schedule.offsets.has(value)) copyInto(this.places.view(value).data, given.data);
    }
  }

  private read(): Record<string, TensorData> {
    return Object.fromEntries(this.schedule.graph.outputs.map(({ name, value }) => [name, copyOf(this.places.view(value))]));
  }

  private host(node: Node): void {
    const inputs = node.inputs.map((v) => (v ? this.places.view(v) : null));
    for (const [i, t] of evaluateNode(node, inputs).entries()) copyInto(this.places.view(node.outputs[i]).data, t.data);
  }

  private cachedSegments: readonly Segment[] | undefined;
  /** Launches in stretches short enough for the event loop, interrupted by nodes that run in JavaScript. */
  private segments(): readonly Segment[] {
    this.cachedSegments ??= this.cutIntoSegments();
    return this.cachedSegments;
  }
  private cutIntoSegments(): Segment[] {
    const segments: Segment[] = [];
    let start = 0;
    let end = 0;
    let ms = 0;
    const flush = (): void => {
      if (end > start) segments.push({ k: "launch", from: start, to: end });
      start = end;
      ms = 0;
    };
    for (const [i, step] of this.schedule.steps.entries()) {
      if (!step.calls) {
        flush();
        segments.push({ k: "host", node: step.node });
        continue;
      }
      const cost = estimateMs(step.node) / Math.sqrt(this.device.threads);
      if (ms > 0 && ms + cost > CHUNK_MS) flush();
      ms += cost;
      end = this.launches[i][1];
    }
    flush();
    return segments;
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function estimateMs(node: Node): number {
  const bytes = [...node.inputs, ...node.outputs].reduce((n, v) => n + (v ? byteSize(v) : 0), 0);
  return flopsOf(node) / SLOW_FLOPS_PER_MS + bytes / SLOW_BYTES_PER_MS;
}

/** Floating-point operations of a node or of all nodes in a group. */
export function flopsOf(node: Node): number {
  const body = (node.attrs as { body?: Schedule["graph"] }).body;
  if (body && "outputs" in body) return flopsOfBody(body.outputs.map((o) => o.value.node));
  return node.op.flops?.(node) ?? node.outputs.reduce((n, o) => n + elementCount(o.type.shape), 0);
}

function flopsOfBody(ends: readonly Node[]): number {
  const seen = new Set<Node>();
  const todo = [...ends];
  let sum = 0;
  for (let node = todo.pop(); node; node = todo.pop()) {
    if (seen.has(node) || node.op.kind === "source") continue;
    seen.add(node);
    sum += flopsOf(node);
    for (const v of node.inputs) if (v) todo.push(v.node);
  }
  return sum;
}

const copyOf = (t: TensorData): TensorData => ({ ...t, data: t.data.slice() });

/** Element by element: both have the same type. */
function copyInto(to: TypedArray, from: TypedArray): void {
  (to as Float32Array).set(from as Float32Array); // any typed array: set() converts nothing between equal types
}

/** Turns places into addresses: uploads constants, and gives temporaries memory. */
class Binder {
  readonly kernels: Kernel[] = [];
  readonly launches: Launch[] = [];
  readonly memories: Memory[] = [];
  private readonly numbers = new Map<Kernel, number>();
  private readonly uploads = new Map<TypedArray, number>();

  constructor(
    private readonly device: CpuDevice,
    private readonly places: Places,
    private readonly isSeparate: boolean,
  ) {}

  bind(steps: readonly Step[]): [number, number][] {
    this.uploadConstants(steps);
    const temporaries = this.allocateTemporaries(steps);
    return steps.map((step) => {
      const from = this.launches.length;
      for (const { kernel, places } of step.calls ?? []) {
        const args = places.map((p) => this.address(p, temporaries));
        this.launches.push({ kernel: this.numberOf(kernel), args });
      }
      return [from, this.launches.length];
    });
  }

  /** Layers of equal shapes share a kernel. */
  private numberOf(kernel: Kernel): number {
    const known = this.numbers.get(kernel);
    if (known !== undefined) return known;
    const number = this.kernels.push(kernel) - 1;
    this.numbers.set(kernel, number);
    return number;
  }

  private address(place: Place, temporaries: ReadonlyMap<number, number>): number {
    switch (place.k) {
      case "value": {
        const constant = constantOf(place.value);
        return constant ? this.constant(constant.data) : this.places.address(place.value);
      }
      case "constant":
        return this.constant(place.data);
      case "temporary":
        return temporaries.get(place.id) as number; // allocated for all ids
      default:
        return place satisfies never;
    }
  }
  private constant(data: TypedArray): number {
    const address = this.uploads.get(data);
    invariant(address !== undefined, "a constant that was not uploaded");
    return address;
  }

  /** All constants in one memory, each at a cache line. */
  private uploadConstants(steps: readonly Step[]): void {
    const all = new Set<TypedArray>();
    for (const place of steps.flatMap((s) => (s.calls ?? []).flatMap((c) => c.places))) {
      const data = place.k === "constant" ? place.data : place.k === "value" ? constantOf(place.value)?.data : undefined;
      if (data) all.add(data);
    }
    const total = [...all].reduce((n, data) => n + align(data.byteLength), 0);
    const shared = this.isSeparate || total === 0 ? undefined : this.alloc(total);
    let offset = 0;
    for (const data of all) {
      const memory = shared ?? this.alloc(Math.max(1, data.byteLength));
      memory.view().set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), shared ? offset : 0);
      this.uploads.set(data, memory.address + (shared ? offset : 0));
      offset += align(data.byteLength);
    }
  }

  /** Steps run one after another, so that all share the same temporaries. */
  private allocateTemporaries(steps: readonly Step[]): ReadonlyMap<number, number> {
    const sizes = new Map<number, number>();
    for (const place of steps.flatMap((s) => (s.calls ?? []).flatMap((c) => c.places)))
      if (place.k === "temporary") sizes.set(place.id, Math.max(sizes.get(place.id) ?? 0, place.bytes));
    return new Map([...sizes].map(([id, bytes]) => [id, this.alloc(bytes).address]));
  }

  private alloc(bytes: number): Memory {
    const memory = this.device.alloc(bytes);
    this.memories.push(memory);
    return memory;
  }
}
