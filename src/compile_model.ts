// All that a model needs the importer and the compiler for; loaded when it does, since a model from the cache needs neither.
import { importGraph } from "./formats/onnx/import.ts";
import type { GraphProto, TensorProto } from "./formats/onnx/messages.ts";
import { type OnnxModel, readOnnx } from "./formats/onnx/read.ts";
import type { Graph } from "./ir/graph.ts";
import type { TensorData } from "./ir/tensor.ts";
import { evaluateGraph } from "./ops/index.ts";
import type { Binding } from "./run/binding.ts";
import { bindGraph, type CompileOptions, compile } from "./run/compile.ts";
import type { Program } from "./run/program.ts";

type Shapes = Readonly<Record<string, readonly number[]>>;

export const parseModel = (bytes: Uint8Array, directory: string | undefined): OnnxModel => readOnnx(bytes, { directory });

export const modelGraph = (onnx: OnnxModel, shapes: Shapes): Graph => importGraph(onnx, shapes);

/** `isDetached`: the program lets go of the graph when it can (run/compile.ts). */
export const compileModel = (onnx: OnnxModel, shapes: Shapes, options: CompileOptions, isDetached: boolean): Promise<Program> =>
  compile(importGraph(onnx, shapes), options, isDetached);

/** The first half of compileModel, for a program that exists. */
export const bindModel = (onnx: OnnxModel, shapes: Shapes, options: CompileOptions): Binding =>
  bindGraph(importGraph(onnx, shapes), options);

export const evaluateModel = (onnx: OnnxModel, inputs: Readonly<Record<string, TensorData>>): Record<string, TensorData> =>
  evaluateGraph(importGraph(onnx, Object.fromEntries(onnx.inputs.map(({ name }) => [name, inputs[name].shape]))), inputs);

/** ONNX's number for data in a file beside the model's. */
const EXTERNAL = 1;
const isExternal = (tensor: TensorProto | undefined): boolean => tensor?.dataLocation === EXTERNAL;

/** Whether the bytes of the model are not all of it. */
export function hasExternalData({ proto }: OnnxModel): boolean {
  const inNodes = (nodes: GraphProto["node"]): boolean =>
    nodes.some((n) => n.attribute.some((a) => isExternal(a.t) || (a.g && inGraph(a.g)) || a.graphs.some(inGraph)));
  const inGraph = (graph: GraphProto): boolean => graph.initializer.some(isExternal) || inNodes(graph.node);
  return (proto.graph !== undefined && inGraph(proto.graph)) || proto.functions.some((f) => inNodes(f.node));
}
