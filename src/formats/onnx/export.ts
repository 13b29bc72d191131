// Graph → bytes of an ONNX file: groups flattened, constants as initializers.
import { DTYPES } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";
import {
  type AttrValue,
  apply,
  type Graph,
  type Node,
  type Op,
  rewriteGraph,
  type TensorType,
  topologicalOrder,
  type Value,
} from "../../ir/graph.ts";
import { Group, groupAttrs } from "../../ir/group.ts";
import type { Shape } from "../../ir/tensor.ts";
import { OPS } from "../../ops/index.ts";
import { constantOf, Input, inputName } from "../../ops/source.ts";
import { encodeAttribute } from "./attribute.ts";
import {
  create,
  DIMENSION,
  type Dimension,
  GRAPH,
  MODEL,
  NODE,
  type NodeProto,
  type SparseTensorProto,
  type TensorProto,
  VALUE,
  type ValueInfoProto,
} from "./messages.ts";
import { encodeSparseTensor } from "./sparse_tensor.ts";
import { withAnySize } from "./symbolic.ts";
import { encodeTensor } from "./tensor.ts";
import { encode } from "./wire_writer.ts";

/** Operators are written in the form of this version of ONNX's operator set (IR version 10), or of a later one that first had an operator. */
const OPSET = 21;
const IR_VERSION = 10;
const LATER: Readonly<Record<string, number>> = { RMSNormalization: 23, RotaryEmbedding: 23, Attention: 24, Swish: 24 };

export interface ExportOptions {
  /** Name of the graph in the file. */
  readonly name?: string;
  /** Makes the first size of all inputs one that whoever runs the file chooses: its name, and the same network for another such size. */
  readonly batch?: { readonly name: string; readonly other: Graph };
  /** Writes constants with few nonzeros as sparse initializers where that is smaller: float32 below a third. */
  readonly sparse?: boolean;
}

/** A file that importGraph reads back into a graph of equal results. Throws HeddleError ("unsupported") on operators that ONNX does not have. */
export function exportOnnx(graph: Graph, options: ExportOptions = {}): Uint8Array {
  const { batch } = options;
  const concrete = onnxOnly(graph);
  const flat = batch ? withAnySize(concrete, onnxOnly(batch.other)) : concrete;
  const dim = dimensions(graph, batch);
  const order = topologicalOrder(flat);
  const names = new ValueNames(flat);
  const nodes: NodeProto[] = [];
  const initializer: TensorProto[] = [];
  const sparseInitializer: SparseTensorProto[] = [];
  for (const node of order) {
    const constant = constantOf(node.outputs[0]);
    const sparse = constant && options.sparse ? encodeSparseTensor(constant, names.of(node.outputs[0])) : null;
    if (sparse) sparseInitializer.push(sparse);
    else if (constant) initializer.push(encodeTensor(constant, names.of(node.outputs[0])));
    else if (node.op !== Input) nodes.push(encodeNode(node, names));
  }
  for (const { name, value } of flat.outputs) {
    if (names.of(value) !== name) nodes.push(create(NODE, { opType: "Identity", input: [names.of(value)], output: [name] }));
  }
  const proto = create(MODEL, {
    irVersion: BigInt(IR_VERSION),
    producerName: "heddle",
    opsetImport: [{ domain: "", version: BigInt(Math.max(OPSET, ...order.map((n) => LATER[n.op.name] ?? 0))) }],
    graph: create(GRAPH, {
      name: options.name ?? "graph",
      node: nodes,
      initializer,
      sparseInitializer,
      input: flat.inputs.map((v, i) => valueInfo(inputName(v), v.type, dim(v.type.shape, batch?.other.inputs[i]))),
      output: flat.outputs.map(({ name, value }, i) => valueInfo(name, value.type, dim(value.type.shape, batch?.other.outputs[i].value))),
    }),
  });
  return encode(MODEL, proto);
}

/** The same network of operators that files may hold. */
const onnxOnly = (graph: Graph): Graph => channelsFirst(withoutOwn(flattenGroups(graph)));

/** The same network without groups: their bodies stand in their place. */
export function flattenGroups(graph: Graph): Graph {
  return rewriteGraph(graph, (node, inputs) => {
    if (node.op !== Group) return null;
    const body = flattenGroups(groupAttrs(node).body);
    const outer = new Map(body.inputs.map((v, i) => [v.node, inputs[i]!])); // a group's inputs are never absent
    const placed = rewriteGraph(body, (inner) => (outer.has(inner) ? [outer.get(inner)!] : null));
    return placed.outputs.map((o) => o.value);
  });
}

