// Turns a region of nodes into one Group node that carries them as its body.
import { makeNode, type Node, type Value } from "../ir/graph.ts";
import { makeGroup } from "../ir/group.ts";
import { elementCount } from "../ir/tensor.ts";
import { constantOf, input } from "../ops/source.ts";
import { readsOf } from "./reads.ts";
import type { Region } from "./region.ts";

/** A constant that stays in the body: one number in an expression, or a list that only says what to do (axes, a shape). */
function staysInside(node: Node, i: number, region: Region): boolean {
  const tensor = constantOf(node.inputs[i]);
  if (!tensor) return false;
  if (node === region.anchor) return node.op.kind !== "contract" && tensor.dtype === "i64" && tensor.shape.length <= 1;
  if (elementCount(tensor.shape) === 1) return true;
  return node.op.lower !== undefined && !readsOf(node).has(i);
}

/** The values from outside that the region reads, each once. */
export function regionInputs(region: Region): Value[] {
  const inside = new Set(region.members);
  const found = new Set<Value>();
  for (const node of region.members)
    for (const [i, v] of node.inputs.entries()) if (v && !inside.has(v.node) && !staysInside(node, i, region)) found.add(v);
  return [...found];
}

/** The Group node; `now` gives the new value of each of the region's inputs. */
export function groupOf(region: Region, now: (old: Value) => Value): Node {
  const outer = regionInputs(region);
  const inner = new Map(outer.map((v, i) => [v, input(`${i}`, v.type)]));
  const copies = new Map<Node, Node>();
  for (const node of region.members) {
    const inputs = node.inputs.map((v) => v && (inner.get(v) ?? copies.get(v.node)?.outputs[v.index] ?? v)); // what is neither is a constant inside
    const types = node.outputs.map((o) => o.type);
    copies.set(node, makeNode(node.op, inputs, node.attrs, types, node.from));
  }
  const outputs = [region.output, ...region.also].map(({ node, index }, i) => ({
    name: i === 0 ? "out" : `out${i}`,
    value: copies.get(node)!.outputs[index],
  }));
  const body = { inputs: outer.map((v) => inner.get(v)!), outputs };
  const anchor = region.anchor && copies.get(region.anchor)!;
  return makeGroup(outer.map(now), { body, anchor }, (region.anchor ?? region.output.node).from);
}
