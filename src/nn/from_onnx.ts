// ONNX file → a module that can be trained on: its float weights are parameters with the names that they have in the file.
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { decodeAttributes } from "../formats/onnx/attribute.ts";
import { constantTensor } from "../formats/onnx/constant_node.ts";
import { importGraph } from "../formats/onnx/import.ts";
import { type OnnxModel, type OnnxValueInfo, readOnnx } from "../formats/onnx/read.ts";
import { decodeSparseTensor } from "../formats/onnx/sparse_tensor.ts";
import { decodeTensor } from "../formats/onnx/tensor.ts";
import { isFloat } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import type { Graph } from "../ir/graph.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import { applyGraph, fromData, Parameter, type Tensor } from "../tensor/index.ts";
import { type Member, Module } from "./module.ts";

export interface ImportOptions {
  /** Which weights optimizers change, or a test of their names. Default: all; running statistics never. */
  readonly trainable?: boolean | ((name: string) => boolean);
}

/** Inputs that say how an operator works, or what it has counted: by operator, from this place on. Running statistics are state, the others stay constants. */
const SETTINGS: Readonly<Record<string, number>> = {
  Clip: 1, DequantizeLinear: 1, Dropout: 1, OneHot: 1, Pad: 1, QuantizeLinear: 1, Range: 0, Resize: 1, Upsample: 1,
}; // biome-ignore format: a table
const STATISTICS: Readonly<Record<string, number>> = { BatchNormalization: 3 };

/** A tensor of the file by its name. */
interface Weight {
  readonly name: string;
  readonly tensor: TensorData;
}

/**
 * A network from a path or the bytes of an ONNX file, to be trained further. It computes as the file says: normalisations use their running statistics.
 * Throws HeddleError: "missing", "bad-model", "unsupported".
 */
export async function importModule(source: string | Uint8Array, options: ImportOptions = {}): Promise<OnnxModule> {
  if (typeof source !== "string") return new OnnxModule(readOnnx(source), options);
  const bytes = await readFile(source).catch((cause) => {
    throw new HeddleError("missing", `model ${source}: it cannot be read`, { cause });
  });
  return new OnnxModule(readOnnx(bytes, { directory: dirname(source) }), options);
}

/** The network of a file. Tensors go in and come out by the names that the file gives them. */
export class OnnxModule extends Module {
  readonly inputs: readonly OnnxValueInfo[];
  readonly outputs: readonly OnnxValueInfo[];
  private readonly named: readonly (readonly [string, Parameter])[];
  /** The file with its weights as inputs: nothing that is computed from them alone is folded. */
  private readonly open: OnnxModel;
  private readonly graphs = new Map<string, Graph>();

  constructor(model: OnnxModel, { trainable = true }: ImportOptions = {}) {
    super();
    const learns = typeof trainable === "function" ? trainable : () => trainable;
    const [settings, statistics] = [takenBy(model, SETTINGS), takenBy(model, STATISTICS)];
    const weights = [...weightsOf(model)].filter(({ name }) => !settings.has(name));
    this.named = weights.map(({ name, tensor }) => [
      name,
      new Parameter(fromData(tensor), { name, trainable: !statistics.has(name) && learns(name) }),
    ]);
    this.open = withInputs(model, weights);
    this.inputs = model.inputs;
    this.outputs = model.outputs;
  }

  override *members(): Iterable<Member> {
    yield* this.named;
  }

  forward(inputs: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
    const graph = this.graph(Object.fromEntries(Object.entries(inputs).map(([name, { shape }]) => [name, shape])));
    return applyGraph(graph, { ...inputs, ...Object.fromEntries(this.named.map(([name, { value }]) => [name, value])) });
  }

  /** The network for inputs of these shapes: its weights are inputs too, by their names. */
  graph(shapes: Readonly<Record<string, readonly number[]>>): Graph {
    const key = JSON.stringify(shapes);
    const graph = this.graphs.get(key) ?? importGraph(this.open, shapes);
    this.graphs.set(key, graph);
    return graph;
  }
}

/** Names of what nodes take at these places. */
function takenBy({ nodes }: OnnxModel, places: Readonly<Record<string, number>>): ReadonlySet<string> {
  const from = ({ opType }: { readonly opType: string }) => (Object.hasOwn(places, opType) ? places[opType] : Number.POSITIVE_INFINITY);
  return new Set(nodes.flatMap(({ proto }) => proto.input.filter((_, i) => i >= from(proto))));
}

/** Floats among the initializers and, as some exporters write weights so, among Constant nodes; single numbers of formulas are none. */
function* weightsOf({ graph, nodes, directory }: OnnxModel): Iterable<Weight> {
  for (const proto of graph.initializer) {
    const tensor = decodeTensor(proto, `initializer ${proto.name}`, directory);
    if (isFloat(tensor.dtype) && tensor.shape.length > 0) yield { name: proto.name, tensor };
  }
  const budget = { bytes: 0 };
  for (const proto of graph.sparseInitializer) {
    const name = proto.values?.name ?? "";
    const tensor = decodeSparseTensor(proto, `initializer ${name}`, budget, directory);
    if (isFloat(tensor.dtype)) yield { name, tensor };
  }
  for (const { proto } of nodes) {
    if (proto.opType !== "Constant" || proto.domain !== "") continue;
    const tensor = constantTensor(decodeAttributes(proto.attribute, "Constant", directory));
    if (isFloat(tensor.dtype) && elementCount(tensor.shape) > 1) yield { name: proto.output[0], tensor };
  }
}

/** The model with weights as inputs. */
function withInputs(model: OnnxModel, weights: readonly Weight[]): OnnxModel {
  const names = new Set(weights.map((w) => w.name));
  return {
    ...model,
    graph: {
      ...model.graph,
      initializer: model.graph.initializer.filter(({ name }) => !names.has(name)),
      sparseInitializer: model.graph.sparseInitializer.filter(({ values }) => !names.has(values?.name ?? "")),
    },
    nodes: model.nodes.filter(({ proto }) => proto.opType !== "Constant" || !names.has(proto.output[0])),
    inputs: [...model.inputs, ...weights.map(({ name, tensor: { dtype, shape } }) => ({ name, dtype, shape }))],
  };
}
