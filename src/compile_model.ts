// All that a model needs the importer and the compiler for; loaded when it does, since a model from the cache needs neither.
import { type Device, isGpu } from "./devices/open.ts";
import { inTurns } from "./devices/turns.ts";
import { importGraph, importInPieces } from "./formats/onnx/import.ts";
import type { GraphProto, TensorProto } from "./formats/onnx/messages.ts";
import { type OnnxModel, readOnnx } from "./formats/onnx/read.ts";
import type { Graph } from "./ir/graph.ts";
import type { GpuKernel } from "./ir/library_kernel.ts";
import type { Precision } from "./ir/precision.ts";
import type { TensorData } from "./ir/tensor.ts";
import { evaluateGraph } from "./ops/index.ts";
import { inPrecision } from "./passes/mixed_precision.ts";
import type { Binding } from "./run/binding.ts";
import { bindGraph, type CompileOptions, compile } from "./run/compile.ts";
import type { GpuCompileOptions, GpuProgram } from "./run/gpu/program.ts";
import type { Program } from "./run/program.ts";

/** What a program is made for: the shapes of all inputs, and the values of those that decide shapes inside. */
export interface Specialization {
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly values: Readonly<Record<string, TensorData>>;
}

export const parseModel = (bytes: Uint8Array, directory: string | undefined): OnnxModel => readOnnx(bytes, { directory });

export const modelGraph = (onnx: OnnxModel, { shapes, values }: Specialization): Graph => importGraph(onnx, shapes, values);

/** modelGraph, in turns of the event loop. */
export const importModel = (onnx: OnnxModel, { shapes, values }: Specialization): Promise<Graph> =>
  inTurns(importInPieces(onnx, shapes, values));

/** `isDetached`: the program lets go of the graph when it can (run/compile.ts). */
export async function compileGraph(
  graph: Graph,
  device: Device,
  options: Omit<CompileOptions, "device">,
  isDetached: boolean,
): Promise<Program | GpuProgram> {
  if (!isGpu(device)) return compile(graph, { ...options, device }, isDetached);
  const { compileForGpu } = await import("./run/gpu/program.ts");
  return compileForGpu(graph, { ...options, state: undefined, device });
}

/** A schedule with places for a program that exists. */
export const bindModel = (onnx: OnnxModel, made: Specialization, options: CompileOptions): Binding =>
  bindGraph(modelGraph(onnx, made), options);

/** The same for a GPU's. */
export const bindModelForGpu = async (onnx: OnnxModel, made: Specialization, options: GpuCompileOptions): Promise<Binding<GpuKernel>> =>
  (await import("./run/gpu/program.ts")).bindForGpu(modelGraph(onnx, made), options);

export const evaluateModel = (
  onnx: OnnxModel,
  made: Specialization,
  inputs: Readonly<Record<string, TensorData>>,
  precision?: Precision,
): Record<string, TensorData> => evaluateGraph(inPrecision(modelGraph(onnx, made), precision), inputs);

/** ONNX's number for data in a file beside the model's. */
const EXTERNAL = 1;
const isExternal = (tensor: TensorProto | undefined): boolean => tensor?.dataLocation === EXTERNAL;

/** Whether the bytes of the model are not all of it. */
export function hasExternalData({ proto }: OnnxModel): boolean {
  const inNodes = (nodes: GraphProto["node"]): boolean =>
    nodes.some((n) => n.attribute.some((a) => isExternal(a.t) || (a.g && inGraph(a.g)) || a.graphs.some(inGraph)));
  const inGraph = (graph: GraphProto): boolean =>
    [...graph.initializer, ...graph.sparseInitializer.flatMap((s) => [s.values, s.indices])].some(isExternal) || inNodes(graph.node);
  return (proto.graph !== undefined && inGraph(proto.graph)) || proto.functions.some((f) => inNodes(f.node));
}
