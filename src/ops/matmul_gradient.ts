// Gradients of matrix products: two more products, with one operand transposed each, and without batches where one operand has none.
import type { Builder, Node, Value, VjpContext } from "../ir/graph.ts";
import { elementCount, type Shape } from "../ir/tensor.ts";
import { unbroadcast } from "./gradient.ts";

/** y = a · b → dy · bᵀ and aᵀ · dy. */
export function matmulGradient({ build, grad, wants }: VjpContext, node: Node<object>): readonly (Value | null)[] {
  const [a, b] = node.inputs as readonly Value[]; // checked by infer
  // A vector is a row on the left, a column on the right.
  const left = a.type.shape.length === 1 ? build.reshape(a, [1, ...a.type.shape]) : a;
  const right = b.type.shape.length === 1 ? build.reshape(b, [...b.type.shape, 1]) : b;
  const [m, k] = left.type.shape.slice(-2);
  const n = right.type.shape[right.type.shape.length - 1];
  const given = grad(0)!; // the only output
  const batch = given.type.shape.slice(0, given.type.shape.length - (left === a ? 1 : 0) - (right === b ? 1 : 0));
  const shape = [...batch, m, n];
  const dy = given.type.shape.join() === shape.join() ? given : build.reshape(given, shape);
  const back = (v: Value, to: Value) => (v.type.shape.join() === to.type.shape.join() ? v : build.reshape(v, to.type.shape));
  return [
    wants(0) ? back(leftGradient(build, dy, left, right, [m, k]), a) : null,
    wants(1) ? back(rightGradient(build, dy, left, right, [k, n]), b) : null,
  ];
}

const isPlain = ({ type: { shape } }: Value): boolean => elementCount(shape.slice(0, -2)) === 1;
const isFull = ({ type: { shape } }: Value, batch: Shape): boolean => shape.slice(0, -2).join() === batch.join();

/** x with its last two axes turned around. */
function turned(build: Builder, x: Value): Value {
  const rank = x.type.shape.length;
  return build.transpose(x, [...Array.from({ length: rank - 2 }, (_, i) => i), rank - 1, rank - 2]);
}

/** Whether a value is a transposition of the last two axes: then its gradient is better computed transposed, as the two turns cancel. */
function isTurned({ node, type: { shape } }: Value): boolean {
  const { perm } = node.attrs as { perm?: readonly number[] };
  if (node.op.name !== "Transpose") return false;
  const rank = shape.length;
  return perm ? perm.every((axis, i) => axis === (i < rank - 2 ? i : 2 * rank - 3 - i)) : rank === 2;
}

/** (…, rows, columns) as one matrix of all rows. */
const flat = (build: Builder, x: Value): Value => {
  const { shape } = x.type;
  return shape.length === 2 ? x : build.reshape(x, [elementCount(shape.slice(0, -1)), shape[shape.length - 1]]);
};

/** The product x · z, or its transpose zᵀ · xᵀ turned: for an operand that is turned itself. */
function product(build: Builder, x: Value, z: Value, isTransposed: boolean): Value {
  if (!isTransposed) return build.op("MatMul", [x, z]);
  return turned(build, build.op("MatMul", [turned(build, z), turned(build, x)]));
}

/** dy · bᵀ. */
function leftGradient(build: Builder, dy: Value, a: Value, b: Value, [m, k]: Shape): Value {
  if (isPlain(b) && isFull(a, dy.type.shape.slice(0, -2))) {
    const [rows, weights] = [flat(build, dy), flat(build, b)];
    return build.reshape(product(build, rows, turned(build, weights), isTurned(a) && a.type.shape.length === 2), a.type.shape);
  }
  const full = product(build, dy, turned(build, b), isTurned(a));
  return unbroadcast(build, full, [...a.type.shape.slice(0, -2), m, k]);
}

/** aᵀ · dy. */
function rightGradient(build: Builder, dy: Value, a: Value, b: Value, [k, n]: Shape): Value {
  if (isPlain(b) && isFull(a, dy.type.shape.slice(0, -2))) {
    const [rows, grads] = [flat(build, a), flat(build, dy)];
    return build.reshape(product(build, turned(build, rows), grads, isTurned(b)), b.type.shape);
  }
  const full = product(build, turned(build, a), dy, isTurned(b));
  return unbroadcast(build, full, [...b.type.shape.slice(0, -2), k, n]);
}
