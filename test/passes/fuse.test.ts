// What becomes one kernel, and what does not.
import { describe, expect, it } from "vitest";
import { topologicalOrder, type Value } from "../../src/ir/graph.ts";
import { Group } from "../../src/ir/group.ts";
import { fuse } from "../../src/passes/fuse.ts";
import { checkGroups } from "./groups.ts";
import { anchors, difference, f32, graphOf, ints, op, scalar, show, weights } from "./support.ts";

/** One line a node or group after fusing, without shapes. */
function groups(...ys: Value[]): string[] {
  const before = graphOf(...ys);
  const result = fuse({ anchors }).run(before);
  checkGroups(result);
  expect(difference(before, result)).toBeLessThan(1e-6);
  return show(result).map((line) => line.split("(")[0]);
}

const x = f32("x", 1, 6, 8, 4);
const conv = (v: Value, seed = 1) =>
  op("Conv", [v, weights(seed, 4, 4, 3, 3), weights(seed + 1, 4)], { layout: "NHWC", pads: [1, 1, 1, 1] });
const relu = (v: Value) => op("Relu", [v]);
const add = (a: Value, b: Value) => op("Add", [a, b]);
const mul = (a: Value, b: Value) => op("Mul", [a, b]);

describe("anchors", () => {
  it("take the elementwise nodes after them", () => {
    expect(groups(relu(mul(add(conv(x), weights(2, 4)), scalar(2))))).toEqual(["*Conv+Add+Mul+Relu"]);
  });
  it("take a whole diamond when it closes", () => {
    const y = conv(x);
    expect(groups(mul(y, op("Sigmoid", [y])))).toEqual(["*Conv+Sigmoid+Mul"]);
    expect(groups(add(mul(y, op("Sigmoid", [y])), relu(y)))).toEqual(["*Conv+Sigmoid+Mul+Relu+Add"]);
  });
  it("end where something else reads the value", () => {
    const y = relu(conv(x));
    expect(groups(add(conv(y, 3), y))).toEqual(["*Conv+Relu", "*Conv+Add"]);
    const z = conv(x);
    expect(groups(mul(z, op("Sigmoid", [op("ReduceMean", [z, ints(1, 2)])])))).toEqual(["*Conv", "ReduceMean+Sigmoid", "Mul"]);
    expect(groups(relu(z), z)).toHaveLength(2);
  });
  it("give a sum of two to the later one", () => {
    expect(groups(relu(add(conv(x), conv(relu(x), 5))))).toEqual(["Relu", "*Conv", "*Conv+Add+Relu"]);
  });
  it("do not take what changes the shape", () => {
    expect(groups(add(op("ReduceMean", [conv(x), ints(1, 2)]), weights(1, 1, 6, 8, 4)))).toHaveLength(3);
    expect(groups(add(conv(x), f32("z", 5, 6, 8, 4)))).toEqual(["*Conv", "Add"]);
  });
  it("may be any operator that there is a kernel for", () => {
    const a = f32("a", 5, 7);
    expect(groups(mul(op("Softmax", [a]), scalar(3)))).toEqual(["*Softmax+Mul"]);
    expect(groups(add(op("LayerNormalization", [a, weights(1, 7), weights(2, 7)]), a))).toEqual(["*LayerNormalization+Add"]);
    expect(groups(op("MatMul", [a, op("Transpose", [a])]))).toEqual(["Transpose", "*MatMul"]);
  });
  it("keep their own constants as inputs, even of one element", () => {
    const y = op("Conv", [f32("z", 1, 3, 3, 2), weights(1, 1, 2, 1, 1), weights(2, 1)], { layout: "NHWC" });
    const { inputs } = fuse().run(graphOf(add(y, scalar(1)))).outputs[0].value.node;
    expect(inputs).toHaveLength(3);
  });
});

