// Graphs to texts that are equal when the kernels for them are: operators, attributes, types and scalars, but no names and no weights.
import { type Graph, type Node, type TensorType, topologicalOrder, type Value } from "../../ir/graph.ts";
import { constantOf } from "../../ops/source.ts";

export const typeKey = ({ dtype, shape }: TensorType): string => `${dtype}[${shape}]`;

/** Of the graph's inputs only the types count. */
export function structureKey({ inputs, outputs }: Graph): string {
  const numbers = new Map<Value, number>();
  const parts: string[] = [];
  const number = (values: readonly Value[]): string => {
    for (const v of values) numbers.set(v, numbers.size);
    return values.map((v) => typeKey(v.type)).join();
  };
  const text = (node: Node): string => {
    const constant = constantOf(node.outputs[0]);
    if (constant) return `[${constant.data}]`;
    const attrs = Object.keys(node.attrs).length > 0 ? JSON.stringify(node.attrs, bigintsAsText) : "";
    return `${node.op.name}(${node.inputs.map((v) => (v ? numbers.get(v) : "-"))})${attrs}`;
  };
  for (const v of inputs) parts.push(number([v]));
  for (const node of topologicalOrder({ inputs: [], outputs })) {
    if (node.outputs.every((v) => numbers.has(v))) continue;
    parts.push(`${text(node)}:${number(node.outputs)}`);
  }
  return `${parts.join(";")}>${outputs.map((o) => numbers.get(o.value))}`;
}

const bigintsAsText = (_: string, v: unknown): unknown => (typeof v === "bigint" ? `${v}n` : v);
