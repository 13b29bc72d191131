// Convolutions by cuDNN: a convolution's description → an operation graph with its tail, computed by the fastest of the plans that the library proposes.
import { DTYPES } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";
import type { LibraryConv } from "../../ir/library_kernel.ts";
import { elementCount } from "../../ir/tensor.ts";
import { type CudaApi, type Handle, libraryNames } from "./driver.ts";
import { fastestOf, type LibraryCall } from "./fastest.ts";
import { keep, readKept } from "./kept.ts";

/** Functions of cuDNN, which return a cudnnStatus_t (the last one: nothing). */
const FUNCTIONS = {
  cudnnGetVersion: [],
  cudnnCreate: ["void *"],
  cudnnDestroy: ["uint64"],
  cudnnSetStream: ["uint64", "uint64"],
  cudnnBackendCreateDescriptor: ["int", "void *"],
  cudnnBackendDestroyDescriptor: ["uint64"],
  cudnnBackendSetAttribute: ["uint64", "int", "int", "int64", "void *"],
  cudnnBackendGetAttribute: ["uint64", "int", "int", "int64", "void *", "void *"],
  cudnnBackendFinalize: ["uint64"],
  cudnnBackendExecute: ["uint64", "uint64", "uint64"],
  cudnnGetLastErrorString: ["void *", "uint64"],
} as const;
type Name = keyof typeof FUNCTIONS;

/** Numbers of the library's enumerations: descriptors, their attributes by the descriptor, types of attributes. */
const KIND = { pointwise: 0, convolution: 1, engine: 2, configuration: 3, heuristics: 4, plan: 5, forward: 10, apply: 13, graph: 15, pack: 16, tensor: 17 } as const; // biome-ignore format: a table
const POINTWISE = { mode: 0, precision: 1 } as const;
const CONVOLUTION = { type: 100, mode: 101, dilations: 102, strides: 103, padsEnd: 104, padsBegin: 105, axes: 106 } as const;
const HEURISTICS = { mode: 200, graph: 201, results: 202 } as const;
const CONFIGURATION = { engine: 300 } as const;
const PLAN = { handle: 400, configuration: 401, workspaceBytes: 402, text: 405 } as const;
const FORWARD = { alpha: 700, beta: 701, convolution: 702, w: 703, x: 704, y: 705 } as const;
const APPLY = { pointwise: 750, x: 751, b: 752, y: 753 } as const;
const GRAPH = { handle: 800, operations: 801 } as const;
const TENSOR = { alignment: 900, type: 901, dimensions: 902, strides: 903, id: 906, isVirtual: 907 } as const;
const PACK = { ids: 1000, pointers: 1001, workspace: 1003 } as const;
const ENGINE = { notes: 1303 } as const;
const MODE = { add: 0, multiply: 1, relu: 100, crossCorrelation: 1, heuristicsA: 3 } as const;
/** What an engine does to the numbers: matrix units (for float32 operands: rounded to fewer bits), operands rounded, sums of fewer bits. */
const NOTE = { matrixUnits: 0, roundsOperands: 1, narrowSums: 2 } as const;
type DataType = LibraryConv["type" | "outType"];
const DATA: Readonly<Record<DataType, number>> = { f32: 0, f16: 2, i8: 3, i32: 4, u8: 6, bf16: 9 };