describe("nodes with readers", () => {
  it("fuse elementwise chains, with views between them", () => {
    expect(groups(relu(add(x, f32("z", 1, 6, 8, 4))))).toEqual(["Add+Relu"]);
    expect(groups(relu(op("Transpose", [op("Sigmoid", [x])], { perm: [0, 3, 1, 2] })))).toEqual(["Sigmoid+Transpose+Relu"]);
    expect(groups(add(x, op("Resize", [f32("z", 1, 3, 4, 4), null, null, ints(1, 6, 8, 4)], { mode: "nearest" })))).toEqual(["Resize+Add"]);
  });
  it("fuse into a reduction and out of it", () => {
    const mean = op("ReduceMean", [op("Exp", [x]), ints(1, 2)]);
    expect(groups(op("Sqrt", [mean]))).toEqual(["Exp+ReduceMean+Sqrt"]);
  });
  it("never compute an element twice", () => {
    const mean = op("ReduceMean", [x, ints(1, 2)]);
    expect(groups(op("Sub", [x, mean]))).toEqual(["ReduceMean", "Sub"]);
    const small = op("Exp", [f32("s", 1, 1, 1, 4)]);
    expect(groups(mul(x, small))).toEqual(["Exp", "Mul"]);
    expect(groups(relu(op("Expand", [small, ints(1, 6, 8, 4)])))).toEqual(["Exp", "Expand+Relu"]);
    const shared = op("Exp", [x]);
    expect(groups(relu(shared), op("Sqrt", [shared]))).toHaveLength(3);
    expect(groups(op("ReduceLogSumExp", [op("Exp", [x]), ints(3)]))).toEqual(["Exp", "ReduceLogSumExp"]);
    expect(groups(op("ReduceSum", [op("ReduceMax", [x, ints(3)]), ints(2)]))).toEqual(["ReduceMax", "ReduceSum"]);
  });
  it("repeat a view where each reader takes a part of it", () => {
    const turned = op("Transpose", [f32("q", 5, 3, 2)], { perm: [1, 2, 0] });
    const part = (i: number) => op("Slice", [turned, ints(i), ints(i + 1), ints(0)]);
    expect(groups(relu(part(0)), mul(part(1), scalar(2)), op("Sigmoid", [part(2)]))).toEqual([
      "Transpose+Slice+Relu", "Transpose+Slice+Mul", "Transpose+Slice+Sigmoid",
    ]); // biome-ignore format: short
    expect(groups(relu(turned), op("Sigmoid", [turned]))).toEqual(["Transpose", "Relu", "Sigmoid"]);
  });
  it("leave a Reshape, which is no work, outside", () => {
    const flat = op("Reshape", [op("Exp", [x]), ints(48, 4)]);
    expect(groups(relu(op("Transpose", [flat])))).toEqual(["Exp", "Reshape", "Transpose+Relu"]);
    expect(groups(op("Reshape", [relu(x), ints(192)]))).toEqual(["Relu", "Reshape"]);
    expect(groups(relu(op("Reshape", [op("Exp", [x]), ints(6, 8, 4)])))).toEqual(["Exp+Reshape+Relu"]);
  });
  it("join Concat as views; a part that it would compute for every element stays outside", () => {
    const slice = op("Slice", [f32("z", 1, 9, 8, 4), ints(1), ints(7), ints(1)]);
    expect(groups(op("Concat", [op("Exp", [x]), slice], { axis: 1 }))).toEqual(["Exp", "Slice+Concat"]);
  });
  it("store outputs of the graph on the way to their own", () => {
    const [w, m, s, g] = ["w", "m", "s", "g"].map((name) => f32(name, 5, 7));
    const mean = add(mul(m, scalar(0.9)), g);
    const square = add(mul(s, scalar(0.99)), mul(g, g));
    const next = op("Sub", [w, op("Div", [mean, op("Sqrt", [add(square, scalar(9))])])]);
    expect(groups(mean, square, next)).toEqual(["Mul+Add+Mul+Mul+Add+Add+Sqrt+Div+Sub"]);
    expect(groups(mean, next, add(mean, scalar(1)))).toHaveLength(3); // read elsewhere
    expect(groups(square, op("Transpose", [next]))).toHaveLength(2); // at other places
    expect(groups(mean, op("ReduceSum", [next]))).toHaveLength(2); // of another shape
    const doubled = op("Cast", [mean], { to: 11 });
    expect(groups(mean, doubled)).toHaveLength(2); // elements of another size
  });
  it("keep numbers inside and larger constants outside", () => {
    const [node] = topologicalOrder(fuse().run(graphOf(op("Clip", [mul(x, weights(1, 4)), scalar(0), scalar(6)])))).filter((n) => n.op === Group); // biome-ignore format: short
    expect(node.inputs).toHaveLength(2);
    const slice = fuse().run(graphOf(relu(op("Slice", [x, ints(0, 1), ints(2, 3), ints(1, 2)])))).outputs[0].value.node;
    expect(slice.inputs).toHaveLength(1);
  });
  it("stay within the number of buffers of a kernel", () => {
    const many = Array.from({ length: 40 }, (_, i) => f32(`z${i}`, 4)).reduce((sum, z) => add(sum, z));
    const before = graphOf(many);
    const result = fuse().run(before);
    for (const node of topologicalOrder(result)) expect(node.inputs.length).toBeLessThanOrEqual(16);
    expect(difference(before, result)).toBeLessThan(1e-6);
  });
});
