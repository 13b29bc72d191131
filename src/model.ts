// A network as its user sees it: loaded from a file, compiled for each set of input shapes when first needed, run with tensors.

import type { Specialization } from "./compile_model.ts";
import type { CpuDevice } from "./devices/cpu.ts";
import type { GpuDevice } from "./devices/gpu.ts";
import { type Device, type DeviceOptions, isGpu, openAnyDevice } from "./devices/open.ts";
import { assertPrecision } from "./devices/precision.ts";
import { HeddleError } from "./ir/error.ts";
import type { Graph } from "./ir/graph.ts";
import type { Precision } from "./ir/precision.ts";
import type { TensorData } from "./ir/tensor.ts";
import {
  checkInputs,
  isDynamic,
  isSmall,
  type ModelValue,
  type Shapes,
  specializationKey,
  specialize,
  type Tensors,
} from "./model_inputs.ts";
import { ModelSource, type SourceOptions } from "./model_source.ts";
import type { CompileOptions } from "./run/compile.ts";
import type { GpuProgram } from "./run/gpu/program.ts";
import { isComplete } from "./run/image.ts";
import type { SparseMode } from "./run/implement/sparse_cost.ts";
import type { Program } from "./run/program.ts";

export type { ModelValue, Shapes, Tensors };

export interface LoadOptions extends DeviceOptions, SourceOptions {
  /** Shapes to compile for at once, by input name. Others are compiled when first run. */
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
  /** Runs on the device's own threads only, so that this thread never waits inside a run. Default: false, held for some 20 ms at most at a time. */
  readonly offThread?: boolean;
  /** Each tensor in memory of its own, against a guard page (x86): any access past its end kills the process. For tests. */
  readonly guardPages?: boolean;
  /** Bytes that tensors and weights may take for one set of shapes; more is refused before it is allocated. Default: what this machine has. */
  readonly memoryLimit?: number;
  /** What layers with sparse weights are compiled to on a CPU: what is predicted to be faster ("auto", the default), sparse kernels, or dense ones. */
  readonly sparse?: SparseMode;
  /**
   * What products and convolutions multiply where the model has float32: copies in 16 bits, which then are all that is stored, or on cuda numbers
   * rounded to tf32. Sums, all other arithmetic, and outputs stay float32. Default: f32.
   */
  readonly precision?: Precision;
  /** Called after each pass of a compilation; nothing is taken from the cache then. */
  readonly onPass?: (name: string, graph: Graph, ms: number) => void;
}

/** Programs for this many sets of shapes are kept; the one used longest ago goes first. */
const MAX_PROGRAMS = 16;

/**
 * Loads an ONNX model from a path or from its bytes, and opens a device for it.
 * Throws HeddleError: "missing" (file, device), "bad-model", "unsupported", "bad-argument".
 */
export async function loadModel(source: string | Uint8Array, options: LoadOptions = {}): Promise<Model> {
  const device = await openFor(options);
  if (device && !isGpu(device)) device.start(); // its threads come up while the model is read
  const found = await readModel(source, isUncached(options) ? { ...options, cache: false } : options).catch((e: unknown) => {
    device?.close();
    throw e;
  });
  return load(found, device, options);
}

/** Null: the float64 reference. */
async function openFor(options: LoadOptions): Promise<Device | null> {
  const device = options.device === "reference" ? null : await openAnyDevice(options);
  try {
    assertPrecision(device, options.precision);
  } catch (e) {
    await device?.close();
    throw e;
  }
  return device;
}

/** The first half of loadModel: finds out what the model takes and gives, and opens no device. */
export const readModel = (source: string | Uint8Array, options: SourceOptions = {}): Promise<ModelSource> =>
  ModelSource.open(source, options);

/** The second half of loadModel: opens a device, and compiles where all shapes are known. */
export async function openModel(source: ModelSource, options: LoadOptions = {}): Promise<Model> {
  return load(source, await openFor(options), options);
}

async function load(source: ModelSource, device: Device | null, options: LoadOptions): Promise<Model> {
  const model = new Model(source, device, options);
  try {
    if (options.shapes || model.inputs.every((i) => i.shape?.every((d) => typeof d === "number")))
      await model.prepare(options.shapes ?? {});
  } catch (e) {
    // Compiled when the values of the small inputs are known; shapes that the user gave must do by themselves.
    if (isDynamic(e) && !options.shapes && model.hasSmallInputs) return model;
    model.dispose();
    throw e;
  }
  return model;
}

