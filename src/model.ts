// A network as its user sees it: loaded from a file, compiled for each set of input shapes when first needed, run with tensors.
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { CpuDevice } from "./devices/cpu.ts";
import { type DeviceOptions, openDevice } from "./devices/open.ts";
import { importGraph } from "./formats/onnx/import.ts";
import { type OnnxModel, readOnnx } from "./formats/onnx/read.ts";
import type { DType } from "./ir/dtype.ts";
import { HeddleError } from "./ir/error.ts";
import type { Graph } from "./ir/graph.ts";
import type { TensorData } from "./ir/tensor.ts";
import { evaluateGraph } from "./ops/index.ts";
import { compile } from "./run/compile.ts";
import type { Program } from "./run/program.ts";

export interface LoadOptions extends DeviceOptions {
  /** Shapes to compile for at once, by input name. Others are compiled when first run. */
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
  /** Runs on the device's own threads only, so that this thread never waits inside a run. Default: false, held for some 20 ms at most at a time. */
  readonly offThread?: boolean;
  /** Where external data lies, for models given as bytes. Default: the file's folder. */
  readonly directory?: string;
  /** Each tensor in memory of its own, against a guard page (x86): any access past its end kills the process. For tests. */
  readonly guardPages?: boolean;
  /** Called after each pass of a compilation. */
  readonly onPass?: (name: string, graph: Graph, ms: number) => void;
}

/** An input or output: sizes are numbers, names of symbolic sizes, or null where nothing is known; a null shape has an unknown number of axes. */
export interface ModelValue {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly (number | string | null)[] | null;
}

export type Tensors = Readonly<Record<string, TensorData>>;
export type Shapes = Readonly<Record<string, readonly number[]>>;

/** Programs for this many sets of shapes are kept; the one used longest ago goes first. */
const MAX_PROGRAMS = 16;

/**
 * Loads an ONNX model from a path or from its bytes, and opens a device for it.
 * Throws HeddleError: "missing" (file, device), "bad-model", "unsupported", "bad-argument".
 */
export async function loadModel(source: string | Uint8Array, options: LoadOptions = {}): Promise<Model> {
  return openModel(await readModel(source, options.directory), options);
}

/** The first half of loadModel: parses and checks, and opens no device. */
export async function readModel(source: string | Uint8Array, folder?: string): Promise<OnnxModel> {
  const { bytes, directory } = typeof source === "string" ? await readModelFile(source) : { bytes: source, directory: undefined };
  return readOnnx(bytes, { directory: folder ?? directory });
}

/** The second half of loadModel: opens a device, and compiles where all shapes are known. */
export async function openModel(onnx: OnnxModel, options: LoadOptions = {}): Promise<Model> {
  const device = options.device === "reference" ? null : await openDevice(options);
  const model = new Model(onnx, device, options);
  try {
    if (options.shapes || model.inputs.every((i) => i.shape?.every((d) => typeof d === "number")))
      await model.prepare(options.shapes ?? {});
  } catch (e) {
    model.dispose();
    throw e;
  }
  return model;
}

async function readModelFile(path: string): Promise<{ bytes: Uint8Array; directory: string }> {
  try {
    return { bytes: await readFile(path), directory: dirname(path) };
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException; // readFile rejects with nothing else
    const why = code === "ENOENT" ? "there is no such file" : code === "EISDIR" ? "it is a folder" : `it cannot be read (${code})`;
    throw new HeddleError("missing", `model ${path}: ${why}`, { cause });
  }
}

export class Model implements Disposable {
  readonly inputs: readonly ModelValue[];
  readonly outputs: readonly ModelValue[];
  private readonly programs = new Map<string, Promise<Program>>();
  private queue: Promise<unknown> = Promise.resolve();
  private isDisposed = false;

  /** Use loadModel. */
  constructor(
    readonly onnx: OnnxModel,
    /** Null: the float64 reference. */
    readonly device: CpuDevice | null,
    private readonly options: LoadOptions,
  ) {
    this.inputs = onnx.inputs.map(({ name, dtype, shape }) => ({ name, dtype, shape }));
    this.outputs = onnx.outputs.map(({ name, dtype, shape }) => ({ name, dtype, shape }));
  }

