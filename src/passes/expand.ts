// Replaces operators that are made of others by what they are made of.
import { type Graph, type Node, type Pass, rewriteGraph, topologicalOrder, type Value } from "../ir/graph.ts";

/** An operator with a meaning of its own (an expression, or a reference that kernels implement) stays. */
export const isExpandable = ({ op }: Node): boolean => op.expand !== undefined && !op.lower && !op.evaluate;

/** Options: `keep` names nodes for which there is a kernel. Expansions are expanded again. */
export function expand(keep: (node: Node) => boolean = () => false): Pass {
  const isDue = (node: Node) => isExpandable(node) && !keep(node);
  const once = (node: Node, inputs: readonly (Value | null)[]) =>
    isDue(node) ? node.op.expand!(inputs, node.attrs, { ...node, inputs }) : null;
  return {
    name: "expand",
    run(graph: Graph): Graph {
      let result = graph;
      while (topologicalOrder(result).some(isDue)) result = rewriteGraph(result, once);
      return result;
    },
  };
}
