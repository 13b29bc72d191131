// A schedule → where everything of it lies: memories, constants to fill in, launches with places in them, stretches to run at a time.
import type { Memory, Slot } from "../devices/cpu.ts";
import { DTYPES, type DType, type TypedArray } from "../ir/dtype.ts";
import { invariant } from "../ir/error.ts";
import type { Value } from "../ir/graph.ts";
import type { Kernel } from "../ir/kernel.ts";
import type { Pieces } from "../ir/pieces.ts";
import type { TensorData } from "../ir/tensor.ts";
import { evaluateNode } from "../ops/index.ts";
import { constantOf, inputName } from "../ops/source.ts";
import { estimateMs } from "./cost.ts";
import {
  type Address,
  type MemoryNeed,
  type PlacedConstant,
  type PlacedLaunch,
  type PlacedTensor,
  type ProgramPlan,
  type Segment,
  STRETCH_MS,
} from "./image.ts";
import type { Schedule } from "./schedule.ts";
import { type AnyKernel, boundPlaces, type Place } from "./step.ts";

export interface BindOptions {
  readonly threads: number;
  /** Gives every tensor a memory of its own. */
  readonly isSeparate: boolean;
}

/** What a constant holds: its data, or the function that writes it. */
type Content = TypedArray | ((out: Float32Array) => void);

/** A tensor at a place in the program's memories. */
export type View = (tensor: Pick<PlacedTensor, "dtype" | "shape">, at: Address) => TensorData;

/** What kernels get beside their operands (u8) is bytes to the device, whatever its elements are. */
const viewAs = (dtype: DType, { buffer, byteOffset, byteLength }: TypedArray): TypedArray =>
  new DTYPES[dtype].array(buffer, byteOffset, byteLength / DTYPES[dtype].bytes);

/** A schedule with places. */
export class Binding<K extends AnyKernel = Kernel> {
  readonly kernels: K[] = [];
  /** What each constant is filled with. */
  private readonly contents: { readonly at: Address; readonly data: Content; readonly bytes: number; readonly dtype: DType }[] = [];
  /** Launches [from, to) of each step. */
  readonly ranges: readonly (readonly [from: number, to: number])[];
  readonly memories: MemoryNeed[] = [];
  readonly launches: PlacedLaunch[] = [];
  private readonly values: ReadonlyMap<Value, Address>;
  private readonly constantAt: ReadonlyMap<Content, Address>;
  private readonly temporaries: ReadonlyMap<number, Address>;
  private readonly numbers = new Map<K, number>();

  constructor(
    readonly schedule: Schedule<K>,
    private readonly options: BindOptions,
  ) {
    this.values = this.placeValues();
    this.constantAt = this.placeConstants();
    this.temporaries = this.placeTemporaries();
    this.ranges = this.bindSteps();
  }

  /** All of the program but its code. */
  image(): ProgramPlan {
    const { graph, outputs, states, backend } = this.schedule;
    const { sparse } = backend;
    const lasting = new Set(states.map((s) => s.input));
    const placed = (name: string, value: Value, at: Address | null): PlacedTensor => ({
      name,
      ...value.type,
      at,
      slots: this.slotsOf(value),
    });
    return {
      inputs: graph.inputs.filter((v) => !lasting.has(v)).map((v) => placed(inputName(v), v, this.values.get(v) ?? null)),
      outputs: outputs.map(({ name, value }) => placed(name, value, this.address(value))),
      states: states.map(({ name, input }) => ({ name, ...input.type, at: this.address(input), slots: null })),
      memories: this.memories,
      arenaBytes: this.schedule.arenaBytes,
      launches: this.launches,
      segments: this.segments(),
      ...(sparse && sparse.choices.length > 0 && { sparseRates: sparse.rates }),
    };
  }

