// Differentiates a graph: from gradients of some of its values to the gradients of others, as more of the same graph (reverse accumulation).
import { isFloat } from "../ir/dtype.ts";
import { HeddleError, invariant } from "../ir/error.ts";
import { apply, type Builder, type Node, type TensorType, type Value } from "../ir/graph.ts";
import { builder } from "../ops/build.ts";
import { OPS } from "../ops/index.ts";

/** A value, and the gradient of something with respect to it. */
export interface Cotangent {
  readonly value: Value;
  readonly grad: Value;
}

/**
 * Gradients with respect to `wrt`, given those with respect to `outputs`: of the same types, and null where nothing depends on them.
 * Throws HeddleError ("unsupported") where an operator between them has no gradient.
 */
export const gradients = (outputs: readonly Cotangent[], wrt: readonly Value[]): (Value | null)[] => accumulate(outputs, wrt, NONE);

const NONE: ReadonlySet<Value> = new Set();

const sameType = (a: TensorType, b: TensorType): boolean => a.dtype === b.dtype && a.shape.join() === b.shape.join();
const textOf = ({ dtype, shape }: TensorType): string => `${dtype}[${shape}]`;

/** Values of `leaves` count as given: what they are made of is not looked at. */
function accumulate(outputs: readonly Cotangent[], wrt: readonly Value[], leaves: ReadonlySet<Value>): (Value | null)[] {
  const order = nodesBetween(
    leaves,
    outputs.map((o) => o.value),
  );
  const dependent = dependentValues(order, new Set(wrt), leaves);
  const sums = new Sums();
  for (const { value, grad } of outputs) {
    if (!sameType(value.type, grad.type))
      throw new HeddleError("bad-argument", `gradients: a gradient of ${textOf(grad.type)} for a value of ${textOf(value.type)}`);
    if (dependent.has(value)) sums.add(value, grad);
  }
  for (const node of order.toReversed()) {
    const grads = node.outputs.map((o) => sums.of(o));
    if (grads.every((g) => g === null) || !node.inputs.some((v) => v && dependent.has(v))) continue;
    for (const [i, grad] of inputGradients(node, grads, dependent).entries()) {
      const value = node.inputs[i];
      if (!grad || !value || !dependent.has(value)) continue;
      invariant(sameType(value.type, grad.type), `${node.op.name}: gradient ${textOf(grad.type)} for input ${i} of ${textOf(value.type)}`);
      sums.add(value, grad);
    }
  }
  return wrt.map((v) => sums.of(v));
}

/** Gradients of the node's inputs: from the operator's own rule, or from what it expands to. */
function inputGradients(node: Node, grads: readonly (Value | null)[], dependent: ReadonlySet<Value>): readonly (Value | null)[] {
  const { op, inputs } = node;
  const build = gradientBuilder(node);
  const wants = (i: number) => inputs[i] !== null && inputs[i] !== undefined && dependent.has(inputs[i]);
  const own = op.vjp?.({ build, grad: (i) => grads[i] ?? null, wants }, node);
  if (own) return own;
  if (!op.expand) throw new HeddleError("unsupported", `${op.name}: it has no gradient; from ${node.from}`);
  const parts = op.expand(inputs, node.attrs, node);
  const outputs = parts.flatMap((value, i) => (grads[i] ? [{ value, grad: grads[i] }] : []));
  const given = new Set(inputs.filter((v): v is Value => v !== null));
  const wanted = [...given].filter((v) => dependent.has(v));
  const found = new Map(accumulate(outputs, wanted, given).map((grad, i) => [wanted[i], grad]));
  // An input that is there twice has one gradient for both.
  return inputs.map((v, i) => (v && inputs.indexOf(v) === i ? (found.get(v) ?? null) : null));
}

/** Makes nodes of all operators, which say whose gradient they are. */
function gradientBuilder(node: Node): Builder {
  const from = `${node.from || node.op.name}:grad`;
  return builder(from, (op, inputs, attrs) => apply(op, inputs, attrs, from), OPS);
}

/** Nodes that the outputs need, inputs first; the nodes that made `leaves` are left out. */
function nodesBetween(leaves: ReadonlySet<Value>, outputs: readonly Value[]): Node[] {
  const order: Node[] = [];
  const done = new Set<Node>();
  const path: { readonly node: Node; next: number }[] = [];
  const enter = (value: Value | null): void => {
    if (!value || leaves.has(value) || done.has(value.node)) return;
    done.add(value.node);
    path.push({ node: value.node, next: 0 });
  };
  for (const output of outputs) {
    enter(output);
    while (path.length > 0) {
      const top = path[path.length - 1];
      if (top.next < top.node.inputs.length) enter(top.node.inputs[top.next++]);
      else order.push(path.pop()!.node); // there is one: it is `top`
    }
  }
  return order;
}

/** The values that depend on `wrt` by way of floats: gradients flow through them, and through nothing else. */
function dependentValues(order: readonly Node[], wrt: ReadonlySet<Value>, leaves: ReadonlySet<Value>): ReadonlySet<Value> {
  const dependent = new Set<Value>([...wrt].filter((v) => isFloat(v.type.dtype)));
  for (const node of order) {
    if (!node.inputs.some((v) => v && dependent.has(v))) continue;
    for (const o of node.outputs) if (isFloat(o.type.dtype) && !leaves.has(o)) dependent.add(o);
  }
  return dependent;
}

/** Gradients so far: those of several uses are added. */
class Sums {
  private readonly sums = new Map<Value, Value>();

  of(value: Value): Value | null {
    return this.sums.get(value) ?? null;
  }

  add(value: Value, grad: Value): void {
    const before = this.sums.get(value);
    this.sums.set(value, before ? gradientBuilder(value.node).op("Add", [before, grad]) : grad);
  }
}
