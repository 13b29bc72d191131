// Merges nodes that compute the same: same operator, inputs and attributes; and small constants with the same numbers.
import { type Attrs, type AttrValue, type Graph, makeNode, type Node, type Pass, rewriteGraph, type Value } from "../ir/graph.ts";
import type { TensorData } from "../ir/tensor.ts";
import { constantOf, Input } from "../ops/source.ts";

/** Larger constants are equal only when they are the same object: comparing weights would cost more than it finds. */
const MAX_COMPARED_BYTES = 1024;

/** Numbers objects in the order they are first seen. */
function numbering(): (object: object) => number {
  const ids = new Map<object, number>();
  return (object) => {
    const known = ids.get(object);
    if (known !== undefined) return known;
    ids.set(object, ids.size);
    return ids.size - 1;
  };
}

export const cse: Pass = {
  name: "cse",
  run(graph: Graph): Graph {
    const idOf = numbering();
    const tensorKey = ({ dtype, shape, data }: TensorData): string =>
      data.byteLength <= MAX_COMPARED_BYTES
        ? `${dtype}(${shape})${new Uint8Array(data.buffer, data.byteOffset, data.byteLength).join()}` // bits: -0 is not 0
        : `${dtype}(${shape})#${idOf(data)}`;
    const attrKey = (v: AttrValue): string => {
      if (typeof v !== "object" || v === null) return `${typeof v}:${v}`;
      if (Array.isArray(v)) return `[${v}]`;
      return isTensor(v) ? tensorKey(v) : `#${idOf(v)}`;
    };
    const attrsKey = (attrs: Attrs) => Object.entries(attrs).map(([name, v]) => `${name}=${attrKey(v)}`).join(";"); // biome-ignore format: one idea
    const keyOf = (node: Node, inputs: readonly (Value | null)[]): string => {
      const tensor = constantOf(node.outputs[0]);
      if (tensor) return tensorKey(tensor);
      const from = inputs.map((v) => (v ? `${idOf(v.node)}.${v.index}` : "-")).join();
      return `${idOf(node.op)}(${from})${attrsKey(node.attrs)}`;
    };
    const seen = new Map<string, readonly Value[]>();
    return rewriteGraph(graph, (node, inputs) => {
      if (node.op === Input) return null;
      const key = keyOf(node, inputs);
      const same = seen.get(key);
      if (same) return same;
      const outputs = inputs.every((v, i) => v === node.inputs[i]) ? node.outputs : renewed(node, inputs).outputs;
      seen.set(key, outputs);
      return outputs;
    });
  },
};

const isTensor = (v: object): v is TensorData => "dtype" in v && "data" in v;

const renewed = (node: Node, inputs: readonly (Value | null)[]): Node =>
  makeNode(
    node.op,
    inputs,
    node.attrs,
    node.outputs.map((o) => o.type),
    node.from,
  );
