// Who reads what: the users of every value of a graph.
import { type Graph, type Node, topologicalOrder, type Value } from "../ir/graph.ts";

export interface Uses {
  /** All nodes, inputs before users. */
  readonly order: readonly Node[];
  /** Nodes that read a value, one entry a reading. */
  users(value: Value): readonly Node[];
  isOutput(value: Value): boolean;
  /** The only reader, or undefined: several, none, or the value is an output of the graph. */
  onlyUser(value: Value): Node | undefined;
}

export function usesOf(graph: Graph): Uses {
  const order = topologicalOrder(graph);
  const users = new Map<Value, Node[]>();
  for (let n = 0; n < order.length; n++) {
    const node = order[n];
    for (let i = 0; i < node.inputs.length; i++) {
      const value = node.inputs[i];
      if (!value) continue;
      const list = users.get(value);
      if (list) list.push(node);
      else users.set(value, [node]);
    }
  }
  const outputs = new Set(graph.outputs.map((o) => o.value));
  return {
    order,
    users: (value) => users.get(value) ?? [],
    isOutput: (value) => outputs.has(value),
    onlyUser: (value) => (users.get(value)?.length === 1 && !outputs.has(value) ? users.get(value)![0] : undefined),
  };
}