  /** All uses of an input or output as arguments of launches; null where it is used in JavaScript, or as another input or output too. */
  private slotsOf(value: Value): Slot[] | null {
    if (this.options.isSeparate) return null; // each tensor at its guard page
    const owner = this.owner(value);
    const { graph, outputs, states } = this.schedule;
    const faces = [...graph.inputs, ...outputs.map((o) => o.value)].filter((v) => this.owner(v) === owner);
    const isHost = this.schedule.steps.some(
      (s) => !s.calls && [...s.node.inputs, ...s.node.outputs].some((v) => v && this.owner(v) === owner),
    );
    const isLasting = states.some((s) => s.values.includes(owner));
    if (faces.length !== 1 || isHost || isLasting || constantOf(owner)) return null;
    const slots: Slot[] = [];
    let launch = 0;
    for (const { calls } of this.schedule.steps) {
      for (const { places } of calls ?? []) {
        for (const [arg, p] of places.entries()) if (p.k === "value" && this.owner(p.value) === owner) slots.push({ launch, arg });
        launch++;
      }
    }
    return slots;
  }

  /** The tensor of a value; a constant's own. */
  read(value: Value, view: View): TensorData {
    return this.constantOf(value) ?? view(value.type, this.address(value));
  }
  /** The tensor of a constant. */
  constantOf(value: Value): TensorData | null {
    const constant = constantOf(this.owner(value));
    return constant ? { ...value.type, data: constant.data } : null;
  }

  /** Runs a step in JavaScript. */
  evaluate(step: number, view: View): void {
    const { node } = this.schedule.steps[step];
    const inputs = node.inputs.map((v) => v && this.read(v, view));
    for (const [i, { data }] of evaluateNode(node, inputs).entries()) {
      const output = this.read(node.outputs[i], view);
      (output.data as Float32Array).set(data as Float32Array); // both have the output's type: set() converts nothing
    }
  }

  private owner(value: Value): Value {
    return this.schedule.owners.get(value) ?? value;
  }

  /** Where a value lies. */
  address(value: Value): Address {
    const owner = this.owner(value);
    const constant = constantOf(owner);
    const at = constant ? this.constantAt.get(constant.data) : this.values.get(owner);
    invariant(at, `${owner.node.op.name}: a value without memory`);
    return at;
  }

  private align(bytes: number): number {
    const { alignment } = this.schedule.backend;
    return Math.ceil(bytes / alignment) * alignment;
  }
  private bytesOf(value: Value): number {
    return this.schedule.backend.bytesOf(value.type);
  }
  private memory(bytes: number, isConstant = false): number {
    return this.memories.push({ bytes: Math.max(1, bytes), isConstant }) - 1;
  }

  private placeValues(): ReadonlyMap<Value, Address> {
    const { offsets, sizes, arenaBytes } = this.schedule;
    const places = this.placeStates();
    const arena = this.options.isSeparate ? undefined : this.memory(arenaBytes);
    for (const [v, offset] of offsets) places.set(v, arena === undefined ? [this.memory(sizes.get(v)!), 0] : [arena, offset]); // both have all values
    return places;
  }

  /** In memory given for them, or all in one of the program's own. */
  private placeStates(): Map<Value, Address> {
    const { states } = this.schedule;
    const places = new Map<Value, Address>();
    const own = states.filter((s) => !s.memory);
    const total = own.reduce((n, s) => n + this.align(this.bytesOf(s.input)), 0);
    const shared = this.options.isSeparate || total === 0 ? undefined : this.memory(total);
    let offset = 0;
    for (const { name, input, values, memory } of states) {
      let at: Address;
      if (memory) at = [this.memories.push({ bytes: memory.bytes, isConstant: false, given: name }) - 1, 0];
      else if (shared === undefined) at = [this.memory(this.bytesOf(input)), 0];
      else {
        at = [shared, offset];
        offset += this.align(this.bytesOf(input));
      }
      for (const v of values) places.set(v, at);
    }
    return places;
  }

  private *places(): Iterable<{ readonly place: Place; readonly bytes: number }> {
    for (const { calls } of this.schedule.steps) for (const call of calls ?? []) yield* boundPlaces(call);
  }