  /** The network for these input shapes, as it was read. */
  graph(shapes: Shapes = {}): Graph {
    return importGraph(this.onnx, shapes);
  }

  /** Compiles for these input shapes ahead of the first run. */
  async prepare(shapes: Shapes = {}): Promise<void> {
    if (this.device) await this.program(shapes);
    else this.graph(shapes);
  }

  /** The compiled program for these input shapes. */
  program(shapes: Shapes = {}): Promise<Program> {
    if (this.isDisposed) throw new HeddleError("bad-argument", "model: used after dispose()");
    const { device } = this;
    if (!device) throw new HeddleError("bad-argument", "model: the reference device has no programs");
    const key = this.inputs.map((i) => (shapes[i.name] ?? i.shape ?? ["?"]).join("x")).join(" ");
    const known = this.programs.get(key);
    if (known) {
      this.programs.delete(key); // put last: used most recently
      this.programs.set(key, known);
      return known;
    }
    const made = this.compile(shapes, device);
    this.programs.set(key, made);
    made.catch(() => this.programs.delete(key));
    this.dropOldest();
    return made;
  }

  private async compile(shapes: Shapes, device: CpuDevice): Promise<Program> {
    return compile(this.graph(shapes), { device, separateTensors: this.options.guardPages, onPass: this.options.onPass });
  }

  private dropOldest(): void {
    if (this.programs.size <= MAX_PROGRAMS) return;
    const [[key, oldest]] = this.programs;
    this.programs.delete(key);
    // After the runs that are queued: one of them may use it.
    this.enqueue(async () => (await oldest).free()).catch(() => {});
  }

  /**
   * Runs the network. Calls may overlap: they are queued. Returns new tensors by output name.
   * Throws HeddleError("bad-input") for missing, unknown or ill-shaped inputs.
   */
  run(inputs: Tensors): Promise<Record<string, TensorData>> {
    return this.enqueue(() => this.runNow(inputs));
  }

  private async runNow(inputs: Tensors): Promise<Record<string, TensorData>> {
    this.checkInputs(inputs);
    const shapes = Object.fromEntries(this.inputs.map(({ name }) => [name, inputs[name].shape]));
    if (!this.device) return evaluateGraph(this.graph(shapes), inputs);
    const program = await this.program(shapes);
    return program.run(inputs, this.options.offThread);
  }

  /** Runs `work` after what was queued before. */
  private enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.queue.then(work);
    this.queue = result.catch(() => {});
    return result;
  }

  private checkInputs(inputs: Tensors): void {
    const names = this.inputs.map((i) => i.name);
    for (const name of Object.keys(inputs))
      if (!names.includes(name)) throw new HeddleError("bad-input", `input ${name}: the model has no such input, only ${names.join(", ")}`);
    for (const { name, dtype, shape } of this.inputs) {
      const given = inputs[name];
      const wanted = `${dtype}[${shape?.map((d) => d ?? "?").join(",") ?? "any shape"}]`;
      if (!given) throw new HeddleError("bad-input", `input ${name} is missing, wanted ${wanted}`);
      const fits = !shape || (given.shape.length === shape.length && shape.every((d, i) => typeof d !== "number" || d === given.shape[i]));
      if (given.dtype !== dtype || !fits)
        throw new HeddleError("bad-input", `input ${name}: got ${given.dtype}[${given.shape}], the model wants ${wanted}`);
    }
  }

  /** Frees memory, code and threads. Runs that are queued end first. */
  dispose(): void {
    if (this.isDisposed) return;
    this.isDisposed = true;
    const programs = [...this.programs.values()];
    const end = async (): Promise<void> => {
      for (const p of await Promise.allSettled(programs)) if (p.status === "fulfilled") p.value.free();
      this.device?.close();
    };
    this.queue = this.queue.then(end, end);
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
