// The model and shapes that a command line names → a loaded model, what its inputs are, and its compiled program.
import type { DeviceOptions } from "../devices/open.ts";
import { resolveShapes } from "../formats/onnx/shapes.ts";
import type { DType } from "../ir/dtype.ts";
import { type LoadOptions, loadModel, type Model } from "../model.ts";
import { type Invocation, type Options, UsageError } from "./command.ts";
import { namedShapes, shapeTexts } from "./options.ts";

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

/** Loads a model without compiling it for shapes that the command line gives. The caller disposes of it. */
export async function openModel(path: string, options: Options, load: DeviceOptions & LoadOptions): Promise<OpenedModel> {
  const texts = shapeTexts(options);
  const model = await loadModel(path, load);
  try {
    return { path, model, ...shapesOf(model, namedShapes(texts, model.inputs)) };
  } catch (e) {
    model.dispose();
    throw e;
  }
}

function shapesOf(model: Model, shapes: OpenedModel["shapes"]): Pick<OpenedModel, "shapes" | "inputs"> {
  const concrete = resolveShapes(model.onnx, shapes);
  return { shapes, inputs: model.inputs.map(({ name, dtype }) => ({ name, dtype, shape: concrete.get(name)! })) }; // resolved for all
}

/** Opens a model, runs `work` on it, and disposes of it. */
export async function withModel<T>(
  { options }: Invocation,
  path: string,
  load: DeviceOptions & LoadOptions,
  work: (opened: OpenedModel) => Promise<T>,
): Promise<T> {
  const opened = await openModel(path, options, load);
  try {
    return await work(opened);
  } finally {
    opened.model.dispose();
  }
}

/** The device as commands name it: "x86 avx512", "wasm", "reference". */
export function deviceName({ device }: Model): string {
  if (!device) return "reference";
  return device.name === device.target.name ? device.name : `${device.name} ${device.target.name}`;
}
