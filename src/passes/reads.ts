// How many elements of each input the readers of a node read, found by composing them once over probes.
import { constant } from "../ir/expr.ts";
import type { Node, Reader } from "../ir/graph.ts";
import { newVar, varIndex } from "../ir/index_expr.ts";
import { elementCount } from "../ir/tensor.ts";

const cache = new WeakMap<Node, ReadonlyMap<number, number>>();

/** Elements read by input number; inputs that no reader touches (shapes, axes) are absent. The node must have `lower`. */
export function readsOf(node: Node): ReadonlyMap<number, number> {
  const known = cache.get(node);
  if (known) return known;
  const reads = node.op.kind === "map" ? readsOfMap(node) : probe(node);
  cache.set(node, reads);
  return reads;
}

/** An elementwise node reads each input once for each element of the output. */
function readsOfMap(node: Node): Map<number, number> {
  const count = elementCount(node.outputs[0].type.shape);
  return new Map(node.inputs.flatMap((v, i) => (v ? [[i, count]] : [])));
}

function probe(node: Node): Map<number, number> {
  const [{ type }] = node.outputs;
  const calls = new Map<number, number>();
  const readers = node.inputs.map((v, i): Reader | null => {
    if (!v) return null;
    const at = () => {
      calls.set(i, (calls.get(i) ?? 0) + 1);
      return constant(v.type.dtype, 0);
    };
    return { type: v.type, at };
  });
  node.op.lower?.(readers, node)[0].at(type.shape.map((d) => varIndex(newVar(d))));
  // A reduction reads each element of its input at every call, everything else one for each element of the output.
  const each = (i: number) => elementCount(node.op.kind === "reduce" ? node.inputs[i]!.type.shape : type.shape);
  return new Map([...calls].map(([i, n]) => [i, n * each(i)]));
}
