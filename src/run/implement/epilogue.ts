// A group around an anchor to the anchor's task: its inputs, and the rest of the group as an epilogue.
import { HeddleError } from "../../ir/error.ts";
import { loadReader } from "../../ir/expr_interpreter.ts";
import { type Graph, type Node, rewriteGraph, topologicalOrder, type Value } from "../../ir/graph.ts";
import { Group, groupAttrs } from "../../ir/group.ts";
import { newVar, varIndex } from "../../ir/index_expr.ts";
import { elementCount } from "../../ir/tensor.ts";
import { type Epilogue, noEpilogue } from "../../kernels/epilogue.ts";
import { composeReaders } from "../../lower/compose.ts";
import { canLower } from "../../lower/scalar.ts";
import { constantOf, input } from "../../ops/source.ts";
import type { AnchorTask, TargetOptions } from "../step.ts";
import { structureKey, typeKey } from "./structure_key.ts";

/** The task of a node with a kernel of its own, alone or as the anchor of a group; null when the rest of the group cannot be vector code. */
export function anchorTask(node: Node, options: TargetOptions, name: string): AnchorTask | null {
  const parts = anchorParts(node);
  return parts && { ...options, name, ...parts };
}

/** The part of an anchor's task that no device has a say in. */
export type AnchorParts = Omit<AnchorTask, "name" | keyof TargetOptions>;

export function anchorParts(node: Node): AnchorParts | null {
  const output = node.outputs[0];
  if (node.op !== Group) {
    const epilogue = noEpilogue(output.type);
    return { anchor: node, inputs: node.inputs, epilogue, epilogueKey: typeKey(output.type), epilogueInputs: [], output };
  }
  const { anchor, body } = groupAttrs(node);
  if (!anchor) return null;
  const outer = (v: Value | null): Value | null => {
    const i = v ? body.inputs.indexOf(v) : -1;
    return i >= 0 ? node.inputs[i] : v; // constants stay inside
  };
  const rest = restOf(body, anchor);
  const epilogue = epilogueOf(rest);
  if (!epilogue) return null;
  const epilogueInputs = rest.inputs.slice(0, -1).map((v) => outer(v) as Value); // inputs and constants are never absent
  return { anchor, inputs: anchor.inputs.map(outer), epilogue, epilogueKey: structureKey(rest), epilogueInputs, output };
}

/** What follows the anchor, over what it reads and, last, the anchor's result. Scalars are read too, so that layers that differ only there share a kernel. */
function restOf(body: Graph, anchor: Node): Graph {
  const result = input("result", anchor.outputs[0].type);
  const { outputs } = rewriteGraph(body, (node) => (node === anchor ? [result] : null));
  const sources = topologicalOrder({ inputs: [], outputs }).flatMap((n) => (n.op.kind === "source" ? n.outputs : []));
  const isRead = (v: Value): boolean => {
    const constant = constantOf(v);
    return v !== result && (!constant || (constant.dtype === "f32" && elementCount(constant.shape) === 1));
  };
  return { inputs: [...sources.filter(isRead), result], outputs };
}

/** Null when it is not all vector code. */
function epilogueOf(rest: Graph): Epilogue | null {
  const { type } = rest.outputs[0].value;
  const epilogue: Epilogue = {
    inputs: rest.inputs.slice(0, -1).map((v) => v.type),
    output: type,
    compose: (leaves) => composeReaders(rest, (i) => leaves[i])[0],
  };
  try {
    const leaves = rest.inputs.map((v, i) => loadReader(v.type, i));
    return canLower(epilogue.compose(leaves).at(type.shape.map((d) => varIndex(newVar(d))))) ? epilogue : null;
  } catch (e) {
    if (e instanceof HeddleError && (e.code === "unsupported" || e.code === "dynamic")) return null;
    throw e;
  }
}
