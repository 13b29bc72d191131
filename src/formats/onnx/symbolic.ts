// Two graphs of one network for two batch sizes → one for all sizes: numbers that follow the size are computed from it.
import { HeddleError } from "../../ir/error.ts";
import { type Attrs, apply, type Graph, type Node, rewriteGraph, topologicalOrder, type Value } from "../../ir/graph.ts";
import { fromNumbers, type TensorData, toNumbers } from "../../ir/tensor.ts";
import { OPS } from "../../ops/index.ts";
import { constantOf, constantValue } from "../../ops/source.ts";

/** The values of `other`, which has another size at axis 0 of its inputs, tell which constants of `graph` depend on that size. */
export function withAnySize(graph: Graph, other: Graph): Graph {
  const [order, others] = [topologicalOrder(graph), topologicalOrder(other)];
  const [source, twin] = [graph.inputs[0], other.inputs[0]];
  if (order.length !== others.length) throw refusal("the network has other operators", others[others.length - 1]);
  const partners = new Map(order.map((node, i) => [node, others[i]]));
  const size = batchSize(source, source.type.shape[0], twin.type.shape[0]);
  for (const [i, node] of order.entries()) checkTwins(node, others[i], partners);
  return rewriteGraph(graph, (node) => {
    const mine = constantOf(node.outputs[0]);
    const theirs = constantOf(partners.get(node)?.outputs[0]);
    return mine && theirs && !isSame(mine, theirs) ? [size(mine, theirs, node)] : null;
  });
}

const refusal = (why: string, { op, from }: Node): HeddleError =>
  new HeddleError("unsupported", `export: with another batch size ${why}; give no batch name; from ${from || op.name}`);

const isSame = (a: TensorData, b: TensorData): boolean =>
  a.shape.join() === b.shape.join() && (a.data === b.data || a.data.every((v, i) => Object.is(v, b.data[i])));

/** Attributes may hold tensors of whole numbers. */
const textOf = (attrs: Attrs): string => JSON.stringify(attrs, (_, v: unknown) => (typeof v === "bigint" ? `${v}` : v));

/** The same operator with the same attributes, on twins. */
function checkTwins(node: Node, twin: Node, partners: ReadonlyMap<Node, Node>): void {
  const isTwin = node.inputs.every((v, i) => (v ? partners.get(v.node) === twin.inputs[i]?.node : !twin.inputs[i]));
  if (node.op !== twin.op || !isTwin) throw refusal(`${node.op.name} is ${twin.op.name} on something else`, node);
  const isSource = node.op.kind === "source";
  if (!isSource && textOf(node.attrs) !== textOf(twin.attrs)) throw refusal(`${node.op.name} has other attributes`, node);
}

/** Constants that are a · size + b, as an expression of the size of an input. */
function batchSize(source: Value, mine: number, theirs: number): (a: TensorData, b: TensorData, node: Node) => Value {
  const op = (name: string, inputs: readonly Value[], attrs = {}) => apply(OPS.get(name)!, inputs, attrs, "batch")[0]; // ONNX's operators
  const shape = op("Shape", [source], { start: 0, end: 1 });
  return (a, b, node) => {
    if (a.dtype !== "i64" || a.shape.length > 1 || a.shape.join() !== b.shape.join()) throw refusal("a constant is different", node);
    const [now, then] = [toNumbers(a), toNumbers(b)];
    const factor = now.map((v, i) => (then[i] - v) / (theirs - mine));
    if (!factor.every(Number.isInteger)) throw refusal("a size is not a multiple of it", node);
    const row = (values: Float64Array) => constantValue(fromNumbers("i64", [values.length], [...values]), "batch");
    const line = op("Add", [op("Mul", [shape, row(factor)]), row(now.map((v, i) => v - factor[i] * mine))]);
    return a.shape.length === 1 ? line : op("Squeeze", [line]);
  };
}