/** Operators of our own, and marks of traced functions, as what they are made of, which may be others of our own. */
function withoutOwn(graph: Graph): Graph {
  const isDue = ({ op }: Node): boolean => isOwn(op) && op.expand !== undefined;
  const once = rewriteGraph(graph, (node, inputs) => (isDue(node) ? node.op.expand!(inputs, node.attrs, { ...node, inputs }) : null));
  return topologicalOrder(once).some(isDue) ? withoutOwn(once) : once;
}

const isOwn = (op: Op): boolean => op.own === true || (OPS.get(op.name) !== op && op.kind !== "source");

/** Operators in ONNX have channels at axis 1: those laid out otherwise go between transpositions. */
function channelsFirst(graph: Graph): Graph {
  const transpose = OPS.get("Transpose")!; // of the table, like all ONNX operators
  return rewriteGraph(graph, (node, inputs) => {
    if (node.attrs.layout !== "NHWC") return null;
    const [data, ...rest] = inputs;
    const axes = data!.type.shape.map((_, i) => i); // its operator checked that it is there
    const first = { perm: [0, axes.length - 1, ...axes.slice(1, -1)] };
    const last = { perm: [0, ...axes.slice(2), 1] };
    const [moved] = apply(transpose, [data], first, node.from);
    return apply(node.op, [moved, ...rest], { ...node.attrs, layout: "NCHW" }, node.from).map(
      (out) => apply(transpose, [out], last, node.from)[0],
    );
  });
}

/** Attributes that heddle's tables have and ONNX does not: an importer sees them from the number of outputs. */
const OMITTED: readonly string[] = ["with_indices", "with_stats"];

/** Unique names: those of inputs and outputs as given, others after what made them. */
class ValueNames {
  private readonly names = new Map<Value, string>();
  private readonly taken = new Set<string>();
  private readonly takenByNodes = new Set<string>();

  constructor(graph: Graph) {
    for (const v of graph.inputs) this.names.set(v, inputName(v));
    for (const name of this.names.values()) this.taken.add(name);
    for (const { name } of graph.outputs) this.taken.add(name);
    for (const { name, value } of graph.outputs) if (!this.names.has(value) && !constantOf(value)) this.names.set(value, name);
  }

  of(value: Value): string {
    const known = this.names.get(value);
    if (known !== undefined) return known;
    const name = unique(`${value.node.from || value.node.op.name}${value.index > 0 ? `:${value.index}` : ""}`, this.taken);
    this.names.set(value, name);
    return name;
  }

  /** Nodes have names of their own, which must differ too. */
  ofNode(node: Node): string {
    return unique(node.from || node.op.name, this.takenByNodes);
  }
}

/** The name, or with a number behind it; adds it to those taken. */
function unique(base: string, taken: Set<string>): string {
  let name = base;
  for (let i = 1; taken.has(name); i++) name = `${base}.${i}`;
  taken.add(name);
  return name;
}

function encodeNode(node: Node, names: ValueNames): NodeProto {
  const { op, inputs, attrs, outputs, from } = node;
  if (isOwn(op)) throw new HeddleError("unsupported", `${op.name}: it is not an operator of ONNX; from ${from}`);
  return create(NODE, {
    opType: op.name,
    name: names.ofNode(node),
    input: inputs.map((v) => (v ? names.of(v) : "")),
    output: outputs.map((v) => names.of(v)),
    attribute: Object.entries(op.attrs).flatMap(([name, spec]) => {
      const value = attrs[name];
      const isAbsent = value === undefined || value === null || OMITTED.includes(name);
      return isAbsent || isDefault(op, name, value) ? [] : [encodeAttribute(name, spec, value)];
    }),
  });
}

/** Defaults are left out: other readers need not know attributes of newer versions. Tensors have none. */
function isDefault(op: Op, name: string, value: AttrValue): boolean {
  const usual = op.attrs[name].default;
  return usual !== undefined && JSON.stringify(usual) === JSON.stringify(value);
}

/** How shapes are written: the batch by its name where a twin of another batch size has that size, and nothing where it has a third one. */
function dimensions(graph: Graph, batch: ExportOptions["batch"]): (shape: Shape, twin: Value | undefined) => Dimension[] {
  const sizes = [graph, batch?.other].map((g) => g?.inputs[0]?.type.shape[0]);
  return (shape, twin) =>
    shape.map((size, axis) => {
      const other = twin?.type.shape[axis] ?? size;
      if (other === size) return create(DIMENSION, { dimValue: BigInt(size) });
      return create(DIMENSION, batch && size === sizes[0] && other === sizes[1] ? { dimParam: batch.name } : {});
    });
}

function valueInfo(name: string, { dtype }: TensorType, dim: readonly Dimension[]): ValueInfoProto {
  return create(VALUE, { name, type: { tensorType: { elemType: DTYPES[dtype].onnx, shape: { dim } } } });
}