/** Guard pages need a layout of their own, and who watches the passes wants them to run. */
const isUncached = ({ device, guardPages, onPass }: LoadOptions): boolean => device === "reference" || guardPages === true || !!onPass;

const isOnCpu = (program: AnyProgram): program is Program => "compiled" in program.image;

/** The compiler, loaded when the first program is not in the cache. */
const compiler = () => import("./compile_model.ts");

/** A program of a CPU or of a GPU. */
export type AnyProgram = Program | GpuProgram;

export class Model implements Disposable {
  readonly inputs: readonly ModelValue[];
  readonly outputs: readonly ModelValue[];
  private readonly programs = new Map<string, Promise<AnyProgram>>();
  /** Programs that are not in the cache yet, by their key in it. */
  private readonly unsaved = new Map<AnyProgram, string>();
  private saving: Promise<unknown> = Promise.resolve();
  private queue: Promise<unknown> = Promise.resolve();
  private isDisposed = false;
  /** Number in DECISIVE that this model needs. */
  private decisive = 0;

  /** Use loadModel. */
  constructor(
    private readonly source: ModelSource,
    /** Null: the float64 reference. */
    readonly device: Device | null,
    private readonly options: LoadOptions,
  ) {
    this.inputs = source.inputs;
    this.outputs = source.outputs;
  }

  /** Of this process that work at once. */
  get threads(): number {
    return this.device && !isGpu(this.device) ? this.device.threads : 1;
  }

  /** Whether there are inputs whose values may decide shapes. */
  get hasSmallInputs(): boolean {
    return this.inputs.some(isSmall);
  }

  /** The network for these input shapes, as it was read. */
  async graph(shapes: Shapes = {}): Promise<Graph> {
    const { modelGraph } = await compiler();
    return modelGraph(await this.source.onnx(), { shapes, values: {} });
  }

  /** Compiles for these input shapes ahead of the first run. */
  async prepare(shapes: Shapes = {}): Promise<void> {
    this.assertUsable();
    if (this.device) await this.ready({ shapes, values: {} });
    else await this.graph(shapes);
  }

  /** The compiled program for these input shapes, with the schedule it was made from. */
  async program(shapes: Shapes = {}): Promise<AnyProgram> {
    this.assertUsable();
    const made = { shapes, values: {} };
    const program = await this.ready(made, true);
    const device = this.openedDevice();
    if (program.isAttached) return program;
    const { bindModel, bindModelForGpu } = await compiler();
    const onnx = await this.source.onnx();
    const { sparseRates } = program.image; // this machine's may have been measured again
    if (isOnCpu(program))
      program.attach(bindModel(onnx, made, { ...this.compileOptions(), device: device as CpuDevice, sparseRates })); // the program's
    else program.attach(await bindModelForGpu(onnx, made, { ...this.compileOptions(), device: device as GpuDevice })); // the program's
    return program;
  }

  private assertUsable(): void {
    if (this.isDisposed) throw new HeddleError("bad-argument", "model: used after dispose()");
  }
  private openedDevice(): Device {
    if (!this.device) throw new HeddleError("bad-argument", "model: the reference device has no programs");
    return this.device;
  }
  private compileOptions(): Omit<CompileOptions, "device"> {
    const { guardPages, memoryLimit, onPass, precision, sparse } = this.options;
    return { separateTensors: guardPages, memoryLimit, onPass, precision, storesNarrow: true, sparse };
  }

  /** The program for these inputs. `keepsSchedule`: a fresh one stays attached to what it was made from, which takes memory. */
  private ready(made: Specialization, keepsSchedule = false): Promise<AnyProgram> {
    const { shapes } = made;
    const device = this.openedDevice();
    const { precision = "f32", sparse = "auto" } = this.options;
    const key =
      specializationKey(this.inputs, made) + (sparse === "auto" ? "" : ` sparse ${sparse}`) + (precision === "f32" ? "" : precision);
    const isOdd = Object.keys(shapes).some((name) => !this.inputs.some((i) => i.name === name)); // compiling will refuse it
    const known = isOdd ? undefined : this.programs.get(key);
    if (known) {
      this.programs.delete(key); // put last: used most recently
      this.programs.set(key, known);
      return known;
    }
    if (isOdd) return this.compile(made, key, keepsSchedule);
    const program = this.load(key, device).then((cached) => cached ?? this.compile(made, key, keepsSchedule));
    this.programs.set(key, program);
    program.catch(() => this.programs.delete(key));
    this.dropOldest();
    return program;
  }

