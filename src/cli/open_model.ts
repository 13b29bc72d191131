// The model and shapes that a command line names → a loaded model, what its inputs are, and its compiled program.
import { physicalCores } from "../devices/machine.ts";
import { isGpu } from "../devices/open.ts";
import { resolveShapes } from "../formats/onnx/shapes.ts";
import type { DType } from "../ir/dtype.ts";
import { type LoadOptions, type Model, openModel, readModel } from "../model.ts";
import { type Invocation, type Options, UsageError } from "./command.ts";
import { deviceOptions, namedShapes, shapeTexts } from "./options.ts";
import { threadsText } from "./units.ts";

export interface InputType {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

export interface OpenedModel {
  readonly path: string;
  readonly model: Model;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** All inputs with the sizes they are compiled for. */
  readonly inputs: readonly InputType[];
}

/** The one positional argument. */
export function modelPath({ args }: Invocation): string {
  if (args.length !== 1) throw new UsageError(`wanted one model, got ${args.length}`);
  return args[0];
}

/** Where shapes and files are checked before anything is compiled: wrong ones are refused at once. */
export function inputTypes(model: Pick<Model, "inputs">, options: Options): Pick<OpenedModel, "shapes" | "inputs"> {
  const shapes = namedShapes(shapeTexts(options), model.inputs);
  const concrete = resolveShapes(model, shapes);
  return { shapes, inputs: model.inputs.map(({ name, dtype }) => ({ name, dtype, shape: concrete.get(name)! })) }; // resolved for all
}

/** Opens a model compiled for the shapes that the command line gives, runs `work` on it, and disposes of it. */
export async function withModel<T>(
  { options, progress }: Invocation,
  path: string,
  load: LoadOptions,
  work: (opened: OpenedModel) => Promise<T>,
): Promise<T> {
  const source = await readModel(path);
  const { shapes, inputs } = inputTypes(source, options);
  progress("compiling");
  using model = await openModel(source, { ...load, shapes });
  return await work({ path, model, shapes, inputs });
}

/** Threads for engines on the CPU that a model is compared with: as many as it has itself, and where it is on a GPU those that are given or all. */
export const cpuThreads = ({ device, threads }: Model, options: Options): number =>
  device && isGpu(device) ? (deviceOptions(options).threads ?? physicalCores()) : threads;

/** The device as commands name it: "x86 avx512", "wasm", "cuda NVIDIA H200", "reference". */
export function deviceName({ device }: Model): string {
  if (!device) return "reference";
  if (isGpu(device)) return `${device.name} ${device.description}`;
  return device.name === device.target.name ? device.name : `${device.name} ${device.target.name}`;
}

/** With its threads, where it has any: "x86 avx512, 2 threads". */
export const deviceText = (name: string, threads: number): string =>
  /^(cuda|webgpu) /.test(name) ? name : `${name}, ${threadsText(threads)}`;
