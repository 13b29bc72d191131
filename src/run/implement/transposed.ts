// Sees through a Transpose, so that a kernel that can read in any order reads what was there before it.
import type { Node, Value } from "../../ir/graph.ts";
import { Group, groupAttrs } from "../../ir/group.ts";
import { OPS } from "../../ops/index.ts";

/** What a value is a permutation of: axis i is axis perm[i] of `before`. Undefined: it is none. */
export function transposed(value: Value): { readonly before: Value; readonly perm: readonly number[] } | undefined {
  const node = value.node;
  const inner = node.op === Group ? groupAttrs(node).body.outputs[0].value.node : node;
  if (inner.op !== OPS.get("Transpose")) return undefined;
  const before = node.op === Group ? onlyInput(node, inner) : node.inputs[0];
  const perm = (inner.attrs.perm as readonly number[] | undefined) ?? value.type.shape.map((_, i) => value.type.shape.length - 1 - i);
  return before ? { before, perm } : undefined;
}

/** The group's input that `inner`, its only node, reads. */
function onlyInput(group: Node, inner: Node): Value | null {
  const { body } = groupAttrs(group);
  return body.inputs.length === 1 && inner.inputs[0] === body.inputs[0] ? group.inputs[0] : null;
}
