// Nodes of a compiled graph → what people call them: operators, names in the file, bytes and floating-point operations.
import { type Graph, type Node, topologicalOrder } from "../ir/graph.ts";
import { Group, groupAttrs } from "../ir/group.ts";
import { byteSize, flopsOf } from "./cost.ts";

export interface NodeFacts {
  /** The node's name in the file. */
  readonly name: string;
  /** "Conv", or all operators that one kernel computes: "Conv+Mul+Add". */
  readonly operator: string;
  /** What a summary counts it under: the operator that does most of the work. */
  readonly family: string;
  readonly flops: number;
  /** Read and written, weights included. */
  readonly bytes: number;
}

/** Operators that a group computes, in order, the same one once. */
function operatorsOf(body: Graph): string[] {
  return [
    ...new Set(
      topologicalOrder(body)
        .filter((n) => n.op.kind !== "source")
        .map((n) => n.op.name),
    ),
  ];
}

/** The operator that others were fused into, or the costliest. */
function familyOf(body: Graph): string {
  const nodes = topologicalOrder(body).filter((n) => n.op.kind !== "source");
  return nodes.reduce((best, n) => (flopsOf(n) > flopsOf(best) ? n : best), nodes[0])?.op.name ?? "Group";
}

export function describeNode(node: Node): NodeFacts {
  const bytes = [...new Set([...node.inputs, ...node.outputs])].reduce((sum, v) => sum + (v ? byteSize(v) : 0), 0);
  const facts = { name: node.from || node.op.name, flops: flopsOf(node), bytes };
  if (node.op !== Group) return { ...facts, operator: node.op.name, family: node.op.name };
  const { body, anchor } = groupAttrs(node);
  return { ...facts, operator: operatorsOf(body).join("+"), family: anchor?.op.name ?? familyOf(body) };
}