  /** All constants in one memory, each at a cache line. */
  private placeConstants(): ReadonlyMap<Content, Address> {
    const sizes = new Map<Content, { readonly bytes: number; readonly dtype: DType }>();
    const keep = (value: Value): void => {
      const constant = constantOf(this.owner(value));
      if (constant) sizes.set(constant.data, { bytes: this.schedule.backend.bytesOf(constant), dtype: constant.dtype });
    };
    for (const { place, bytes } of this.places()) {
      if (place.k === "value") keep(place.value);
      else if (place.k === "constant") sizes.set(place.data, { bytes: place.data.byteLength, dtype: "u8" });
      else if (place.k === "packed") sizes.set(place.pack, { bytes, dtype: "f32" });
    }
    for (const { value } of this.schedule.outputs) keep(value);
    const total = [...sizes.values()].reduce((n, { bytes }) => n + this.align(bytes), 0);
    const shared = this.options.isSeparate || total === 0 ? undefined : this.memory(total, true);
    let offset = 0;
    for (const [data, { bytes, dtype }] of sizes) {
      const at: Address = shared === undefined ? [this.memory(bytes, true), 0] : [shared, offset];
      offset += this.align(bytes);
      this.contents.push({ at, data, bytes, dtype });
    }
    return new Map(this.contents.map(({ data, at }) => [data, at]));
  }

  /** Writes the constants into memories that hold zeros, one after another. */
  *fillInPieces(memories: readonly Memory[]): Pieces<void> {
    for (const { at, data, bytes } of this.contents) {
      const memory = memories[at[0]].view();
      if (typeof data === "function") data(new Float32Array(memory.buffer, memory.byteOffset + at[1], bytes / 4));
      else memory.set(new Uint8Array(data.buffer, data.byteOffset, bytes), at[1]);
      yield;
    }
  }

  /** The constants in the host's form, and where they belong. */
  constants(): PlacedConstant[] {
    return this.contents.map(({ at, dtype, data, bytes }) => {
      if (typeof data !== "function") return { at, dtype, data: viewAs(dtype, data) };
      const packed = new Float32Array(bytes / 4);
      data(packed);
      return { at, dtype, data: packed };
    });
  }

  /** Steps run one after another, so that all share the same temporaries. */
  private placeTemporaries(): ReadonlyMap<number, Address> {
    const sizes = new Map<number, number>();
    for (const { place } of this.places())
      if (place.k === "temporary") sizes.set(place.id, Math.max(sizes.get(place.id) ?? 0, place.bytes));
    return new Map([...sizes].map(([id, bytes]) => [id, [this.memory(bytes), 0]]));
  }

  private bindSteps(): [number, number][] {
    return this.schedule.steps.map((step) => {
      const from = this.launches.length;
      for (const { kernel, places } of step.calls ?? [])
        this.launches.push({ kernel: this.numberOf(kernel), args: places.map((p) => this.argument(p)) });
      return [from, this.launches.length];
    });
  }

  /** Layers of equal shapes share a kernel. */
  private numberOf(kernel: K): number {
    const known = this.numbers.get(kernel);
    if (known !== undefined) return known;
    const number = this.kernels.push(kernel) - 1;
    this.numbers.set(kernel, number);
    return number;
  }

  private argument(place: Place): Address {
    switch (place.k) {
      case "value":
        return this.address(place.value);
      case "constant":
        return this.constantAt.get(place.data)!; // placed for all places
      case "packed":
        return this.constantAt.get(place.pack)!; // placed for all places
      case "temporary":
        return this.temporaries.get(place.id)!; // placed for all ids
      default:
        return place satisfies never;
    }
  }

  /** Launches in stretches short enough for the event loop, interrupted by steps that run in JavaScript. */
  private segments(): Segment[] {
    const segments: Segment[] = [];
    let [start, end, ms] = [0, 0, 0];
    const known = new Map<K, number>(); // steps of one kernel that they share are alike
    const flush = (): void => {
      if (end > start) segments.push({ k: "launch", from: start, to: end });
      start = end;
      ms = 0;
    };
    for (const [i, step] of this.schedule.steps.entries()) {
      if (!step.calls) {
        flush();
        segments.push({ k: "host", step: i });
        continue;
      }
      const kernel = step.calls.length === 1 ? step.calls[0].kernel : undefined;
      const ofOne = (kernel && known.get(kernel)) ?? estimateMs(step.node);
      if (kernel) known.set(kernel, ofOne);
      const cost = ofOne / Math.sqrt(this.options.threads);
      if (ms > 0 && ms + cost > STRETCH_MS) flush();
      ms += cost;
      end = this.ranges[i][1];
    }
    flush();
    return segments;
  }
}
