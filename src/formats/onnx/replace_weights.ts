// A model and new values for some of its weights → the bytes of a model that is the same otherwise, symbolic sizes included.
import { HeddleError } from "../../ir/error.ts";
import type { TensorData } from "../../ir/tensor.ts";
import { AttributeType, type GraphProto, MODEL, type NodeProto, type SparseTensorProto, type TensorProto } from "./messages.ts";
import type { OnnxModel } from "./read.ts";
import { encodeSparseTensor } from "./sparse_tensor.ts";
import { decodeTensor, encodeTensor } from "./tensor.ts";
import { encode } from "./wire_writer.ts";

export interface ReplaceOptions {
  /** Whether weights that are smaller so are stored as positions and values of their nonzeros. Default: false, zeros are written. */
  readonly sparseStorage?: boolean;
}

/** Kinds of attributes that are not read, so that they would be lost. */
const UNREAD: readonly number[] = [
  AttributeType.SPARSE_TENSOR,
  AttributeType.SPARSE_TENSORS,
  AttributeType.TYPE_PROTO,
  AttributeType.TYPE_PROTOS,
];

/**
 * `weights` by the names of initializers, or of outputs of Constant nodes, which become initializers. Data outside of the file is taken in.
 * Throws HeddleError: "bad-argument" for names that the model lacks, "unsupported".
 */
export function replaceWeights(
  model: OnnxModel,
  weights: ReadonlyMap<string, TensorData>,
  { sparseStorage = false }: ReplaceOptions = {},
): Uint8Array {
  const { graph, directory } = model;
  for (const { proto } of model.nodes) refuseUnread(proto);
  const constants = graph.node.filter((node) => isConstant(node) && weights.has(node.output[0]));
  const old = [...graph.initializer.map(({ name }) => name), ...graph.sparseInitializer.map(({ values }) => values?.name ?? "")];
  const known = new Set([...old, ...constants.map((node) => node.output[0])]);
  const unknown = [...weights.keys()].find((name) => !known.has(name));
  if (unknown !== undefined) throw new HeddleError("bad-argument", `replaceWeights: the model has no weight ${unknown}`);
  const [dense, sparse] = stored(weights, sparseStorage);
  const kept = graph.initializer.filter(({ name }) => !weights.has(name)).map((proto) => inside(proto, directory));
  const changed: GraphProto = {
    ...graph,
    node: graph.node.filter((node) => !constants.includes(node)),
    input: graph.input.filter(({ name }) => !weights.has(name)), // old files name initializers there too, and sparse ones may not be
    initializer: [...kept, ...dense],
    sparseInitializer: [...graph.sparseInitializer.filter(({ values }) => !weights.has(values?.name ?? "")), ...sparse],
  };
  return encode(MODEL, { ...model.proto, graph: changed });
}

const isConstant = ({ opType, domain }: NodeProto): boolean => opType === "Constant" && domain === "";

function refuseUnread({ name, opType, attribute }: NodeProto): void {
  const lost = attribute.find(({ type }) => UNREAD.includes(type));
  if (lost) throw new HeddleError("unsupported", `${opType} ${name}: its attribute ${lost.name} cannot be copied to another file`);
}

function stored(weights: ReadonlyMap<string, TensorData>, isSparse: boolean): [TensorProto[], SparseTensorProto[]] {
  const dense: TensorProto[] = [];
  const sparse: SparseTensorProto[] = [];
  for (const [name, tensor] of weights) {
    const compact = isSparse ? encodeSparseTensor(tensor, name) : null;
    if (compact) sparse.push(compact);
    else dense.push(encodeTensor(tensor, name));
  }
  return [dense, sparse];
}

/** ONNX's number for data in a file beside the model's. */
const EXTERNAL = 1;

const inside = (proto: TensorProto, directory: string | undefined): TensorProto =>
  proto.dataLocation === EXTERNAL ? encodeTensor(decodeTensor(proto, `initializer ${proto.name}`, directory), proto.name) : proto;
