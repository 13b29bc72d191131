// Large products of 16-bit matrices whose sizes are odd become products of matrices with zeros around, as matrix units want lines to begin at multiples of 16 bytes.
import { apply, type Pass, type Value } from "../ir/graph.ts";
import { OPS } from "../ops/index.ts";
import { madeBy, rulePass, sameShape } from "./match.ts";
import { intsValue } from "./view_algebra.ts";

/** Lines of 16 bytes suffice for being read at once; whole tiles are quicker. */
const ALIGNED = 8;
const TILE = 64;
/** What zeros cost is little beside so many operations. */
const LARGE = 2 ** 30;

const paddedTo = (n: number): number => (n % ALIGNED === 0 ? n : Math.ceil(n / TILE) * TILE);

/** A matrix with zeros below and to the right; a transposed one gets them before it is turned. */
function padded(x: Value, rows: number, columns: number, from: string): Value {
  const [r, c] = x.type.shape;
  if (r === rows && c === columns) return x;
  const turned = madeBy(x, "Transpose");
  if (turned) return apply(turned.op, [padded(turned.inputs[0]!, columns, rows, from)], turned.attrs, from)[0];
  return apply(OPS.get("Pad")!, [x, intsValue([0, 0, rows - r, columns - c], from)], {}, from)[0];
}

export const alignedProducts: Pass = rulePass("alignedProducts", (node, [a, b]) => {
  if (node.op.name !== "MatMul" || !a || !b || a.type.shape.length !== 2 || b.type.shape.length !== 2) return null;
  const isHalf = [a, b].every(({ type: { dtype } }) => dtype === "bf16" || dtype === "f16");
  const [[m, k], [, n]] = [a.type.shape, b.type.shape];
  const sizes = [m, k, n].map(paddedTo);
  if (!isHalf || 2 * m * k * n < LARGE || sameShape(sizes, [m, k, n])) return null;
  const { from } = node;
  const whole = apply(node.op, [padded(a, sizes[0], sizes[1], from), padded(b, sizes[1], sizes[2], from)], node.attrs, from)[0];
  if (sizes[0] === m && sizes[2] === n) return [whole];
  return apply(OPS.get("Slice")!, [whole, intsValue([0, 0], from), intsValue([m, n], from)], {}, from);
});
