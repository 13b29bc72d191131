// Folding, merging, expanding and simplifying, before → after in text.
import { describe, expect, it } from "vitest";
import { rewriteGraph } from "../../src/ir/graph.ts";
import { cse } from "../../src/passes/cse.ts";
import { expand } from "../../src/passes/expand.ts";
import { factor } from "../../src/passes/factor.ts";
import { fold } from "../../src/passes/fold.ts";
import { simplify } from "../../src/passes/simplify.ts";
import { reshaped, transposed } from "../../src/passes/view_algebra.ts";
import { f32, graphOf, ints, noise, op, scalar, textAfter, weights } from "./support.ts";

const x = f32("x", 2, 3, 4);

describe("fold", () => {
  it("computes what depends on constants", () => {
    expect(textAfter(graphOf(op("Add", [x, op("Mul", [scalar(2), scalar(3)])])), fold)).toEqual(["Add(x, [6]) : 2x3x4"]);
  });
  it("computes shapes without the values", () => {
    const size = op("Gather", [op("Shape", [op("Relu", [x])]), ints(1)]);
    expect(textAfter(graphOf(op("Mul", [size, ints(2)])), fold)).toEqual([]);
  });
  it("does not blow small constants up", () => {
    const big = op("Expand", [scalar(1), ints(300, 300)]);
    expect(textAfter(graphOf(op("Add", [f32("x", 300, 1), big])), fold)).toEqual([
      "Expand([1], [300,300]) : 300x300",
      "Add(x, %0) : 300x300",
    ]);
  });
});

describe("cse", () => {
  it("merges equal nodes and equal small constants", () => {
    const y = op("Add", [op("Mul", [x, scalar(2)]), op("Mul", [x, scalar(2)])]);
    expect(textAfter(graphOf(y), cse)).toEqual(["Mul(x, [2]) : 2x3x4", "Add(%0, %0) : 2x3x4"]);
  });
  it("keeps what differs in attributes or numbers", () => {
    const y = op("Add", [op("LeakyRelu", [x], { alpha: 0.1 }), op("LeakyRelu", [x], { alpha: 0.2 })]);
    expect(textAfter(graphOf(y), cse)).toHaveLength(3);
    const z = op("Div", [op("Mul", [x, scalar(0)]), scalar(-0)]);
    expect(cse.run(graphOf(z)).outputs[0].value.node.inputs[1]).not.toBe(z.node.inputs[0]!.node.inputs[1]);
  });
});

describe("expand", () => {
  it("replaces operators by what they are made of", () => {
    const y = op("Gemm", [f32("a", 3, 4), weights(1, 5, 4), weights(2, 5)], { transB: 1 });
    expect(textAfter(graphOf(y), expand(), simplify, fold)).toEqual(["MatMul(a, f32[4,5]) : 3x5", "Add(%0, [-0.8719,0.6593,-0.1088,-0.07567,-0.7057]) : 3x5"]); // biome-ignore format: text
  });
  it("keeps what there is a kernel for", () => {
    const y = op("GlobalAveragePool", [f32("x", 1, 3, 4, 4)]);
    expect(
      textAfter(
        graphOf(y),
        expand((n) => n.op.name === "GlobalAveragePool"),
      ),
    ).toEqual(["GlobalAveragePool(x) : 1x3x1x1"]);
    expect(textAfter(graphOf(y), expand())).toEqual(["ReduceMean(x, [2,3]) : 1x3x1x1"]);
  });
});

