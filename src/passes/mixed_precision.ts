// Lets contractions read 16-bit copies of their float32 operands: their sums, and all arithmetic in between, stay float32.
import { DTYPES } from "../ir/dtype.ts";
import { apply, type Graph, type Node, type Pass, rewriteGraph, topologicalOrder, type Value } from "../ir/graph.ts";
import { type NarrowPrecision, narrowPrecision, type Precision } from "../ir/precision.ts";
import { OPS } from "../ops/index.ts";
import { constantOf } from "../ops/source.ts";
import { expand } from "./expand.ts";
import { sameShape } from "./match.ts";
import { intsValue } from "./view_algebra.ts";

/** By the operator's name: the operands that are multiplied, or that stand between two products. */
const CONTRACTIONS: Readonly<Record<string, readonly number[]>> = {
  MatMul: [0, 1],
  Conv: [0, 1],
  ConvTranspose: [0, 1],
  ScoreWeights: [0],
  ScoreWeightsGrad: [0, 1],
  HeadAttention: [0, 1, 2],
  HeadAttentionGrad: [1, 2, 3, 4, 5],
  MaskedAttention: [0, 1, 2],
};

/** Contractions whose third input is added to their sums. */
const BIASED: ReadonlySet<string> = new Set(["Conv", "ConvTranspose"]);

/** Operators that only move elements: a copy is made before them, so that a weight and its transpose share one. */
const MOVES: ReadonlySet<string> = new Set(["Transpose", "Reshape", "Slice"]);

/** Operators that choose among elements: what they choose of a 16-bit copy is the copy of what they would choose. */
const CHOICES: ReadonlySet<string> = new Set(["MaxPool"]);

const castTo = (x: Value, to: "f32" | NarrowPrecision, from: string): Value =>
  apply(OPS.get("Cast")!, [x], { to: DTYPES[to].onnx }, from)[0];

/**
 * Master weights stay float32: a parameter's copy is part of the graph, made once however often it is read. A contraction's result is cast to float32
 * right behind it, which compiled kernels do before they round: it is their float32 sum. Wants a graph whose operators are expanded.
 * `storesNarrow`: what has a copy is read as that copy by all, so that only the copy is stored: for inference.
 */
export function mixedPrecision(precision: NarrowPrecision, storesNarrow = false): Pass {
  return {
    name: "mixedPrecision",
    run(graph) {
      const copies = new Map<Value, Value>();
      const narrow = storesNarrow ? narrowValues(graph) : new Set<Value>();
      return rewriteGraph(graph, (node, inputs) => {
        const operands = CONTRACTIONS[node.op.name];
        if (node.outputs[0]?.type.dtype === "f32" && operands) {
          const isBiased = BIASED.has(node.op.name);
          const given = (isBiased ? inputs.slice(0, 2) : inputs).map((v, i) =>
            v && operands.includes(i) ? copyOf(v, precision, copies) : v,
          );
          const sums = apply(node.op, given, node.attrs, node.from).map((v) =>
            v.type.dtype === precision ? castTo(v, "f32", node.from) : v,
          );
          return isBiased && inputs[2] ? [withBias(node, sums[0], inputs[2])] : sums;
        }
        const isNarrow = (i: number): boolean => node.inputs[i] !== null && narrow.has(node.inputs[i]);
        if (!inputs.some((_, i) => isNarrow(i))) return null;
        if (isChoice(node)) return [castTo(apply(node.op, [copyOf(inputs[0]!, precision, copies)], node.attrs, node.from)[0], "f32", node.from)]; // biome-ignore format: short
        const given = inputs.map((v, i) => (isNarrow(i) ? castTo(copyOf(v!, precision, copies), "f32", v!.node.from) : v)); // those are never absent
        return apply(node.op, given, node.attrs, node.from);
      });
    },
  };
}

/** The graph with its contractions in this precision, for the reference interpreter, which rounds to 16 bits where it is told to. */
export function inPrecision(graph: Graph, precision: Precision | undefined): Graph {
  const narrow = narrowPrecision(precision);
  return narrow ? mixedPrecision(narrow).run(expand().run(graph)) : graph;
}

const isChoice = (node: Node): boolean => CHOICES.has(node.op.name) && node.outputs.length === 1;

const isOfImages = ({ op, inputs: [x] }: Node): boolean => op.name === "ReduceMean" && x !== null && x.type.shape.length > 3;

/** Computed values that contractions, choices and averages of whole images read, and the first of two contractions' results that are added: the second is added where it is computed. */
function narrowValues(graph: Graph): Set<Value> {
  const order = topologicalOrder(graph);
  const position = new Map(order.map((node, i) => [node, i]));
  const narrow = new Set<Value>();
  const mark = (v: Value | null): void => {
    const source = v && movedFrom(v);
    if (source && source.type.dtype === "f32" && source.node.op.kind !== "source") narrow.add(source);
  };
  for (const node of order) {
    for (const i of CONTRACTIONS[node.op.name] ?? (isChoice(node) || isOfImages(node) ? [0] : [])) mark(node.inputs[i]);
    const [a, b] = node.inputs;
    if (node.op.name !== "Add" || !a || !b || !sameShape(a.type.shape, b.type.shape)) continue;
    if ([a, b].every((v) => CONTRACTIONS[v.node.op.name] && !constantOf(v))) mark(position.get(a.node)! < position.get(b.node)! ? a : b);
  }
  return narrow;
}

const movedFrom = (v: Value): Value => (MOVES.has(v.node.op.name) ? movedFrom(v.node.inputs[0]!) : v); // it moves its first input

function copyOf(x: Value, precision: NarrowPrecision, copies: Map<Value, Value>): Value {
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
