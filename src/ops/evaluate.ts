// Runs nodes and graphs in plain float64 loops: the meaning that every device is compared with.
import { HeddleError } from "../ir/error.ts";
import { interpret, loadReader } from "../ir/expr_interpreter.ts";
import { type Graph, type Node, type Op, type Reader, topologicalOrder, type Value } from "../ir/graph.ts";
import { Group, groupAttrs } from "../ir/group.ts";
import type { TensorData } from "../ir/tensor.ts";
import { constantValue, Input, inputName } from "./source.ts";

/** Of nodes that were evaluated: what is made of a reader is kept with it. */
const known = new WeakMap<Node, readonly Reader[]>();

function readersOf(node: Node, lower: NonNullable<Op["lower"]>): readonly Reader[] {
  const readers =
    known.get(node) ??
    lower(
      node.inputs.map((v, i) => (v ? loadReader(v.type, i) : null)),
      node,
    );
  known.set(node, readers);
  return readers;
}

/** The outputs of one node. `inputs` match node.inputs; absent ones are null. */
export function evaluateNode(node: Node, inputs: readonly (TensorData | null)[]): readonly TensorData[] {
  const { op } = node;
  if (op === Group) {
    const { body } = groupAttrs(node);
    return evaluateValues(
      body.outputs.map((o) => o.value),
      new Map(body.inputs.map((v, i) => [v, inputs[i]!])), // a group's inputs are never absent
    );
  }
  if (op.evaluate) return op.evaluate(inputs, node);
  if (op.lower) return readersOf(node, op.lower).map((reader) => interpret(reader, inputs));
  if (op.expand) {
    const constants = inputs.map((t) => (t ? constantValue(t) : null));
    return evaluateValues(op.expand(constants, node.attrs, node), new Map());
  }
  throw new HeddleError("unsupported", `${op.name}: it cannot be evaluated; from ${node.from}`);
}

/** The outputs of a graph by name, given its inputs by name. */
export function evaluateGraph(graph: Graph, inputs: Readonly<Record<string, TensorData>>): Record<string, TensorData> {
  const known = new Map<Value, TensorData>();
  for (const value of graph.inputs) known.set(value, checkedInput(value, inputs[inputName(value)]));
  const results = evaluateValues(
    graph.outputs.map((o) => o.value),
    known,
  );
  return Object.fromEntries(graph.outputs.map((o, i) => [o.name, results[i]]));
}

function checkedInput(value: Value, given: TensorData | undefined): TensorData {
  const name = inputName(value);
  const { dtype, shape } = value.type;
  if (!given) throw new HeddleError("bad-input", `input ${name} is missing`);
  if (given.dtype !== dtype || given.shape.join() !== shape.join())
    throw new HeddleError("bad-input", `input ${name}: got ${given.dtype}[${given.shape}], the graph wants ${dtype}[${shape}]`);
  return given;
}

/** Evaluates what `values` need, and forgets each tensor after its last use. */
function evaluateValues(values: readonly Value[], given: ReadonlyMap<Value, TensorData>): readonly TensorData[] {
  const order = topologicalOrder({ inputs: [], outputs: values.map((value) => ({ name: "", value })) });
  const known = new Map(given);
  const uses = new Map<Value, number>();
  const count = (v: Value | null, by: number) => v && uses.set(v, (uses.get(v) ?? 0) + by);
  for (const node of order) for (const v of node.inputs) count(v, 1);
  for (const v of values) count(v, 1);
  for (const node of order) {
    if (node.op === Input) continue;
    const inputs = node.inputs.map((v) => (v ? known.get(v)! : null)); // inputs come first in the order
    for (const [i, t] of evaluateNode(node, inputs).entries()) known.set(node.outputs[i], t);
    for (const v of node.inputs) {
      count(v, -1);
      if (v && uses.get(v) === 0) known.delete(v);
    }
  }
  return values.map((v) => {
    const result = known.get(v);
    if (!result) throw new HeddleError("verify", `internal: value of ${v.node.op.name} was not computed`);
    return result;
  });
}
