// Lets contractions read 16-bit copies of their float32 operands: their sums, and everything else, stay float32.
import { DTYPES } from "../ir/dtype.ts";
import { apply, type Node, type Pass, rewriteGraph, type Value } from "../ir/graph.ts";
import { OPS } from "../ops/index.ts";
import { intsValue } from "./view_algebra.ts";

/** The type of the copies. */
export type Precision = "bf16" | "f16";

/** By the operator's name: the operands that are multiplied. */
const CONTRACTIONS: Readonly<Record<string, readonly number[]>> = { MatMul: [0, 1], Conv: [0, 1], ConvTranspose: [0, 1] };

/** Operators that only move elements: a copy is made before them, so that a weight and its transpose share one. */
const MOVES: ReadonlySet<string> = new Set(["Transpose", "Reshape"]);

const castTo = (x: Value, to: "f32" | Precision, from: string): Value => apply(OPS.get("Cast")!, [x], { to: DTYPES[to].onnx }, from)[0];

/**
 * Master weights stay float32: a parameter's copy is part of the graph, made once however often it is read. A contraction's result is cast to float32
 * right behind it, which compiled kernels do before they round: it is their float32 sum. Wants a graph whose operators are expanded.
 */
export function mixedPrecision(precision: Precision): Pass {
  return {
    name: "mixedPrecision",
    run(graph) {
      const copies = new Map<Value, Value>();
      return rewriteGraph(graph, (node, inputs) => {
        const operands = CONTRACTIONS[node.op.name];
        if (!operands || node.outputs[0].type.dtype !== "f32") return null;
        const given = operands.map((i) => copyOf(inputs[i]!, precision, copies)); // checked by infer
        const sum = castTo(apply(node.op, given, node.attrs, node.from)[0], "f32", node.from);
        return [inputs[2] ? withBias(node, sum, inputs[2]) : sum];
      });
    },
  };
}

function copyOf(x: Value, precision: Precision, copies: Map<Value, Value>): Value {
  const known = copies.get(x);
  if (known) return known;
  const { op, inputs, attrs, from } = x.node;
  const [source, ...rest] = inputs;
  let copy: Value;
  if (source && MOVES.has(op.name)) copy = apply(op, [copyOf(source, precision, copies), ...rest], attrs, from)[0];
  // What a contraction gave is rounded to 16 bits from its sum.
  else if (source?.type.dtype === precision && op.name === "Cast") copy = source;
  else copy = castTo(x, precision, from);
  copies.set(x, copy);
  return copy;
}

/** The bias is added in float32. */
function withBias({ attrs, from }: Node, sum: Value, bias: Value): Value {
  const rank = sum.type.shape.length;
  const isFirst = (attrs as { layout?: string }).layout !== "NHWC";
  const shape = isFirst ? [bias.type.shape[0], ...new Array<number>(rank - 2).fill(1)] : [bias.type.shape[0]];
  const column = apply(OPS.get("Reshape")!, [bias, intsValue(shape, from)], {}, from)[0];
  return apply(OPS.get("Add")!, [sum, column], {}, from)[0];
}
