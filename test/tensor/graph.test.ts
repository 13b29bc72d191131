// Functions as graphs and graphs as functions.
import { expect, test } from "vitest";
import { topologicalOrder } from "../../src/ir/graph.ts";
import { evaluateGraph } from "../../src/ops/index.ts";
import { applyGraph, grad, jit, Parameter, type Tensor, tensor, toGraph } from "../../src/tensor/index.ts";

test("a function becomes a graph with its parameters as constants, and the graph a function that can be trained", async () => {
  const w = new Parameter(tensor([[1, 2], [3, 4]]) as Tensor); // biome-ignore format: a matrix
  jit(() => {
    w.value = w.value.mul(2);
  })();
  const scale = tensor(Array.from({ length: 2 }, (_, i) => i + 1)).add(1) as Tensor;
  const f = (x: Tensor): Tensor => x.matmul(w.value).mul(scale);
  const x = tensor([[1, 1]]) as Tensor;
  const graph = await toGraph(f, [x], { inputs: ["x"], outputs: ["y"] });
  expect(evaluateGraph(graph, { x: await x.tensorData() }).y.data).toEqual(await f(x).data());
  expect(new Set(topologicalOrder(graph).map((n) => n.op.name))).toEqual(new Set(["Input", "Constant", "MatMul", "Mul"]));

  const again = (weights: Tensor) => applyGraph(graph, { x }, ({ shape }) => (shape.length === 2 ? weights : null)).y;
  expect(await again(tensor([[1, 0], [0, 1]]) as Tensor).array()).toEqual([[2, 3]]); // biome-ignore format: a matrix
  expect(await grad((v: Tensor) => again(v).sum())(w.value).array()).toEqual([[2, 3], [2, 3]]); // biome-ignore format: a matrix
  expect(() => applyGraph(graph, {})).toThrow(/input x is missing/);
});
