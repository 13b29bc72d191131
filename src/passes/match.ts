// Small questions that pattern passes ask about values: which operator made it, is it a known number, are its numbers one a channel.
import type { Node, Pass, Value } from "../ir/graph.ts";
import { rewriteGraph } from "../ir/graph.ts";
import { elementCount, type Shape, type TensorData, toNumber, toNumbers } from "../ir/tensor.ts";
import { constantOf } from "../ops/source.ts";

/** Replacement values of a node whose inputs were already rewritten, or null to keep it. */
export type Rule = (node: Node, inputs: readonly (Value | null)[]) => readonly Value[] | null;

/** A pass that offers every node to a rule once, inputs first. */
export const rulePass = (name: string, rule: Rule): Pass => ({ name, run: (graph) => rewriteGraph(graph, rule) });

/** The node that made a value, when it is of this operator. */
export function madeBy(value: Value | null | undefined, op: string): Node | undefined {
  return value?.node.op.name === op ? value.node : undefined;
}

/** The number behind a constant of one element. */
export function numberOf(value: Value | null | undefined): number | undefined {
  const tensor = constantOf(value);
  return tensor && elementCount(tensor.shape) === 1 ? toNumber(tensor, 0) : undefined;
}

/** Numbers of a constant list (axes, sizes, …). */
export function numbersOf(value: Value | null | undefined): readonly number[] | undefined {
  const tensor = constantOf(value);
  return tensor && [...toNumbers(tensor)];
}

/** Constants in files are rounded, and so are their products. */
export const isClose = (a: number | undefined, b: number, relative = 1e-4): boolean =>
  a !== undefined && Math.abs(a - b) <= relative * Math.abs(b);

/** Both ways to see the inputs of a commutative node: [one, other]. */
export const pairs = (node: Node): readonly (readonly [Value, Value])[] => {
  const [a, b] = node.inputs as readonly Value[]; // binary operators have both
  return [
    [a, b],
    [b, a],
  ];
};

/** The other input of a commutative node that has a constant of one element, with that number. */
export function plusNumber(value: Value, op: string): { x: Value; number: number } | undefined {
  const node = madeBy(value, op);
  if (!node) return undefined;
  for (const [x, c] of pairs(node)) {
    const number = numberOf(c);
    if (number !== undefined && sameShape(x.type.shape, value.type.shape)) return { x, number };
  }
  return undefined;
}

export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** A constant that broadcasts over `shape` and varies at most along `axis`, so that its elements are one, or one for each index of that axis. */
export function isAlongAxis(tensor: TensorData, shape: Shape, axis: number): boolean {
  const skip = shape.length - tensor.shape.length;
  return skip >= 0 && tensor.shape.every((d, i) => d === 1 || (skip + i === axis && d === shape[axis]));
}
