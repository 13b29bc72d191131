// Graphs to texts that are equal when the kernels for them are: operators, attributes, types and scalars, but no names and no weights.
import { type Graph, type Node, type TensorType, topologicalOrder, type Value } from "../../ir/graph.ts";
import { constantOf, Input } from "../../ops/source.ts";

export const typeKey = ({ dtype, shape }: TensorType): string => `${dtype}[${shape}]`;

/** Key of a group's body. Of `anchor` only its place counts: its own kernel has a key of its own. */
export function structureKey(body: Graph, anchor: Node | null): string {
  const numbers = new Map<Value, string>();
  const parts: string[] = [];
  const nameOutputs = (node: Node): string => {
    for (const v of node.outputs) numbers.set(v, `${numbers.size}`);
    return node.outputs.map((v) => typeKey(v.type)).join();
  };
  for (const v of body.inputs) parts.push(nameOutputs(v.node));
  for (const node of topologicalOrder(body)) {
    if (node.op === Input) continue;
    const inputs = node === anchor ? "anchor" : node.inputs.map((v) => (v ? numbers.get(v) : "-")).join();
    const tensor = constantOf(node.outputs[0]);
    const attrs = node === anchor ? "" : tensor ? `[${tensor.data}]` : JSON.stringify(node.attrs, bigintsAsText);
    parts.push(`${node.op.name}(${inputs})${attrs}:${nameOutputs(node)}`);
  }
  return `${parts.join(";")}>${body.outputs.map((o) => numbers.get(o.value))}`;
}

const bigintsAsText = (_: string, v: unknown): unknown => (typeof v === "bigint" ? `${v}n` : v);