  /** From the cache. */
  private async load(key: string, device: Device): Promise<AnyProgram | null> {
    const { cached } = this.source;
    return cached && !isUncached(this.options) ? cached.cache.load(cached.hash + key, device) : null;
  }

  private async compile(made: Specialization, key: string, keepsSchedule: boolean): Promise<AnyProgram> {
    const { compileGraph, hasExternalData, importModel } = await compiler();
    const isWhole = !hasExternalData(await this.source.onnx());
    const program = await importModel(await this.source.onnx(), made).then((graph) => {
      this.source.release(); // what code generation needs is not added to it
      return compileGraph(graph, this.openedDevice(), this.compileOptions(), !keepsSchedule);
    });
    const { cached } = this.source;
    if (cached && isWhole && isComplete(program.image) && !isUncached(this.options)) this.unsaved.set(program, cached.hash + key);
    return program;
  }

  /** Puts a program into the cache, unless it is there. It must not be freed before this resolves. */
  private save(program: AnyProgram): Promise<unknown> {
    const key = this.unsaved.get(program);
    const { cached, inputs, outputs } = this.source;
    const { device } = this;
    if (key === undefined || !cached || !device) return this.saving;
    this.unsaved.delete(program);
    this.saving = this.saving.then(async () => {
      await cached.cache.store(key, device, program);
      await cached.cache.writeFacts(cached.hash, { inputs, outputs });
    });
    return this.saving;
  }

  private dropOldest(): void {
    if (this.programs.size <= MAX_PROGRAMS) return;
    const [[key, oldest]] = this.programs;
    this.programs.delete(key);
    // After the runs that are queued: one of them may use it.
    this.enqueue(async () => {
      const program = await oldest;
      await this.save(program);
      program.free();
    }).catch(() => {});
  }

  /**
   * Runs the network. Calls may overlap: they are queued. Returns new tensors by output name.
   * Throws HeddleError("bad-input") for missing, unknown or ill-shaped inputs.
   */
  async run(inputs: Tensors): Promise<Record<string, TensorData>> {
    this.assertUsable();
    return this.enqueue(() => this.runNow(inputs));
  }

  private async runNow(inputs: Tensors): Promise<Record<string, TensorData>> {
    checkInputs(this.inputs, inputs);
    const run = await this.runnerFor(inputs);
    return run();
  }

  /** Gets a program for the inputs' shapes; where those are not enough, for the values of small inputs too. Returns what runs it. */
  private async runnerFor(inputs: Tensors): Promise<() => Promise<Record<string, TensorData>>> {
    const { made, level } = await specialize(this.inputs, inputs, this.decisive, (wanted) => this.runner(wanted, inputs));
    this.decisive = level;
    return made;
  }

  private async runner(made: Specialization, inputs: Tensors): Promise<() => Promise<Record<string, TensorData>>> {
    if (!this.device) {
      const { evaluateModel } = await compiler();
      const results = evaluateModel(await this.source.onnx(), made, inputs, this.options.precision);
      return async () => results;
    }
    const program = await this.ready(made);
    return async () => {
      const outputs = await program.run(inputs, this.options.offThread);
      if (this.unsaved.has(program)) setImmediate(() => this.save(program)); // after the result
      return outputs;
    };
  }

  /** Runs `work` after what was queued before. */
  private enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.queue.then(work);
    this.queue = result.catch(() => {});
    return result;
  }

  /** Frees memory, code and threads. Runs that are queued end first. */
  dispose(): void {
    if (this.isDisposed) return;
    this.isDisposed = true;
    const end = async (): Promise<void> => {
      for (const p of await Promise.allSettled(this.programs.values())) {
        if (p.status === "rejected") continue;
        await this.save(p.value);
        p.value.free();
      }
      await this.device?.close();
    };
    this.queue = this.queue.then(end, end);
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
