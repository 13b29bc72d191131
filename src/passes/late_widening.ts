// Values that 16-bit contractions give stay 16-bit for longer, and gradients of biases are summed from what contractions read: fewer bytes for those that wait for memory.
import { DTYPES } from "../ir/dtype.ts";
import { apply, type Graph, type Node, type Pass, rewriteGraph, topologicalOrder, type Value } from "../ir/graph.ts";
import { OPS } from "../ops/index.ts";

/** Operators that only move elements of their first input. */
const MOVES: ReadonlySet<string> = new Set(["Transpose", "Reshape", "Slice", "Squeeze", "Unsqueeze"]);

const CAST = OPS.get("Cast")!; // ONNX's
const widened = (x: Value, from: string): Value => apply(CAST, [x], { to: DTYPES.f32.onnx }, from)[0];
const isHalf = ({ type: { dtype } }: Value): boolean => dtype === "bf16" || dtype === "f16";

/** What a value is the float32 form of, or undefined. */
function halfOf({ node, type }: Value): Value | undefined {
  const [x] = node.inputs;
  return node.op === CAST && type.dtype === "f32" && x && isHalf(x) ? x : undefined;
}

/** Moves of float32 forms become float32 forms of moves; sums read the 16-bit copy of a value where there is one. */
export const lateWidening: Pass = {
  name: "lateWidening",
  run(graph: Graph): Graph {
    const copies = copiesOf(graph);
    return rewriteGraph(graph, (node, inputs) => moved(node, inputs) ?? summed(node, inputs, copies));
  },
};

function moved(node: Node, [x, ...rest]: readonly (Value | null)[]): readonly Value[] | null {
  const half = x && MOVES.has(node.op.name) ? halfOf(x) : undefined;
  return half ? [widened(apply(node.op, [half, ...rest], node.attrs, node.from)[0], node.from)] : null;
}

/** Float32 values that are rounded to 16 bits as well, with the copies' node. */
function copiesOf(graph: Graph): ReadonlyMap<Value, Node> {
  const copies = new Map<Value, Node>();
  for (const node of topologicalOrder(graph)) {
    const [x] = node.inputs;
    if (node.op === CAST && x?.type.dtype === "f32" && x.node.op.kind !== "source" && isHalf(node.outputs[0])) copies.set(x, node);
  }
  return copies;
}

function summed(node: Node, [x, ...rest]: readonly (Value | null)[], copies: ReadonlyMap<Value, Node>): readonly Value[] | null {
  const half = node.op.name === "ReduceSum" && x ? copied(node.inputs[0]!, x, copies) : null;
  return half && apply(node.op, [widened(half, node.from), ...rest], node.attrs, node.from);
}

/** The 16-bit copy of a value, which is `now` in the new graph, perhaps under another shape; equal ones are merged later. */
function copied(value: Value, now: Value, copies: ReadonlyMap<Value, Node>): Value | null {
  const copy = copies.get(value);
  if (copy) return apply(copy.op, [now], copy.attrs, copy.from)[0];
  const { op, inputs, attrs, from } = now.node;
  if (op.name !== "Reshape" || value.node.op !== op) return null;
  const half = copied(value.node.inputs[0]!, inputs[0]!, copies); // a Reshape has two
  return half && apply(op, [half, inputs[1]], attrs, from)[0];
}