/** An attribute's value: the number of its type, and an array of it. */
type Attribute = readonly [name: number, type: number, value: BigInt64Array | BigUint64Array | Int32Array | Float32Array | Uint8Array];
const handle = (name: number, h: Handle): Attribute => [name, 0, BigUint64Array.of(h)];
const dataType = (name: number, type: DataType): Attribute => [name, 1, Int32Array.of(DATA[type])];
const truth = (name: number, is: boolean): Attribute => [name, 2, Uint8Array.of(Number(is))];
const integers = (name: number, list: readonly number[]): Attribute => [name, 3, BigInt64Array.from(list, BigInt)];
const float = (name: number, x: number): Attribute => [name, 4, Float32Array.of(x)];
const pointers = (name: number, list: readonly Handle[]): Attribute => [name, 6, BigUint64Array.from(list)];
const convolutionMode = (name: number, mode: number): Attribute => [name, 7, Int32Array.of(mode)];
const heuristicsMode = (name: number, mode: number): Attribute => [name, 8, Int32Array.of(mode)];
const pointwiseMode = (name: number, mode: number): Attribute => [name, 14, Int32Array.of(mode)];
const CHARACTERS = 24;
const DESCRIPTOR = 15;
const NOTES = 11;
const descriptors = (name: number, list: readonly Handle[]): Attribute => [name, DESCRIPTOR, BigUint64Array.from(list)];

/** Proposals that are tried, and the memory that one may ask for. */
const PROPOSALS = 8;
const WORKSPACE_BYTES = 256 << 20;
const ERROR_BYTES = 512;

/** A plan, with what it needs. */
interface Plan {
  readonly descriptor: Handle;
  readonly workspaceBytes: number;
}

export class CudaDnn {
  private made: Handle = 0n;
  private workspace: { readonly address: Handle; readonly bytes: number } = { address: 0n, bytes: 0 };
  private readonly outgrown: Handle[] = [];
  /** The fastest plan of each convolution. */
  private readonly plans = new Map<string, Plan>();

  private constructor(
    private readonly cuda: CudaApi,
    private readonly functions: ReadonlyMap<Name, (...args: readonly unknown[]) => number>,
    private readonly stream: Handle,
    private readonly gpu: string,
    private readonly allocate: (bytes: number) => Handle,
  ) {}

  /** All work goes to the stream. `gpu`: equal where the same plans work and are the fastest. Null where the library is not there. */
  static open(cuda: CudaApi, stream: Handle, gpu: string, allocate: (bytes: number) => Handle): CudaDnn | null {
    const functions = cuda.library(libraryNames("libcudnn", [".9"]), FUNCTIONS);
    return functions && new CudaDnn(cuda, functions, stream, gpu, allocate);
  }

  /** Made for the first convolution: the library takes its time to start. */
  private get handle(): Handle {
    if (this.made === 0n) {
      const out = new BigUint64Array(1);
      this.check("cudnnCreate", out);
      this.made = out[0];
      this.check("cudnnSetStream", this.made, this.stream);
    }
    return this.made;
  }

  private attempt(name: Name, ...args: readonly unknown[]): number {
    return this.functions.get(name)!(...args); // the table's
  }
  private check(name: Name, ...args: readonly unknown[]): void {
    const status = this.attempt(name, ...args);
    if (status !== 0) throw new HeddleError("io", `device cuda: ${name} failed with status ${status}: ${this.lastError()}`);
  }
  private lastError(): string {
    const text = Buffer.alloc(ERROR_BYTES);
    this.attempt("cudnnGetLastErrorString", text, text.length);
    return text.toString("latin1", 0, text.indexOf(0)).trim().replaceAll("\n", "; ");
  }

  private descriptor(kind: number, attributes: readonly Attribute[]): Handle {
    const made = this.unfinished(kind);
    for (const [name, type, value] of attributes) this.check("cudnnBackendSetAttribute", made, name, type, value.length, value);
    this.check("cudnnBackendFinalize", made);
    return made;
  }
  private unfinished(kind: number): Handle {
    const out = new BigUint64Array(1);
    this.check("cudnnBackendCreateDescriptor", kind, out);
    return out[0];
  }
  /** How many there are; the first of them are written to `out`. */
  private get(from: Handle, name: number, type: number, out: BigInt64Array | BigUint64Array | Int32Array): number {
    const count = new BigInt64Array(1);
    this.check("cudnnBackendGetAttribute", from, name, type, out.length, count, out);
    return Math.min(Number(count[0]), out.length);
  }

