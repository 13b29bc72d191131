// Evaluates a graph by the operators' own definitions, node by node, letting the event loop turn in between: it takes long, and Ctrl-C must get through.
import { setImmediate as nextTurn } from "node:timers/promises";
import { type Graph, topologicalOrder, type Value } from "../ir/graph.ts";
import type { TensorData } from "../ir/tensor.ts";
import type { Tensors } from "../model.ts";
import { evaluateNode } from "../ops/index.ts";
import { inputName } from "../ops/source.ts";

/** The graph's outputs by name; tensors are forgotten after their last use. */
export async function evaluateInTurns(graph: Graph, inputs: Tensors): Promise<Record<string, TensorData>> {
  const order = topologicalOrder(graph);
  const lastUse = new Map<Value, number>();
  for (const [i, node] of order.entries()) for (const v of node.inputs) if (v) lastUse.set(v, i);
  for (const { value } of graph.outputs) lastUse.set(value, order.length);
  const known = new Map<Value, TensorData>(graph.inputs.map((v) => [v, inputs[inputName(v)]]));
  for (const [i, node] of order.entries()) {
    if (known.has(node.outputs[0])) continue; // a graph input
    await nextTurn();
    const operands = node.inputs.map((v) => (v ? known.get(v)! : null)); // inputs come first in the order
    for (const [o, tensor] of evaluateNode(node, operands).entries()) known.set(node.outputs[o], tensor);
    for (const v of node.inputs) if (v && lastUse.get(v) === i) known.delete(v);
  }
  return Object.fromEntries(graph.outputs.map(({ name, value }) => [name, known.get(value)!])); // all were evaluated
}
