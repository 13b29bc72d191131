// Computes at compile time what depends on constants and shapes alone.
import type { Node, Pass, Value } from "../ir/graph.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import { evaluateNode } from "../ops/evaluate.ts";
import { constantOf, constantValue } from "../ops/source.ts";
import { type Rule, rulePass } from "./match.ts";

/** Results larger than this are computed at run time, unless the inputs are about as large: a file of constants should not grow. */
const MAX_ELEMENTS = 1 << 16;

/** Longer ranges are made where they are read: that takes no memory. */
const LONG_RANGE = 1 << 12;

const outputElements = (node: Node): number => node.outputs.reduce((n, o) => n + elementCount(o.type.shape), 0);

function isWorthFolding(node: Node, inputs: readonly (TensorData | null)[]): boolean {
  if (node.op.name === "Range" && outputElements(node) > LONG_RANGE) return false;
  const given = inputs.reduce((n, t) => n + (t ? elementCount(t.shape) : 0), 0);
  return outputElements(node) <= Math.max(MAX_ELEMENTS, 2 * given);
}

/** Constants in place of a node's outputs, or null. */
export const foldNode: Rule = (node, inputs) => {
  const { op, attrs, from } = node;
  if (op.kind === "source") return null;
  const known = op.fold?.(inputs, attrs);
  if (known) return known.map((t) => constantValue(t, from));
  if (!inputs.every((v) => !v || constantOf(v))) return null;
  const tensors = inputs.map((v) => constantOf(v) ?? null);
  if (!isWorthFolding(node, tensors)) return null;
  const renewed: Node = { ...node, inputs: inputs as readonly (Value | null)[] };
  return evaluateNode(renewed, tensors).map((t) => constantValue(t, from));
};

export const fold: Pass = rulePass("fold", foldNode);
