// Products of matrices whose rows are flattened images: the smaller operand or result changes the order of its elements, not the images.
import { apply, type Graph, type Node, type Pass, rewriteGraph, type Value } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";
import { constantOf } from "../ops/source.ts";
import { madeBy, type Rule } from "./match.ts";
import { type Uses, usesOf } from "./uses.ts";
import { permOf, reshaped, transposed } from "./view_algebra.ts";

/** A matrix made of images: row by row one image, whose axes are those of `images` in the order of `perm`. */
interface Flattened {
  readonly images: Value;
  readonly perm: readonly number[];
}

/** Reshape(Transpose(images)) to a row an image. */
function flattenedOf(matrix: Value | null): Flattened | undefined {
  const turned = madeBy(madeBy(matrix, "Reshape")?.inputs[0], "Transpose");
  if (!matrix || !turned || matrix.type.shape.length !== 2) return undefined;
  const images = turned.inputs[0]!; // a Transpose has an input
  const perm = permOf(turned.attrs, images.type.shape.length);
  return perm[0] === 0 && matrix.type.shape[0] === images.type.shape[0] ? { images, perm } : undefined;
}

/** Changing the order of x costs little beside doing so for y: it is known beforehand, or smaller. */
const isCheap = (x: Value, y: Value): boolean =>
  constantOf(x) !== undefined || 2 * elementCount(x.type.shape) <= elementCount(y.type.shape);

const matmul = (node: Node, a: Value, b: Value): Value => apply(node.op, [a, b], node.attrs, node.from)[0];

/** The matrix with the axes `dims` that make up its axis `axis` in the order of `order`. */
function reordered(matrix: Value, axis: 0 | 1, dims: readonly number[], order: readonly number[], from: string): Value {
  const { shape } = matrix.type;
  const [before, after] = axis === 0 ? [[], [shape[1]]] : [[shape[0]], []];
  const split = reshaped(matrix, [...before, ...dims, ...after], from);
  const moved = order.map((i) => i + before.length);
  const perm = [...before.map((_, i) => i), ...moved, ...after.map((_, i) => before.length + dims.length + i)];
  return reshaped(transposed(split, perm, from), shape, from);
}

/** Images · weights: the weights' rows as the images lie. Of weights' gradients, something · images: the result's columns as they were. */
const productRule: Rule = (node, [a, b]) => {
  const [left, right] = [flattenedOf(a), flattenedOf(b)];
  if (!a || !b || a.type.shape.length !== 2 || b.type.shape.length !== 2) return null;
  const asTheyLie = ({ images }: Flattened, matrix: Value) => reshaped(images, matrix.type.shape, node.from);
  if (left && isCheap(b, a)) {
    const { images, perm } = left;
    const dims = perm.slice(1).map((axis) => images.type.shape[axis]);
    const order = dims.map((_, i) => perm.indexOf(i + 1) - 1);
    return [matmul(node, asTheyLie(left, a), reordered(b, 0, dims, order, node.from))];
  }
  if (right && isCheap(node.outputs[0], b)) {
    const { images, perm } = right;
    const order = perm.slice(1).map((axis) => axis - 1);
    return [reordered(matmul(node, a, asTheyLie(right, b)), 1, images.type.shape.slice(1), order, node.from)];
  }
  return null;
};

/** Transpose(Reshape(rows · weights)) to images: the weights' columns as the images shall lie. */
const imageRule =
  ({ onlyUser }: Uses): Rule =>
  (node, [x]) => {
    const shaped = madeBy(x, "Reshape");
    const product = madeBy(shaped?.inputs[0], "MatMul");
    const old = node.inputs[0]!; // a Transpose has an input
    if (!shaped || !product || onlyUser(old) !== node || onlyUser(old.node.inputs[0]!) !== old.node) return null;
    const [a, b] = product.inputs as readonly Value[]; // a product has both
    const { shape } = x!.type;
    const perm = permOf(node.attrs, shape.length);
    const rows = product.outputs[0].type.shape;
    if (perm[0] !== 0 || rows.length !== 2 || b.type.shape.length !== 2 || rows[0] !== shape[0] || !isCheap(b, x!)) return null;
    const columns = reordered(b, 1, shape.slice(1), perm.slice(1).map((axis) => axis - 1), product.from); // biome-ignore format: short
    return [reshaped(matmul(product, a, columns), node.outputs[0].type.shape, node.from)];
  };

export const flattened: Pass = {
  name: "flattened",
  run(graph: Graph): Graph {
    const images = imageRule(usesOf(graph));
    return rewriteGraph(graph, (node, inputs) => {
      if (node.op.name === "MatMul") return productRule(node, inputs);
      return node.op.name === "Transpose" ? images(node, inputs) : null;
    });
  },
};