  /** A convolution at these addresses, ready to be called; where it is not known which of the library's proposals is the fastest, they are measured there. */
  prepare(conv: LibraryConv, addresses: readonly Handle[]): LibraryCall {
    const { name: _, params: __, ...shape } = conv;
    const key = JSON.stringify(["conv", this.gpu, this.attempt("cudnnGetVersion"), shape]);
    const plan = this.plans.get(key) ?? this.keptPlan(key, addresses) ?? this.fastest(key, conv, addresses);
    this.plans.set(key, plan);
    return this.call(plan, addresses);
  }

  /** What another process found, with the kernels that the library compiled for it; null: nothing, or what does not work here. */
  private keptPlan(key: string, addresses: readonly Handle[]): Plan | null {
    const text = readKept("plan", key);
    if (!text) return null;
    const [plan] = this.plan([handle(PLAN.handle, this.handle), [PLAN.text, CHARACTERS, text]]);
    if (!plan) return null;
    const call = this.call(plan, addresses);
    const works = call.attempt();
    call.free();
    if (!works) this.check("cudnnBackendDestroyDescriptor", plan.descriptor);
    return works ? plan : null;
  }

  private keepPlan(key: string, { descriptor }: Plan): void {
    const count = new BigInt64Array(1);
    const read = (room: number, out: Uint8Array | null): boolean =>
      this.attempt("cudnnBackendGetAttribute", descriptor, PLAN.text, CHARACTERS, room, count, out) === 0;
    if (!read(0, null) || count[0] <= 0n) return; // plans of some engines cannot be written down
    const text = new Uint8Array(Number(count[0]));
    if (read(text.length, text)) keep("plan", key, text);
  }

  private call({ descriptor, workspaceBytes }: Plan, addresses: readonly Handle[]): LibraryCall & { attempt(): boolean } {
    const pack = this.descriptor(KIND.pack, [
      integers(PACK.ids, addresses.map((_, i) => i + 1)),
      pointers(PACK.pointers, addresses),
      pointers(PACK.workspace, [this.workspaceOf(workspaceBytes)]),
    ]); // biome-ignore format: one idea a line
    return {
      attempt: () => this.attempt("cudnnBackendExecute", this.handle, descriptor, pack) === 0,
      call: () => this.check("cudnnBackendExecute", this.handle, descriptor, pack),
      free: () => this.check("cudnnBackendDestroyDescriptor", pack),
    };
  }

  /** Memory for all plans, which run one after another. What was given before stays: captured graphs hold its address. */
  private workspaceOf(bytes: number): Handle {
    if (bytes > this.workspace.bytes) {
      if (this.workspace.bytes > 0) this.outgrown.push(this.workspace.address);
      this.workspace = { address: this.allocate(bytes), bytes };
    }
    return this.workspace.address;
  }

  private fastest(key: string, conv: LibraryConv, addresses: readonly Handle[]): Plan {
    const able = this.proposals(conv).flatMap((plan) => {
      const call = this.call(plan, addresses);
      return call.attempt() ? [{ plan, call }] : [];
    });
    if (able.length === 0)
      throw new HeddleError("unsupported", `device cuda: cuDNN has no engine for ${conv.name} (${conv.type}, ${conv.inChannels} to ${conv.outChannels} channels)`); // biome-ignore format: short
    const best = fastestOf(this.cuda, this.stream, able.map(({ call }) => call)); // biome-ignore format: short
    for (const [i, { plan, call }] of able.entries()) {
      call.free();
      if (i !== best) this.check("cudnnBackendDestroyDescriptor", plan.descriptor);
    }
    this.keepPlan(key, able[best].plan);
    return able[best].plan;
  }

