// A product seen as a number times its factors, whatever the order it was written in.
import type { Node, Value } from "../ir/graph.ts";
import { madeBy, numberOf, type Rule, sameShape } from "./match.ts";

export interface Product {
  readonly number: number;
  readonly factors: readonly Value[];
}

/** Flattens Mul, Div by a number and Neg, at most `depth` deep; null when there are more than two factors or one of another shape. */
export function productOf(value: Value, depth = 3): Product {
  const { node } = value;
  const whole: Product = { number: 1, factors: [value] };
  if (depth === 0) return whole;
  const [a, b] = node.inputs;
  if (node.op.name === "Mul") return join(side(a!, value, depth), side(b!, value, depth)) ?? whole;
  if (node.op.name === "Div") {
    const by = numberOf(b);
    return by ? (join(side(a!, value, depth), { number: 1 / by, factors: [] }) ?? whole) : whole;
  }
  if (node.op.name === "Neg") return join(side(a!, value, depth), { number: -1, factors: [] }) ?? whole;
  return whole;
}

/** One side of a product: a number, or values of the product's own shape. */
function side(value: Value, product: Value, depth: number): Product | null {
  const number = numberOf(value);
  if (number !== undefined) return { number, factors: [] };
  return sameShape(value.type.shape, product.type.shape) ? productOf(value, depth - 1) : null;
}

const join = (a: Product | null, b: Product | null): Product | null =>
  a && b && a.factors.length + b.factors.length <= 2 ? { number: a.number * b.number, factors: [...a.factors, ...b.factors] } : null;

/** A rule for x · gate(x) · number: `match` gets each way to see the two factors. */
export function gateRule(match: (x: Value, gate: Value, number: number, node: Node) => Value | null): Rule {
  return (node, inputs) => {
    if (node.op.name !== "Mul" && node.op.name !== "Div") return null;
    const { number, factors } = productOf({ node: { ...node, inputs }, index: 0, type: node.outputs[0].type });
    if (factors.length !== 2) return null;
    const [a, b] = factors;
    const found = match(a, b, number, node) ?? match(b, a, number, node);
    return found && sameShape(found.type.shape, node.outputs[0].type.shape) ? [found] : null;
  };
}

/** k where value = k · x, or undefined. */
export function multipleOf(value: Value, x: Value): number | undefined {
  if (value === x) return 1;
  if (!madeBy(value, "Mul") && !madeBy(value, "Div") && !madeBy(value, "Neg")) return undefined;
  const { number, factors } = productOf(value);
  return factors.length === 1 && factors[0] === x ? number : undefined;
}
