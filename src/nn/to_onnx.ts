// A module and examples of its inputs → an ONNX file: what it computes when it is not training, with its parameters under their own names.
import { exportOnnx } from "../formats/onnx/export.ts";
import { writeFileAtomic } from "../formats/write_file.ts";
import { HeddleError } from "../ir/error.ts";
import type { Graph } from "../ir/graph.ts";
import { Tensor, toGraph, zeros } from "../tensor/index.ts";
import { OnnxModule } from "./from_onnx.ts";
import type { Module } from "./module.ts";

type Named = Readonly<Record<string, Tensor>>;

export interface ExportModuleOptions {
  /** Where the file goes; default: nowhere, its bytes are returned. */
  readonly path?: string;
  /** A name for the first size of all inputs: the file takes any number there. Default: the size of the examples. */
  readonly batch?: string;
  /** What the network computes. Default: the module's forward with the inputs in their order; its only output is called y. */
  readonly forward?: (inputs: Named) => Tensor | Named;
}

/** `inputs` are examples by name: their types and shapes count. Throws HeddleError ("unsupported") where ONNX has no operator for something. */
export async function exportModule<M extends Module & { forward(...args: never[]): unknown }>(
  module: M,
  inputs: Named,
  { path, batch, forward = forwardOf(module) }: ExportModuleOptions = {},
): Promise<Uint8Array> {
  const graph = await graphOf(module, inputs, forward);
  const other = batch === undefined ? null : { name: batch, other: await graphOf(module, enlarged(inputs), forward) };
  const bytes = exportOnnx(graph, other ? { batch: other } : {});
  if (path !== undefined) await writeFileAtomic(path, bytes);
  return bytes;
}

const forwardOf =
  (module: Module & { forward(...args: never[]): unknown }) =>
  (inputs: Named): Tensor | Named => {
    if (module instanceof OnnxModule) return module.forward(inputs);
    const result: unknown = module.forward(...(Object.values(inputs) as never[])); // its own types cannot be known here
    if (result instanceof Tensor) return result;
    throw new HeddleError("bad-argument", "exportModule: the module's forward gives no tensor; say with forward what the outputs are");
  };

async function graphOf(module: Module, inputs: Named, forward: (inputs: Named) => Tensor | Named): Promise<Graph> {
  const names = Object.keys(inputs);
  const modes = [...module.modules()].map((part) => [part, part.training] as const);
  let outputs: readonly string[] = [];
  const traced = (...args: Tensor[]): Tensor[] => {
    const result = forward(Object.fromEntries(args.map((t, i) => [names[i], t])));
    const named = result instanceof Tensor ? { y: result } : result;
    outputs = Object.keys(named);
    return Object.values(named);
  };
  try {
    module.eval();
    const graph = await toGraph(traced, Object.values(inputs), { inputs: names, parameters: module.namedState() });
    return { ...graph, outputs: graph.outputs.map(({ value }, i) => ({ name: outputs[i], value })) };
  } finally {
    for (const [part, training] of modes) part.training = training;
  }
}

/** Of one more at axis 0. */
function enlarged(inputs: Named): Named {
  const scalar = Object.keys(inputs).find((name) => inputs[name].rank === 0);
  if (scalar !== undefined) throw new HeddleError("bad-argument", `exportModule: input ${scalar} has no axis that could be the batch`);
  return Object.fromEntries(
    Object.entries(inputs).map(([name, { shape, dtype }]) => [name, zeros([shape[0] + 1, ...shape.slice(1)], dtype)]),
  );
}
