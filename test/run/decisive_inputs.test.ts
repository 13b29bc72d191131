// Inputs whose values decide shapes inside of a network: it is compiled for those values, and again for others.
import { expect, test } from "vitest";
import { exportOnnx } from "../../src/formats/onnx/export.ts";
import { readOnnx } from "../../src/formats/onnx/read.ts";
import { loadModel } from "../../src/index.ts";
import { apply, makeNode } from "../../src/ir/graph.ts";
import { fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";

const f32 = (shape: number[], values: number[]): TensorData => fromNumbers("f32", shape, values);
const i64 = (...values: number[]): TensorData => fromNumbers("i64", [values.length], values);

/** y = Relu(Expand(x, shape)), where the shape is an input of the model. */
function expandModel(): Uint8Array {
  const x = input("x", { dtype: "f32", shape: [1, 3] });
  const shape = input("shape", { dtype: "i64", shape: [2] });
  // Expand cannot infer its type without the value: the node is made by hand.
  const node = makeNode(OPS.get("Expand")!, [x, shape], {}, [{ dtype: "f32", shape: [2, 3] }], "expand"); // an operator that exists
  const [y] = apply(OPS.get("Relu")!, [node.outputs[0]], {}, "relu");
  return exportOnnx({ inputs: [x, shape], outputs: [{ name: "y", value: y }] });
}

test.each(["cpu", "wasm", "reference"] as const)("device %s", async (device) => {
  const bytes = expandModel();
  expect(readOnnx(bytes).inputs.map((i) => i.name)).toEqual(["x", "shape"]);
  using model = await loadModel(bytes, { device, threads: 1 });
  const shape = i64(2, 3);
  const first = await model.run({ x: f32([1, 3], [1, -2, 3]), shape });
  expect([first.y.shape, [...toNumbers(first.y)]]).toEqual([[2, 3], [1, 0, 3, 1, 0, 3]]); // biome-ignore format: two rows
  shape.data[0] = 1n; // the program must not have kept the user's array
  const second = await model.run({ x: f32([1, 3], [4, 5, 6]), shape });
  expect([second.y.shape, [...toNumbers(second.y)]]).toEqual([[1, 3], [4, 5, 6]]); // biome-ignore format: one row
  const again = await model.run({ x: f32([1, 3], [7, 8, 9]), shape: i64(2, 3) });
  expect([...toNumbers(again.y)]).toEqual([7, 8, 9, 7, 8, 9]);
});

test("what cannot be known is refused with the reason", async () => {
  using model = await loadModel(expandModel(), { threads: 1 });
  await expect(model.prepare({ x: [1, 3], shape: [2] })).rejects.toMatchObject({
    code: "dynamic",
    message: expect.stringContaining("Expand"),
  });
});
