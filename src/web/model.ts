// A network as a page sees it: loaded from an address, a file or bytes, compiled for each set of input shapes when first needed, run and timed.
import type { Specialization } from "../compile_model.ts";
import { inTurns } from "../devices/turns.ts";
import { importInPieces } from "../formats/onnx/import.ts";
import { type OnnxModel, readOnnx } from "../formats/onnx/read.ts";
import { HeddleError } from "../ir/error.ts";
import type { TensorData } from "../ir/tensor.ts";
import { checkInputs, type ModelValue, specializationKey, specialize, type Tensors } from "../model_inputs.ts";
import { describeNode, type NodeFacts } from "../run/describe.ts";
import { openWebDevice, type Peaks, type WebDevice, type WebDeviceOptions, type WebProgram } from "./device.ts";
import { loadOperators } from "./operators.ts";
import { readBytes, type WebSource } from "./source.ts";

/** One step of a program: a node of the file, or several that one kernel computes. */
export interface NodeTime extends NodeFacts {
  readonly shape: readonly number[];
  readonly ms: number;
}

/** Programs for this many sets of shapes are kept; the one used longest ago goes first. */
const MAX_PROGRAMS = 16;

/**
 * Loads an ONNX model and opens a device for it.
 * Throws HeddleError: "missing" (model, device), "bad-model", "unsupported", "bad-argument".
 */
export async function loadModel(source: WebSource, options: WebDeviceOptions = {}): Promise<Model> {
  const onnx = readOnnx(await readBytes(source));
  await loadOperators(onnx);
  return new Model(onnx, await openWebDevice(options));
}

export class Model implements Disposable {
  readonly inputs: readonly ModelValue[];
  readonly outputs: readonly ModelValue[];
  private readonly programs = new Map<string, Promise<WebProgram>>();
  private queue: Promise<unknown> = Promise.resolve();
  private isDisposed = false;
  /** Number of inputs' values that this model needs to be compiled (model_inputs.ts). */
  private decisive = 0;

  /** Use loadModel. */
  constructor(
    private readonly onnx: OnnxModel,
    private readonly opened: WebDevice,
  ) {
    const plain = ({ name, dtype, shape }: ModelValue): ModelValue => ({ name, dtype, shape });
    this.inputs = onnx.inputs.map(plain);
    this.outputs = onnx.outputs.map(plain);
  }

  get device(): "wasm" | "webgpu" {
    return this.opened.name;
  }
  /** For people: "WebAssembly, 2 threads". */
  get deviceDescription(): string {
    return this.opened.description;
  }
  get threads(): number {
    return this.opened.threads;
  }

  /**
   * Runs the network. Calls may overlap: they are queued. Returns new tensors by output name.
   * Throws HeddleError("bad-input") for missing, unknown or ill-shaped inputs.
   */
  run(inputs: Tensors): Promise<Record<string, TensorData>> {
    return this.enqueue(async () => (await this.programFor(inputs)).run(inputs));
  }

  /** Runs the network step by step and says what each node took. */
  profile(inputs: Tensors): Promise<NodeTime[]> {
    return this.enqueue(async () => {
      const times = await (await this.programFor(inputs)).profile(inputs);
      return times.map(({ node, ms }) => ({ ...describeNode(node), shape: node.outputs[0].type.shape, ms }));
    });
  }

  /** What the device can reach at best: the lines of a roofline. Takes about a second. */
  measurePeaks(): Promise<Peaks> {
    return this.enqueue(() => this.opened.measurePeaks());
  }

  /** The program for the inputs' shapes; where those are not enough, for the values of small inputs too. */
  private async programFor(inputs: Tensors): Promise<WebProgram> {
    checkInputs(this.inputs, inputs);
    const { made, level } = await specialize(this.inputs, inputs, this.decisive, (wanted) => this.ready(wanted));
    this.decisive = level;
    return made;
  }

  private ready(wanted: Specialization): Promise<WebProgram> {
    const key = specializationKey(this.inputs, wanted);
    const program = this.programs.get(key) ?? this.compile(wanted);
    this.programs.delete(key); // put last: used most recently
    this.programs.set(key, program);
    program.catch(() => this.programs.delete(key));
    this.dropOldest();
    return program;
  }

  private async compile({ shapes, values }: Specialization): Promise<WebProgram> {
    return this.opened.compile(await inTurns(importInPieces(this.onnx, shapes, values)));
  }

  private dropOldest(): void {
    if (this.programs.size <= MAX_PROGRAMS) return;
    const [[key, oldest]] = this.programs;
    this.programs.delete(key);
    oldest.then((program) => program.free()).catch(() => {}); // one that was not compiled holds nothing
  }

  /** Runs `work` after what was queued before. */
  private enqueue<T>(work: () => Promise<T>): Promise<T> {
    if (this.isDisposed) return Promise.reject(new HeddleError("bad-argument", "model: used after dispose()"));
    const result = this.queue.then(work);
    this.queue = result.catch(() => {});
    return result;
  }

  /** Frees memory, code and threads. Runs that are queued end first. */
  dispose(): void {
    if (this.isDisposed) return;
    this.isDisposed = true;
    this.queue.then(async () => {
      for (const made of await Promise.allSettled(this.programs.values())) if (made.status === "fulfilled") made.value.free();
      this.opened.close();
    });
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
