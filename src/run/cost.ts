// How large a value is and how much work a node is, by its shapes alone.
import { DTYPES } from "../ir/dtype.ts";
import type { Graph, Node, TensorType, Value } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";

/** What a slow core manages: for the estimate only. */
const SLOW_FLOPS_PER_MS = 1e7;
const SLOW_BYTES_PER_MS = 2e6;

/** Bytes of a tensor as the host keeps it. */
export const tensorBytes = ({ dtype, shape }: TensorType): number => elementCount(shape) * DTYPES[dtype].bytes;
export const byteSize = (value: Value): number => tensorBytes(value.type);

/** Milliseconds on one slow core. */
export function estimateMs(node: Node): number {
  return flopsOf(node) / SLOW_FLOPS_PER_MS + bytesOf(node) / SLOW_BYTES_PER_MS;
}

/** Of the tensors that a node reads and writes. */
export function bytesOf({ inputs, outputs }: Node): number {
  let bytes = 0;
  for (const v of inputs) if (v) bytes += byteSize(v);
  for (const v of outputs) bytes += byteSize(v);
  return bytes;
}

/** Floating-point operations of a node or of all nodes in a group. */
export function flopsOf(node: Node): number {
  const body = (node.attrs as { body?: Graph }).body;
  if (body && "outputs" in body) return flopsOfBody(body.outputs.map((o) => o.value.node));
  return node.op.flops?.(node) ?? node.outputs.reduce((n, o) => n + elementCount(o.type.shape), 0);
}

function flopsOfBody(ends: readonly Node[]): number {
  const seen = new Set<Node>();
  const todo = [...ends];
  let sum = 0;
  for (let node = todo.pop(); node; node = todo.pop()) {
    if (seen.has(node) || node.op.kind === "source") continue;
    seen.add(node);
    sum += flopsOf(node);
    for (const v of node.inputs) if (v) todo.push(v.node);
  }
  return sum;
}
