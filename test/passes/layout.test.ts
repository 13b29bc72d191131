// Channels last: where the Transposes end up.
import { describe, expect, it } from "vitest";
import type { Value } from "../../src/ir/graph.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { constantValue } from "../../src/ops/source.ts";
import { cse } from "../../src/passes/cse.ts";
import { fold } from "../../src/passes/fold.ts";
import { layout } from "../../src/passes/layout.ts";
import { simplify } from "../../src/passes/simplify.ts";
import { f32, graphOf, ints, op, scalar, textAfter, weights } from "./support.ts";

const x = f32("x", 1, 3, 6, 8);
const conv = (v: Value, seed = 1) => op("Conv", [v, weights(seed, 4, v.type.shape[1], 3, 3)], { pads: [1, 1, 1, 1] });
const names = (...ys: Value[]) => textAfter(graphOf(...ys), simplify, layout(), simplify, fold, cse).map((line) => line.split(" :")[0].split("(")[0]); // biome-ignore format: short

const scales = constantValue(fromNumbers("f32", [4], [1, 1, 2, 2]));

describe("channels last", () => {
  it("keeps a chain in one layout between two Transposes", () => {
    const y = conv(op("Relu", [op("Add", [conv(x), weights(2, 4, 1, 1)])]), 3);
    expect(textAfter(graphOf(y), layout())).toEqual([
      "Transpose(x){perm=0,2,3,1} : 1x6x8x3",
      "Conv(%0, f32[4,3,3,3]){pads=1,1,1,1 layout=NHWC} : 1x6x8x4",
      expect.stringMatching(/^Add\(%1, \[.*\]\) : 1x6x8x4$/),
      "Relu(%2) : 1x6x8x4",
      "Conv(%3, f32[4,4,3,3]){pads=1,1,1,1 layout=NHWC} : 1x6x8x4",
      "Transpose(%4){perm=0,3,1,2} : 1x4x6x8",
    ]);
  });
  it("follows elementwise nodes with inputs of fewer axes, and two branches", () => {
    const a = conv(x);
    const rowWise = op("Mul", [a, weights(2, 6, 8)]);
    expect(names(conv(op("Add", [op("PRelu", [rowWise, weights(3, 4, 1, 1)]), op("Mul", [a, scalar(2)])]), 4))).toEqual([
      "Transpose", "Conv", "Mul", "PRelu", "Mul", "Add", "Conv", "Transpose",
    ]); // biome-ignore format: short
  });
  it("follows views and reductions along their axes", () => {
    const a = conv(x);
    const joined = op("Concat", [a, op("Sigmoid", [a])], { axis: 1 });
    const cut = op("Slice", [joined, ints(1, 2), ints(7, 6), ints(1, 3)]);
    const padded = op("Pad", [cut, ints(0, 0, 1, 2, 0, 0, 1, 2)]);
    const resized = op("Resize", [padded, null, scales], { coordinate_transformation_mode: "asymmetric" });
    const scaled = op("Mul", [resized, op("ReduceMean", [resized, ints(2, 3)])]);
    expect(names(conv(op("Softmax", [scaled], { axis: 1 }), 2))).toEqual([
      "Transpose", "Conv", "Sigmoid", "Concat", "Slice", "Pad", "Resize", "ReduceMean", "Mul", "Softmax", "Conv", "Transpose",
    ]); // biome-ignore format: short
  });
  it("needs no Transpose where only axes of size 1 move", () => {
    const pooled = op("ReduceMean", [conv(x), ints(2, 3)], { keepdims: 0 });
    expect(names(op("MatMul", [pooled, weights(2, 4, 5)]))).toEqual(["Transpose", "Conv", "ReduceMean", "Reshape", "MatMul"]);
  });
  it("undoes what the file transposes itself", () => {
    const tokens = op("Transpose", [op("Reshape", [conv(x), ints(1, 4, 48)])], { perm: [0, 2, 1] });
    const mixed = op("MatMul", [tokens, weights(2, 4, 4)]);
    const back = op("Transpose", [op("Reshape", [mixed, ints(1, 6, 8, 4)])], { perm: [0, 3, 1, 2] });
    expect(names(conv(back, 3))).toEqual(["Transpose", "Conv", "Reshape", "MatMul", "Reshape", "Conv", "Transpose"]);
  });
  it("leaves graphs without convolutions alone", () => {
    expect(names(op("Relu", [op("Add", [x, x])]))).toEqual(["Add", "Relu"]);
  });
  it("transposes a second branch only when it is the smaller one", () => {
    const big = op("Sigmoid", [f32("z", 1, 4, 6, 8)]);
    expect(names(op("Add", [conv(x), big])).filter((n) => n === "Transpose")).toHaveLength(3);
    const gated = op("Mul", [op("Sigmoid", [f32("z", 5, 4, 6, 8)]), op("ReduceMean", [conv(x), ints(2, 3)])]);
    expect(names(gated)).toEqual(["Sigmoid", "Transpose", "Conv", "ReduceMean", "Reshape", "Mul"]);
  });
});
