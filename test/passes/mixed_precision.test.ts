// The pass of mixed precision: what is copied, how often, and what stays float32.
import { expect, test } from "vitest";
import { apply, type Graph, type Node, topologicalOrder, type Value } from "../../src/ir/graph.ts";
import { OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";
import { gradients } from "../../src/passes/autodiff.ts";
import { cse } from "../../src/passes/cse.ts";
import { expand } from "../../src/passes/expand.ts";
import { mixedPrecision } from "../../src/passes/mixed_precision.ts";

const op = (name: string, inputs: Value[], attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs, name)[0]; // the test names operators that exist
const f32 = (name: string, ...shape: number[]): Value => input(name, { dtype: "f32", shape });
const lowered = (inputs: Value[], outputs: Value[], storesNarrow = false): readonly Node[] => {
  const graph: Graph = { inputs, outputs: outputs.map((value, i) => ({ name: `y${i}`, value })) };
  return topologicalOrder(cse.run(mixedPrecision("bf16", storesNarrow).run(expand().run(graph))));
};
const named = (nodes: readonly Node[], name: string): readonly Node[] => nodes.filter((n) => n.op.name === name);
const typesOf = (nodes: readonly Node[]): string[] => nodes.map((n) => n.inputs.map((v) => v?.type.dtype).join(" to "));

test("a weight is copied once for the product and for both of its gradients", () => {
  const [x, w] = [f32("x", 4, 6), f32("w", 5, 6)];
  const y = op("MatMul", [x, op("Transpose", [w], { perm: [1, 0] })]);
  const z = op("Softmax", [op("Relu", [y])]);
  const loss = op("Mul", [z, z]);
  const [dx, dw] = gradients([{ value: loss, grad: f32("dy", 4, 5) }], [x, w]) as Value[]; // both depend on it
  const nodes = lowered([x, w], [loss, dx, dw]);
  expect(typesOf(named(nodes, "MatMul"))).toEqual(new Array(3).fill("bf16 to bf16"));
  const copies = named(nodes, "Cast").filter((n) => n.outputs[0].type.dtype === "bf16");
  expect(copies.map((n) => n.inputs[0]).filter((v) => v?.node === w.node).length).toBe(1);
  expect(copies.length).toBe(3); // x, w and the gradient of y
  expect(nodes.filter((n) => n.op.kind === "reduce").every((n) => n.outputs[0].type.dtype === "f32")).toBe(true);
  expect(
    named(nodes, "Softmax")
      .concat(named(nodes, "Relu"))
      .every((n) => n.outputs[0].type.dtype === "f32"),
  ).toBe(true);
});

test("results and biases of convolutions are float32", () => {
  const inputs = [f32("x", 1, 4, 8, 8), f32("w", 6, 4, 3, 3), f32("bias", 6)];
  const nodes = lowered(inputs, [op("Conv", inputs)]);
  const [conv] = named(nodes, "Conv");
  expect(conv.inputs.map((v) => v?.type.dtype)).toEqual(["bf16", "bf16"]);
  expect(typesOf(named(nodes, "Add"))).toEqual(["f32 to f32"]);
  expect(nodes.at(-1)?.outputs[0].type).toEqual({ dtype: "f32", shape: [1, 6, 6, 6] });
});

test("what one product gives the next is rounded from its sum, and other types are left alone", () => {
  const [a, b, c] = [f32("a", 3, 3), f32("b", 3, 3), f32("c", 3, 3)];
  const nodes = lowered([a, b, c], [op("MatMul", [op("MatMul", [a, b]), c])]);
  expect(named(nodes, "Cast").length).toBe(4); // a, b, c, and the last result
  const whole = input("i", { dtype: "i32", shape: [3, 3] });
  expect(typesOf(named(lowered([whole], [op("MatMul", [whole, whole])]), "MatMul"))).toEqual(["i32 to i32"]);
});

test("for inference what contractions read is 16 bits to all, as what is chosen of it, and so is one of two results that are added", () => {
  const [x, v, w] = [f32("x", 1, 8, 8, 8), f32("v", 8, 8, 1, 1), f32("w", 8, 8, 1, 1)];
  const bias = f32("bias", 8);
  const inputs = [x, v, w, bias];
  const image = op("Relu", [op("Conv", [x, v])]);
  const pooled = op("MaxPool", [image], { kernel_shape: [2, 2] });
  const outputs = [op("Add", [op("Conv", [pooled, w]), pooled]), op("Add", [op("Conv", [x, v, bias]), op("Conv", [image, w, bias])])];
  const nodes = lowered(inputs, outputs, true);
  expect(named(nodes, "MaxPool")[0].outputs[0].type.dtype).toBe("bf16");
  const isNarrow = (value: Value | null): boolean => value?.node.op.name === "Cast" && value.node.inputs[0]?.type.dtype === "bf16";
  const sums = named(nodes, "Add").filter((n) => n.inputs.every((value) => value?.type.shape.length === 4 && value.type.shape[2] > 1));
  expect(sums.map((n) => n.inputs.map(isNarrow))).toContainEqual([true, true]); // what was pooled, and a sum that is cast right behind its convolution
  expect(sums.map((n) => n.inputs.map(isNarrow))).toContainEqual([true, false]); // of two results with biases the first
  expect(named(lowered(inputs, outputs), "MaxPool")[0].outputs[0].type.dtype).toBe("f32");
});
