// Sees through what only moves elements: a kernel that reads by strides reads what was there before.
import type { Expr } from "../ir/expr.ts";
import { loadReader } from "../ir/expr_interpreter.ts";
import type { Value } from "../ir/graph.ts";
import { Group, groupAttrs } from "../ir/group.ts";
import { newVar, varIndex } from "../ir/index_expr.ts";
import { stridesOf } from "../ir/tensor.ts";
import { composeReaders } from "../lower/compose.ts";

export interface StridedView {
  readonly value: Value;
  /** Place of the first element, and elements from one index of each axis to the next; 0 where an axis has one. */
  readonly from: number;
  readonly strides: readonly number[];
}

/** Of a value, or of what it is made of by moving elements. */
export function stridedView(value: Value): StridedView {
  const { shape } = value.type;
  return throughGroup(value) ?? { value, from: 0, strides: stridesOf(shape) };
}

function throughGroup(value: Value): StridedView | null {
  if (value.node.op !== Group) return null;
  const { body } = groupAttrs(value.node);
  const [source] = value.node.inputs;
  const vars = value.type.shape.map((d) => newVar(d));
  if (!source || body.inputs.length !== 1) return null;
  const moved = movesOnly(body) ? composeReaders(body, (i, type) => loadReader(type, i))[value.index].at(vars.map(varIndex)) : null;
  return moved && strided(source, moved, vars.map((v) => v.id)); // biome-ignore format: one idea
}

const movesOnly = ({
  outputs,
  inputs,
}: {
  readonly outputs: readonly { readonly value: Value }[];
  readonly inputs: readonly Value[];
}): boolean => outputs.every(({ value }) => isMoved(value, inputs[0]));
const isMoved = (value: Value, from: Value): boolean =>
  value === from || (value.node.op.kind === "view" && value.node.inputs[0] !== null && isMoved(value.node.inputs[0], from));

/** Null where the place of an element is no sum of multiples of its indices. */
function strided(value: Value, moved: Expr, axes: readonly number[]): StridedView | null {
  if (moved.k !== "load" || moved.at.terms.some(({ atom }) => atom.k !== "var")) return null;
  const of = (axis: number): number =>
    moved.at.terms.reduce((c, { atom, c: own }) => c + (atom.k === "var" && atom.v.id === axis ? own : 0), 0);
  return { value, from: moved.at.base, strides: axes.map(of) };
}