  /** Plans that compute with sums and operands as exact as their types. */
  private proposals(conv: LibraryConv): Plan[] {
    const graph = this.graph(conv);
    const heuristics = this.descriptor(KIND.heuristics, [descriptors(HEURISTICS.graph, [graph]), heuristicsMode(HEURISTICS.mode, MODE.heuristicsA)]); // biome-ignore format: short
    const found = BigUint64Array.from({ length: PROPOSALS }, () => this.unfinished(KIND.configuration));
    const count = this.get(heuristics, HEURISTICS.results, DESCRIPTOR, found);
    return [...found.subarray(0, count)].flatMap((configuration) =>
      this.isExact(configuration, conv)
        ? this.plan([handle(PLAN.handle, this.handle), descriptors(PLAN.configuration, [configuration])])
        : [],
    );
  }

  private isExact(configuration: Handle, { type, roundsF32 }: LibraryConv): boolean {
    const engine = BigUint64Array.of(this.unfinished(KIND.engine));
    this.get(configuration, CONFIGURATION.engine, DESCRIPTOR, engine);
    const notes = new Int32Array(16);
    const count = this.get(engine[0], ENGINE.notes, NOTES, notes);
    const isRounding = (note: number): boolean => note === NOTE.narrowSums || (type === "f32" && !roundsF32 && (note === NOTE.matrixUnits || note === NOTE.roundsOperands)); // biome-ignore format: one idea
    return !notes.subarray(0, count).some(isRounding);
  }

  /** None where the engine cannot do it after all, or asks for too much memory. */
  private plan(settings: readonly Attribute[]): Plan[] {
    const descriptor = this.unfinished(KIND.plan);
    const isSet = settings.every(([name, type, value]) => this.attempt("cudnnBackendSetAttribute", descriptor, name, type, value.length, value) === 0); // biome-ignore format: one idea
    const workspaceBytes = new BigInt64Array(1);
    const isThere = isSet && this.attempt("cudnnBackendFinalize", descriptor) === 0;
    if (isThere) this.get(descriptor, PLAN.workspaceBytes, 3, workspaceBytes);
    if (isThere && workspaceBytes[0] <= WORKSPACE_BYTES) return [{ descriptor, workspaceBytes: Number(workspaceBytes[0]) }];
    this.check("cudnnBackendDestroyDescriptor", descriptor);
    return [];
  }

  /** The convolution and its tail as operations; tensors in memory are numbered like the parameters, from 1. */
  private graph(conv: LibraryConv): Handle {
    const { images, inChannels, outChannels, groups, type, outType, tail } = conv;
    const spatial = atLeastTwo(conv, 1);
    let number = 0;
    const stored = (of: DataType, axes: readonly number[]): Handle => this.tensor(of, axes, ++number, false);
    const x = stored(type, [images, inChannels, ...spatial.input]);
    const w = stored(type, [outChannels, inChannels / groups, ...spatial.kernel]);
    const sums = type === "i8" ? "i32" : "f32";
    const perChannel = [1, outChannels, ...spatial.input.map(() => 1)];
    const bias = tail.hasBias ? stored(sums, perChannel) : null;
    const factor = type === "i8" && outType !== "i32" ? stored("f32", perChannel) : null;
    const shape = [images, outChannels, ...spatial.output];
    const added = tail.hasAdded ? stored(outType, shape) : null;
    const y = stored(outType, shape);
    const steps: ((from: Handle, to: Handle) => Handle)[] = [(_, to) => this.forward(conv, x, w, to)];
    const exact = factor ? 2 : 1; // steps that give sums
    if (bias) steps.push((from, to) => this.apply(MODE.add, from, bias, to, sums));
    if (factor) steps.push((from, to) => this.apply(MODE.multiply, from, factor, to));
    if (added) steps.push((from, to) => this.apply(MODE.add, from, added, to));
    if (tail.isRelu) steps.push((from, to) => this.apply(MODE.relu, from, null, to));
    const operations: Handle[] = [];
    steps.reduce((from, step, i) => {
      const to = i === steps.length - 1 ? y : this.tensor(i < exact ? sums : "f32", shape, VIRTUAL + i, true);
      operations.push(step(from, to));
      return to;
    }, x);
    return this.descriptor(KIND.graph, [handle(GRAPH.handle, this.handle), descriptors(GRAPH.operations, operations)]);
  }

