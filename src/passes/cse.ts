// Merges nodes that compute the same: same operator, inputs and attributes; and small constants with the same numbers.
import { DTYPES } from "../ir/dtype.ts";
import { type Attrs, type AttrValue, type Graph, type Node, type Pass, rewriteGraph, type Value, withInputs } from "../ir/graph.ts";
import { bytesOf, elementCount, elementsOf, type TensorData } from "../ir/tensor.ts";
import { constantOf, Input } from "../ops/source.ts";

/** Larger constants are equal only when they are the same object: comparing weights would cost more than it finds. */
const MAX_COMPARED_BYTES = 1024;

export const cse: Pass = {
  name: "cse",
  run(graph: Graph): Graph {
    const hashOf = hashing();
    const buckets = new Map<unknown, Node[]>(); // nodes that may be equal
    return rewriteGraph(graph, (node, inputs) => {
      if (node.op === Input) return null;
      const tensor = constantOf(node.outputs[0]);
      const key = tensor ? constantKey(tensor) : hashOf(node, inputs);
      const bucket = buckets.get(key);
      for (const other of bucket ?? []) if (isSame(node, inputs, other)) return other.outputs;
      const kept = withInputs(node, inputs);
      if (bucket) bucket.push(kept);
      else buckets.set(key, [kept]);
      return kept.outputs;
    });
  },
};

/** Numbers for nodes that are equal where operator and inputs are. */
function hashing(): (node: Node, inputs: readonly (Value | null)[]) => number {
  const ids = new Map<object, number>();
  const idOf = (object: object): number => {
    const known = ids.get(object);
    if (known !== undefined) return known;
    ids.set(object, ids.size);
    return ids.size - 1;
  };
  return (node, inputs) => {
    let hash = idOf(node.op);
    for (let i = 0; i < inputs.length; i++) {
      const value = inputs[i];
      hash = (Math.imul(hash, 31) + (value ? idOf(value) : -1)) | 0;
    }
    return hash;
  };
}

/** Equal for equal constants; few others share it. */
function constantKey(tensor: TensorData): unknown {
  if (isLarge(tensor)) return elementsOf(tensor);
  const { data } = tensor;
  const { length } = data;
  return length === 1 ? data[0] : `${length}: ${data[0]} ${data[length >> 1]} ${data[length - 1]}`;
}

function isSame(node: Node, inputs: readonly (Value | null)[], other: Node): boolean {
  if (node.op !== other.op || inputs.length !== other.inputs.length) return false;
  for (let i = 0; i < inputs.length; i++) if (inputs[i] !== other.inputs[i]) return false;
  return sameAttrs(node.attrs, other.attrs);
}

/** Of one operator; those that are absent in one may be undefined in the other. */
function sameAttrs(a: Attrs, b: Attrs): boolean {
  for (const name in a) if (!sameAttr(a[name], b[name])) return false;
  for (const name in b) if (b[name] !== undefined && a[name] === undefined) return false;
  return true;
}

function sameAttr(a: AttrValue, b: AttrValue): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((v, i) => Object.is(v, b[i]));
  return isTensor(a) && isTensor(b) && sameTensor(a, b);
}

const isTensor = (v: object): v is TensorData => "dtype" in v && "data" in v;

function sameTensor(a: TensorData, b: TensorData): boolean {
  if (a.dtype !== b.dtype || a.shape.length !== b.shape.length || !a.shape.every((d, i) => d === b.shape[i])) return false;
  return elementsOf(a) === elementsOf(b) || (!isLarge(a) && sameBytes(a, b));
}

const isLarge = ({ dtype, shape }: TensorData): boolean => elementCount(shape) * DTYPES[dtype].bytes > MAX_COMPARED_BYTES;

/** Bits are compared: -0 is not 0. */
function sameBytes(a: TensorData, b: TensorData): boolean {
  const [x, y] = [bytesOf(a), bytesOf(b)];
  for (let i = 0; i < x.length; i++) if (x[i] !== y[i]) return false;
  return true;
}
