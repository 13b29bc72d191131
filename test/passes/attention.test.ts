// Attention in files is found, with what is done to its scores, and means the same as one operator; what is not attention stays.
import { expect, test } from "vitest";
import { apply, type Graph, topologicalOrder } from "../../src/ir/graph.ts";
import { toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";
import { optimize } from "../../src/passes/pipeline.ts";
import { ATTENTIONS, graphOf, OTHERS } from "./attention_graphs.ts";

const optimized = (graph: Graph): Graph =>
  optimize(graph, { keeps: ({ op }) => op.name === "MaskedAttention", anchors: () => false, layout: false });
const found = (graph: Graph) => topologicalOrder(graph).filter(({ op }) => op.name === "MaskedAttention");

test.each(ATTENTIONS)("%s", (_, y, attrs) => {
  const { graph, data } = graphOf(y);
  const result = optimized(graph);
  const nodes = found(result);
  expect(nodes.map((n) => n.attrs)).toEqual([expect.objectContaining(attrs)]);
  expect(topologicalOrder(result).some(({ op }) => op.name === "MatMul" || op.name === "Softmax")).toBe(false);
  const [want, got] = [graph, result].map((g) => toNumbers(evaluateGraph(g, data).y0));
  for (const [i, x] of want.entries()) expect(Math.abs(got[i] - x)).toBeLessThan(1e-5);
});

test.each(OTHERS)("%s: stays", (_, values) => {
  expect(found(optimized(graphOf(...values).graph))).toEqual([]);
});

test("groups of heads keep the keys that they share", () => {
  const [, y] = ATTENTIONS.find(([name]) => name === "groups of heads")!; // of the table
  const [node] = found(optimized(graphOf(y).graph));
  expect(node.inputs.slice(0, 3).map((v) => v?.type.shape)).toEqual([[2, 9, 4, 8], [2, 9, 2, 8], [2, 9, 2, 8]]); // biome-ignore format: a line
});

test("places that are compared are an order, though the booleans would be too many to be known ahead", () => {
  const [q, k, v] = ["q", "k", "v"].map((name) => input(name, { dtype: "f32", shape: [1, 1, 300, 4] }));
  const [value] = apply(OPS.get("Attention")!, [q, k, v], { is_causal: 1 }, "attention"); // an operator of ONNX
  const [node] = found(optimized({ inputs: [q, k, v], outputs: [{ name: "y", value }] }));
  expect(node.attrs).toMatchObject({ before: 0 });
  expect(node.inputs[3]).toBe(null);
});