  /** Axes are in the library's order (images, channels, spatial); in memory the channels are innermost. */
  private tensor(type: DataType, axes: readonly number[], id: number, isVirtual: boolean): Handle {
    const [, channels, ...spatial] = axes;
    const steps = spatial.map((_, i) => channels * elementCount(spatial.slice(i + 1)));
    return this.descriptor(KIND.tensor, [
      integers(TENSOR.dimensions, axes),
      integers(TENSOR.strides, [channels * elementCount(spatial), 1, ...steps]),
      dataType(TENSOR.type, type),
      integers(TENSOR.alignment, [DTYPES[type].bytes * 8]),
      integers(TENSOR.id, [id]),
      truth(TENSOR.isVirtual, isVirtual),
    ]);
  }

  private forward(conv: LibraryConv, x: Handle, w: Handle, y: Handle): Handle {
    const { strides, dilations } = atLeastTwo(conv, 1);
    const { padsBegin, padsEnd } = atLeastTwo(conv, 0);
    const convolution = this.descriptor(KIND.convolution, [
      dataType(CONVOLUTION.type, conv.type === "i8" ? "i32" : "f32"),
      convolutionMode(CONVOLUTION.mode, MODE.crossCorrelation),
      integers(CONVOLUTION.axes, [strides.length]),
      integers(CONVOLUTION.strides, strides),
      integers(CONVOLUTION.dilations, dilations),
      integers(CONVOLUTION.padsBegin, padsBegin),
      integers(CONVOLUTION.padsEnd, padsEnd),
    ]);
    return this.descriptor(KIND.forward, [
      float(FORWARD.alpha, 1),
      float(FORWARD.beta, 0),
      descriptors(FORWARD.convolution, [convolution]),
      descriptors(FORWARD.x, [x]),
      descriptors(FORWARD.w, [w]),
      descriptors(FORWARD.y, [y]),
    ]);
  }

  /** An operation of one tensor, or of two, element by element. */
  private apply(mode: number, x: Handle, b: Handle | null, y: Handle, precision: DataType = "f32"): Handle {
    const pointwise = this.descriptor(KIND.pointwise, [pointwiseMode(POINTWISE.mode, mode), dataType(POINTWISE.precision, precision)]);
    const operands = [descriptors(APPLY.x, [x]), ...(b ? [descriptors(APPLY.b, [b])] : []), descriptors(APPLY.y, [y])];
    return this.descriptor(KIND.apply, [descriptors(APPLY.pointwise, [pointwise]), ...operands]);
  }

  close(): void {
    if (this.made !== 0n) this.check("cudnnDestroy", this.made);
    if (this.workspace.bytes > 0) this.outgrown.push(this.workspace.address);
    for (const address of this.outgrown) this.cuda.driver("cuMemFree_v2", address);
  }
}

/** Numbers of tensors that are never in memory. */
const VIRTUAL = 100;

/** The library knows images and volumes: a line is an image of height one. */
function atLeastTwo(
  { input, output, kernel, strides, dilations, padsBegin, padsEnd }: LibraryConv,
  one: number,
): Pick<LibraryConv, "input" | "output" | "kernel" | "strides" | "dilations" | "padsBegin" | "padsEnd"> {
  const widened = (list: readonly number[]): readonly number[] => (list.length === 1 ? [one, ...list] : list);
  return {
    input: widened(input),
    output: widened(output),
    kernel: widened(kernel),
    strides: widened(strides),
    dilations: widened(dilations),
    padsBegin: widened(padsBegin),
    padsEnd: widened(padsEnd),
  };
}
