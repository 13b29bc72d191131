// Gelu by tanh behind a 16-bit product, and its gradient behind another, become one operator each with their product, where a device's library computes them so.
import { DTYPES } from "../ir/dtype.ts";
import { apply, type Graph, type Node, type Pass, rewriteGraph, type Value } from "../ir/graph.ts";
import { OPS } from "../ops/index.ts";
import { expand } from "./expand.ts";
import { madeBy, pairs, sameShape } from "./match.ts";
import { type Uses, usesOf } from "./uses.ts";
import { intsValue } from "./view_algebra.ts";

const [CAST, RESHAPE] = ["Cast", "Reshape"].map((name) => OPS.get(name)!); // ONNX's
const OP = { sums: "GeluProduct", slope: "GeluGradProduct", gradient: "GeluGrad" } as const;
const isHalf = ({ type: { dtype } }: Value): boolean => dtype === "bf16" || dtype === "f16";

/** The 16-bit value that a float32 one is the wider form of. */
const halfOf = (wide: Value | null | undefined): Value | undefined => {
  const half = madeBy(wide, "Cast")?.inputs[0];
  return half && isHalf(half) && wide?.type.dtype === "f32" ? half : undefined;
};

/** A product of 16-bit matrices, the second of two axes, behind views that keep its rows. */
function productOf(half: Value | undefined): Node | undefined {
  const columns = half?.type.shape.at(-1);
  if (half?.node.op === RESHAPE) return half.node.inputs[0]!.type.shape.at(-1) === columns ? productOf(half.node.inputs[0]!) : undefined;
  const product = madeBy(half, "MatMul");
  return product && product.inputs[0]!.type.shape.length > 1 && product.inputs[1]!.type.shape.length === 2 ? product : undefined; // it has both
}

/** What an Add gives to Gelu and to its gradient alone: a product and a bias. */
function biasedProduct(sum: Value, uses: Uses): { readonly product: Node; readonly wide: Value; readonly bias: Value } | null {
  const add = madeBy(sum, "Add");
  if (!add || uses.isOutput(sum) || !uses.users(sum).some((user) => user.op.name === OP.gradient)) return null;
  const isOwn = (user: Node): boolean =>
    (user.op.name === OP.gradient && user.inputs[0] === sum && user.inputs[1] !== sum) ||
    (user.op.name === "Gelu" && (user.attrs as { approximate?: string }).approximate === "tanh" && isRoundedOnly(user.outputs[0], uses));
  if (!uses.users(sum).every(isOwn)) return null;
  for (const [wide, bias] of pairs(add)) {
    const product = productOf(halfOf(wide));
    const isBias = bias.type.dtype === "f32" && bias.type.shape.length === 1 && bias.type.shape[0] === sum.type.shape.at(-1);
    if (product && isBias && uses.onlyUser(wide) === add && uses.onlyUser(product.outputs[0])) return { product, wide, bias };
  }
  return null;
}

/** Whether all that read a value read it in 16 bits. */
const isRoundedOnly = (v: Value, uses: Uses): boolean =>
  !uses.isOutput(v) && uses.users(v).every((user) => user.op === CAST && isHalf(user.outputs[0]));

/** `keeps`: whether the device has calls for a node. Gradients of Gelu that find no product are made of what they are otherwise. */
export function geluProducts(keeps: (node: Node) => boolean): Pass {
  return {
    name: "gelu products",
    run(graph: Graph): Graph {
      const uses = usesOf(graph);
      if (!uses.order.some((n) => n.op.name === OP.gradient)) return graph;
      /** Of sums of the old graph, Gelu's results. */
      const results = new Map<Value, Value>();
      const merged = rewriteGraph(graph, (node, inputs) => {
        const half = node.op === CAST ? halfOf(inputs[0]) : undefined;
        if (half?.type.dtype === node.outputs[0].type.dtype) return [half]; // it was rounded before
        if (node.op.name === "Gelu" && results.has(node.inputs[0]!)) return [widened(results.get(node.inputs[0]!)!, node)];
        const product = node.op.name === "Add" ? geluProduct(node, inputs, uses) : null;
        if (!product || !keeps(product)) return slopeRule(node, inputs, uses, keeps);
        const [y, sums] = product.outputs;
        results.set(node.outputs[0], y);
        return [widened(sums, node)];
      });
      return expand((node) => node.op.name !== OP.gradient).run(merged);
    },
  };
}

/** The product of which Gelu is asked, with its bias. */
function geluProduct(node: Node, inputs: readonly (Value | null)[], uses: Uses): Node | null {
  const found = biasedProduct(node.outputs[0], uses);
  const [first, second] = inputs as readonly [Value, Value]; // Add's
  const isFirst = found && node.inputs[0] === found.wide;
  const product = found && productOf(halfOf(isFirst ? first : second));
  return product ? apply(OPS.get(OP.sums)!, [...product.inputs, isFirst ? second : first], {}, node.from)[0].node : null;
}

/** A 16-bit copy of a gradient of Gelu, of a product, at stored sums. */
function slopeRule(node: Node, inputs: readonly (Value | null)[], uses: Uses, keeps: (node: Node) => boolean): readonly Value[] | null {
  const gradient = node.op === CAST && isHalf(node.outputs[0]) ? madeBy(inputs[0], OP.gradient) : undefined;
  const old = gradient && halfOf(node.inputs[0]!.node.inputs[1]);
  if (!old || !isRoundedOnly(node.inputs[0]!, uses) || !isOwnProduct(old, uses)) return null;
  const [sums, products] = gradient.inputs.map(halfOf);
  const product = productOf(products);
  if (!sums || !product || sums.type.dtype !== node.outputs[0].type.dtype) return null;
  const [dx] = apply(OPS.get(OP.slope)!, [...product.inputs, shaped(sums, node.outputs[0].type.shape, node.from)], {}, node.from);
  return keeps(dx.node) ? [dx] : null;
}

/** Whether nothing else reads a product, through the views behind it. */
function isOwnProduct(half: Value, uses: Uses): boolean {
  if (!uses.onlyUser(half)) return false;
  return half.node.op !== RESHAPE || isOwnProduct(half.node.inputs[0]!, uses); // it has two
}

const shaped = (x: Value, shape: readonly number[], from: string): Value =>
  sameShape(x.type.shape, shape) ? x : apply(RESHAPE, [x, intsValue(shape, from)], {}, from)[0];

/** A 16-bit value in float32, in place of a node's result. */
const widened = (half: Value, { outputs: [{ type }], from }: Node): Value =>
  apply(CAST, [shaped(half, type.shape, from)], { to: DTYPES.f32.onnx }, from)[0];
