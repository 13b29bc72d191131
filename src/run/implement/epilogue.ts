// A group around an anchor to the anchor's task: its inputs, and the rest of the group as an epilogue.
import { invariant } from "../../ir/error.ts";
import { constant } from "../../ir/expr.ts";
import { loadReader } from "../../ir/expr_interpreter.ts";
import { type Node, type Reader, topologicalOrder, type Value } from "../../ir/graph.ts";
import { groupAttrs } from "../../ir/group.ts";
import { newVar, varIndex } from "../../ir/index_expr.ts";
import { elementCount, type TensorData, toNumbers } from "../../ir/tensor.ts";
import { type Epilogue, noEpilogue } from "../../kernels/epilogue.ts";
import { canLower } from "../../lower/scalar.ts";
import { constantOf, Input } from "../../ops/source.ts";
import type { AnchorTask, TargetOptions } from "../step.ts";
import { structureKey, typeKey } from "./structure_key.ts";

/** The task of a node with a kernel of its own, alone or as the anchor of a group; null when the rest of the group cannot be vector code. */
export function anchorTask(node: Node, options: TargetOptions, name: string): AnchorTask | null {
  const output = node.outputs[0];
  const { anchor, body } = isGroup(node) ? groupAttrs(node) : { anchor: node, body: null };
  if (!anchor) return null;
  if (!body) {
    const epilogue = noEpilogue(output.type);
    return { ...options, name, anchor, inputs: node.inputs, epilogue, epilogueKey: typeKey(output.type), epilogueInputs: [], output };
  }
  const outer = (v: Value | null): Value | null => {
    if (!v) return null;
    const i = body.inputs.indexOf(v);
    return i >= 0 ? (node.inputs[i] as Value) : v; // a group's inputs are never absent; constants stay inside
  };
  const rest = topologicalOrder(body).filter((n) => n !== anchor && n.op !== Input);
  const used = body.inputs.filter((v) => rest.some((n) => n.inputs.includes(v)));
  const result = body.outputs[0].value;
  const epilogue: Epilogue = {
    inputs: used.map((v) => v.type),
    output: output.type,
    compose: (leaves) => composeRest(result, anchor, used, leaves),
  };
  if (!isVectorCode(epilogue)) return null;
  const epilogueInputs = used.map((v) => outer(v) as Value); // inputs of the body
  const epilogueKey = structureKey(body, anchor);
  return { ...options, name, anchor, inputs: anchor.inputs.map(outer), epilogue, epilogueKey, epilogueInputs, output };
}

const isGroup = (node: Node): boolean => node.op.name === "Group";

/** Reader of `result` from readers of the used inputs and, last, of the anchor. */
function composeRest(result: Value, anchor: Node, used: readonly Value[], leaves: readonly Reader[]): Reader {
  const known = new Map<Value, Reader>(used.map((v, i) => [v, leaves[i]]));
  known.set(anchor.outputs[0], leaves[used.length]);
  const order = topologicalOrder({ inputs: [], outputs: [{ name: "", value: result }] });
  for (const n of order) {
    if (known.has(n.outputs[0]) || n.op === Input) continue;
    const tensor = constantOf(n.outputs[0]);
    if (tensor) {
      known.set(n.outputs[0], constantReader(tensor));
      continue;
    }
    if (!n.op.lower) continue; // what only the anchor needs
    if (n.inputs.some((v) => v && !known.has(v))) continue;
    const readers = n.op.lower(
      n.inputs.map((v) => (v ? (known.get(v) as Reader) : null)),
      n,
    );
    for (const [i, reader] of readers.entries()) known.set(n.outputs[i], reader);
  }
  const reader = known.get(result);
  invariant(reader, `${result.node.op.name}: not an epilogue of ${anchor.op.name}`);
  return reader;
}

/** A constant inside a group is a scalar; longer ones (axes, shapes) are attributes in disguise that nobody reads. */
function constantReader(tensor: TensorData): Reader {
  const { dtype, shape } = tensor;
  return {
    type: { dtype, shape },
    at: () => {
      invariant(elementCount(shape) === 1, "only scalars stay inside of a group");
      return constant(dtype, toNumbers(tensor)[0]);
    },
  };
}

function isVectorCode(epilogue: Epilogue): boolean {
  const { shape } = epilogue.output;
  const leaves = [...epilogue.inputs, { dtype: "f32" as const, shape }].map((t, i) => loadReader(t, i));
  return canLower(epilogue.compose(leaves).at(shape.map((d) => varIndex(newVar(d)))));
}
