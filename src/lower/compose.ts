// Composes the readers of a group's nodes into readers of its outputs.

import { HeddleError } from "../ir/error.ts";
import type { Expr } from "../ir/expr.ts";
import { constant } from "../ir/expr.ts";
import { asCodes } from "../ir/float8.ts";
import { type Graph, type Node, type Reader, type TensorType, topologicalOrder, type Value } from "../ir/graph.ts";
import type { Index } from "../ir/index_expr.ts";
import { elementCount, type TensorData, toNumbers } from "../ir/tensor.ts";
import { Numbering } from "./rewrite.ts";

/** Readers of a node's outputs from those of its inputs; null where there are none. */
export type Expression = (inputs: readonly (Reader | null)[], node: Node) => readonly Reader[] | null;

const ownExpression: Expression = (inputs, node) => node.op.lower?.(inputs, node) ?? null;

/**
 * Readers of the body's outputs. `leaf` reads body.inputs[i]: Input nodes, or constants whose elements are read at run time.
 * Throws HeddleError("unsupported") where a node has no expression: by default, no `lower`.
 */
export function composeReaders(
  body: Graph,
  leaf: (input: number, type: TensorType) => Reader,
  expression: Expression = ownExpression,
): Reader[] {
  const numbering = new Numbering();
  const readers = new Map<Value, Reader>();
  for (const [i, value] of body.inputs.entries()) readers.set(value, remembering(leaf(i, value.type), numbering));
  for (const node of topologicalOrder(body)) {
    if (node.outputs.every((v) => readers.has(v))) continue;
    const data = (node.attrs as { value?: TensorData }).value;
    if (node.op.kind === "source" && data?.data) {
      readers.set(node.outputs[0], constantReader(data));
      continue;
    }
    const inputs = node.inputs.map((v) => (v ? (readers.get(v) ?? null) : null));
    const made = expression(inputs, node);
    if (!made) throw new HeddleError("unsupported", `${node.op.name}: it has no expression; from ${node.from}`);
    for (const [i, reader] of made.entries()) {
      if (!readers.has(node.outputs[i])) readers.set(node.outputs[i], remembering(reader, numbering));
    }
  }
  return body.outputs.map(({ value }) => {
    const result = readers.get(value);
    if (!result) throw new HeddleError("verify", "internal: a group's output is not computed inside");
    return result;
  });
}

/** The same element asked for twice is the same expression. */
function remembering(reader: Reader, numbering: Numbering): Reader {
  const known = new Map<string, Expr>();
  return {
    type: reader.type,
    at(index: readonly Index[]) {
      const key = index.map((i) => numbering.of(i)).join();
      let expr = known.get(key);
      if (!expr) {
        expr = reader.at(index);
        known.set(key, expr);
      }
      return expr;
    },
  };
}

/** Scalars are constants of the code; larger tensors are only looked at by operators while they are compiled. */
function constantReader(value: TensorData): Reader {
  const { dtype, shape } = value;
  const element = elementCount(shape) === 1 ? constant(dtype, toNumbers(asCodes(value))[0]) : undefined;
  return {
    type: { dtype, shape },
    at() {
      if (element) return element;
      throw new HeddleError("unsupported", `Constant: ${dtype}[${shape}] is read at run time; it must be an input of the group`);
    },
  };
}
