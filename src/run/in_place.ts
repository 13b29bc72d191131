// Which tensors a step's kernel reads only at the element that it writes next, so that its output may take their place.
import { DTYPES } from "../ir/dtype.ts";
import type { Node, Value } from "../ir/graph.ts";
import { Group, groupAttrs } from "../ir/group.ts";
import type { AnyKernel, Step } from "./step.ts";

/** All that element-wise operators on the output's shape lead from to the output, unless a kernel leaves unfinished sums there. A group's further outputs lie on these ways. */
export function inputsReadInPlace({ node, calls }: Step<AnyKernel>): ReadonlySet<Value> {
  const none: ReadonlySet<Value> = new Set();
  if (node.outputs.length !== 1 && node.op !== Group) return none;
  // JavaScript has the whole result before it writes any of it.
  if (!calls) return new Set(node.inputs.filter((v): v is Value => v !== null));
  if (calls.some((c) => c.storesPartialSums)) return none;
  if (node.op !== Group) return node.op.kind === "map" ? alignedReads(node.outputs[0], (v) => v.node !== node) : none;
  const { body } = groupAttrs(node);
  const inner = alignedReads(body.outputs[0].value, (v) => body.inputs.includes(v));
  const outer = new Map<Value, boolean>();
  for (const [i, v] of node.inputs.entries()) if (v) outer.set(v, (outer.get(v) ?? true) && inner.has(body.inputs[i]));
  return new Set([...outer].flatMap(([v, isAligned]) => (isAligned ? [v] : [])));
}

/** The leaves from which every way to `output` is made of element-wise operators on the output's shape, of elements of its size. */
function alignedReads(output: Value, isLeaf: (v: Value) => boolean): ReadonlySet<Value> {
  const shape = output.type.shape.join();
  const isAlike = (v: Value): boolean => v.type.shape.join() === shape;
  const aligned = new Set<Value>();
  const others = new Set<Value>();
  const visit = (value: Value, isAligned: boolean): void => {
    const seen = isAligned ? aligned : others;
    if (seen.has(value)) return;
    seen.add(value);
    if (isLeaf(value)) return;
    const isMap: boolean = isAligned && isElementwise(value.node);
    for (const v of value.node.inputs) if (v) visit(v, isMap && isAlike(v));
  };
  visit(output, true);
  const isSized = (v: Value): boolean => DTYPES[v.type.dtype].bytes === DTYPES[output.type.dtype].bytes;
  return new Set([...aligned].filter((v) => isLeaf(v) && !others.has(v) && isSized(v)));
}

const isElementwise = (node: Node): boolean => node.op.kind === "map";