describe("simplify", () => {
  const y = op("Relu", [x]);
  const one = (value: ReturnType<typeof op>) => textAfter(graphOf(value), simplify, fold);
  const relu = ["Relu(x) : 2x3x4"];
  it("drops what changes nothing", () => {
    for (const z of [
      op("Identity", [y]),
      op("Transpose", [y], { perm: [0, 1, 2] }),
      op("Transpose", [op("Transpose", [y], { perm: [2, 0, 1] })], { perm: [1, 2, 0] }),
      op("Reshape", [op("Reshape", [y, ints(24)]), ints(2, 3, 4)]),
      op("Slice", [y, ints(0), ints(100), ints(1)]),
      op("Pad", [y, ints(0, 0, 0, 0, 0, 0)]),
      op("Concat", [y], { axis: 1 }),
      op("Concat", [y, weights(1, 2, 0, 4)], { axis: 1 }),
      op("Cast", [y], { to: 1 }),
      op("Expand", [y, ints(3, 1)]),
      op("Tile", [y, ints(1, 1, 1)]),
      op("Add", [scalar(0), y]),
      op("Sub", [y, scalar(0)]),
      op("Mul", [y, scalar(1)]),
      op("Div", [y, scalar(1)]),
      op("Pow", [y, scalar(1)]),
      op("Clip", [y]),
      op("Sum", [y]),
    ])
      expect(one(z)).toEqual(relu);
  });
  it("keeps what only looks like nothing", () => {
    expect(one(op("Slice", [y, ints(-1), ints(-100), ints(1), ints(-1)]))).toHaveLength(2);
    expect(one(op("Add", [y, weights(1, 5, 2, 3, 4)]))).toHaveLength(2);
    expect(one(op("Mul", [op("Relu", [f32("z", 3, 1)]), op("Add", [weights(1, 1, 4), scalar(0)])]))).toHaveLength(2);
    expect(one(op("Sub", [scalar(0), y]))).toHaveLength(2);
  });
  it("writes all renaming of axes as one Reshape", () => {
    const z = op("Flatten", [op("Unsqueeze", [op("Squeeze", [f32("x", 1, 3, 4), ints(0)]), ints(2)])]);
    expect(one(z)).toEqual(["Reshape(x, [3,4]){allowzero=1} : 3x4"]);
  });
  it("drops axes after reducing", () => {
    expect(one(op("ReduceSum", [x, ints(1)], { keepdims: 0 }))).toEqual(["ReduceSum(x, [1]) : 2x1x4", "Reshape(%0, [2,4]){allowzero=1} : 2x4"]); // biome-ignore format: text
    expect(one(op("ReduceMax", [f32("x", 2, 1, 4), ints(1)], { keepdims: 0 }))).toEqual(["Reshape(x, [2,4]){allowzero=1} : 2x4"]);
  });
  it("splits by slices", () => {
    const parts = rewriteGraph(graphOf(op("Split", [x], { axis: -1, num_outputs: 2 })), () => null).outputs[0].value.node.outputs;
    const sum = op("Add", [parts[0], parts[1]]);
    expect(one(sum)).toEqual(["Slice(x, [0], [2], [2]) : 2x3x2", "Slice(x, [2], [4], [2]) : 2x3x2", "Add(%0, %1) : 2x3x2"]);
  });
});

describe("view algebra", () => {
  it("moves a Reshape before a Transpose where it can", () => {
    const turned = transposed(f32("x", 2, 5, 6, 3), [0, 3, 1, 2], ""); // (2,3,5,6)
    expect(
      textAfter(graphOf(op("Reshape", [op("Transpose", [f32("x", 2, 5, 6, 3)], { perm: [0, 3, 1, 2] }), ints(2, 3, 30)])), simplify),
    ).toEqual(["Reshape(x, [2,30,3]){allowzero=1} : 2x30x3", "Transpose(%0){perm=0,2,1} : 2x3x30"]);
    // C and H lie apart in x: they cannot be one axis there.
    expect(reshaped(turned, [2, 15, 6], "").node.inputs[0]).toBe(turned);
  });
  it("turns moves of axes of size 1 into a Reshape", () => {
    expect(transposed(f32("x", 1, 1, 5, 3), [0, 2, 3, 1], "").node.op.name).toBe("Reshape");
    const flat = op("Transpose", [op("Squeeze", [op("Transpose", [f32("x", 1, 1, 5, 3)], { perm: [0, 3, 1, 2] }), ints(2)])], { perm: [0, 2, 1] }); // biome-ignore format: short
    expect(textAfter(graphOf(flat), simplify)).toEqual(["Reshape(x, [1,5,3]){allowzero=1} : 1x5x3"]);
  });
  it("keeps every element in its place, whatever the shapes", () => {
    const shapes = [[2, 3, 4], [4, 6], [24], [2, 12], [1, 2, 3, 1, 4], [6, 2, 2], [3, 1, 8]]; // biome-ignore format: short
    const perms = [[0, 2, 1], [1, 2, 0], [2, 1, 0], [2, 0, 1]]; // biome-ignore format: short
    for (const seed of [...Array(60).keys()]) {
      const pick = (n: number, k: number) => Math.floor(((noise(8, seed)[k] + 1) / 2) * n);
      let value = op("Transpose", [x], { perm: perms[pick(4, 0)] });
      value = op("Reshape", [value, ints(...shapes[pick(7, 1)])]);
      if (value.type.shape.length === 3) value = op("Transpose", [value], { perm: perms[pick(4, 2)] });
      value = op("Reshape", [value, ints(...shapes[pick(7, 3)])]);
      textAfter(graphOf(value), simplify, simplify);
    }
  });
});

describe("factor", () => {
  it("adds one to the small tensor", () => {
    const s = op("Sigmoid", [f32("s", 1, 8, 1, 1)]);
    const big = f32("x", 1, 8, 5, 5);
    expect(textAfter(graphOf(op("Add", [op("Mul", [s, big]), big])), factor)).toEqual([
      "Sigmoid(s) : 1x8x1x1",
      "Add(%0, [1]) : 1x8x1x1",
      "Mul(x, %1) : 1x8x5x5",
    ]);
    expect(textAfter(graphOf(op("Add", [op("Mul", [x, x]), x])), factor)).toHaveLength(2);
  });
});
