// Gradients of layer normalization take what surrounds them into their kernel: the wider form of what they read, what is added to their result, the 16-bit copy of that.
import { DTYPES } from "../ir/dtype.ts";
import { apply, type Graph, makeNode, type Node, type Pass, type Value } from "../ir/graph.ts";
import { OPS } from "../ops/index.ts";
import { layerNormGradGeometry } from "../ops/layer_norm_grad.ts";
import { sameShape } from "./match.ts";
import { type Uses, usesOf } from "./uses.ts";
import { intsValue } from "./view_algebra.ts";

const NAME = "LayerNormGrad";
/** As differentiation makes it. */
const isPlain = (node: Node): boolean => node.inputs.length === 3 && node.outputs.length === 3 && layerNormGradGeometry(node).parts === 1;
const isHalf = ({ type: { dtype } }: Value): boolean => dtype === "bf16" || dtype === "f16";

/** A workgroup each: about what a large GPU runs at a time. */
const MOST_PARTS = 512;

/** The largest divisor of the rows that keeps a GPU busy and leaves its parts short to sum. */
function layerNormParts(rows: number): number {
  for (let parts = Math.min(rows, MOST_PARTS); parts > 1; parts--) if (rows % parts === 0) return parts;
  return 1;
}

/** What a gradient's kernel computes besides. */
interface Around {
  /** Another value that is added to the first result, and the sum. */
  readonly added: Value | null;
  readonly sum: Value;
  /** Its copies in 16 bits of one type, which are equal. */
  readonly copies: readonly Value[];
}

function aroundOf(node: Node, { users, onlyUser, isOutput }: Uses, position: ReadonlyMap<Node, number>): Around {
  const [dx] = node.outputs;
  const add = onlyUser(dx)?.op.name === "Add" ? onlyUser(dx)! : null;
  const other = add?.inputs.find((v) => v !== dx) ?? null;
  // What is computed after it may need it.
  const isBefore = other && position.get(other.node)! < position.get(node)! && sameShape(other.type.shape, dx.type.shape);
  const sum = add && isBefore ? add.outputs[0] : dx;
  const copies = users(sum).flatMap((n) => (n.op.name === "Cast" && isHalf(n.outputs[0]) && !isOutput(n.outputs[0]) ? n.outputs : []));
  return { added: sum === dx ? null : other, sum, copies: copies.filter((v) => v.type.dtype === copies[0].type.dtype) };
}

/** `keeps`: whether there is a kernel for a gradient. */
export function layerNormGradients(keeps: (node: Node) => boolean): Pass {
  return {
    name: "layer norm gradients",
    run(graph: Graph): Graph {
      const uses = usesOf(graph);
      const due = uses.order.filter((n) => n.op.name === NAME && isPlain(n) && keeps(n));
      if (due.length === 0) return graph;
      const position = new Map(uses.order.map((node, i) => [node, i]));
      const made = new Map<Value, Value>();
      const now = (old: Value): Value => made.get(old) ?? old;
      const around = new Map(due.map((node) => [node, aroundOf(node, uses, position)]));
      for (const node of uses.order) {
        const own = around.get(node);
        if (own) joined(node, own, now, made);
        else if (!made.has(node.outputs[0])) renewed(node, now, made);
      }
      return { inputs: graph.inputs, outputs: graph.outputs.map(({ name, value }) => ({ name, value: now(value) })) };
    },
  };
}

/** The gradient with all that is around it; scale's and bias' are sums of parts, which what reads them computes. */
function joined(node: Node, { added, sum, copies }: Around, now: (old: Value) => Value, made: Map<Value, Value>): void {
  const [x, scale, dy] = node.inputs.map((v) => now(v!)); // checked by infer
  const wide = dy.node.op.name === "Cast" ? dy.node.inputs[0]! : dy;
  const parts = layerNormParts(layerNormGradGeometry(node).rows);
  const attrs = { ...node.attrs, parts, copy: copies.length > 0 ? DTYPES[copies[0].type.dtype].onnx : 0 };
  const inputs = [x, scale, isHalf(wide) ? wide : dy, ...(added ? [now(added)] : [])];
  const [dx, dscale, dbias, narrow] = apply(node.op, inputs, attrs, node.from);
  made.set(sum, dx);
  for (const [i, v] of [dscale, dbias].entries())
    made.set(node.outputs[i + 1], apply(OPS.get("ReduceSum")!, [v, intsValue([0], node.from)], { keepdims: 1 }, node.from)[0]);
  for (const copy of copies) made.set(copy, narrow);
}

function renewed(node: Node, now: (old: Value) => Value, made: Map<Value, Value>): void {
  const inputs = node.inputs.map((v) => v && now(v));
  if (inputs.every((v, i) => v === node.inputs[i])) return;
  const { outputs } = makeNode(node.op, inputs, node.attrs, node.outputs.map((o) => o.type), node.from); // biome-ignore format: short
  for (const [i, v] of node.outputs.entries()) made.set(v, outputs[i]);
}
