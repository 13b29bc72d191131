// Affine steps around convolutions and matrix products go into their weights.
import { describe, expect, it } from "vitest";
import type { Pass, Value } from "../../src/ir/graph.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { constantValue } from "../../src/ops/source.ts";
import { expand } from "../../src/passes/expand.ts";
import { layout } from "../../src/passes/layout.ts";
import { normalizationFolding } from "../../src/passes/normalization_folding.ts";
import { f32, graphOf, noise, op, scalar, textAfter, weights } from "./support.ts";

const x = f32("x", 1, 4, 7, 6);
const add = (a: Value, b: Value) => op("Add", [a, b]);
const mul = (a: Value, b: Value) => op("Mul", [a, b]);
const perChannel = (seed: number, channels = 6) => weights(seed, channels, 1, 1);
const names = (y: Value, ...before: Pass[]) => textAfter(graphOf(y), ...before, normalizationFolding).map((line) => line.split("(")[0]);

describe("after a convolution", () => {
  const conv = (attrs = {}, ...bias: Value[]) => op("Conv", [x, weights(1, 6, 4, 3, 3), ...bias], { pads: [1, 1, 1, 1], ...attrs });
  it("folds chains of products and sums, one number a channel or one for all", () => {
    expect(names(mul(scalar(0.5), conv()))).toEqual(["Conv"]);
    expect(names(add(mul(conv({}, weights(2, 6)), perChannel(3)), weights(4, 1, 6, 1, 1)))).toEqual(["Conv"]);
    expect(names(op("Div", [op("Sub", [add(mul(conv(), scalar(2)), weights(3, 1)), perChannel(4)]), scalar(3)]))).toEqual(["Conv"]);
    expect(names(op("Relu", [add(conv(), perChannel(1))]))).toEqual(["Conv", "Relu"]);
  });
  it("folds batch normalization", () => {
    const variance = constantValue(
      fromNumbers(
        "f32",
        [6],
        noise(6, 5).map((v) => v * v + 0.1),
      ),
    );
    const norm = op("BatchNormalization", [conv(), weights(2, 6), weights(3, 6), weights(4, 6), variance]);
    expect(names(norm, expand())).toEqual(["Conv"]);
  });
  it("folds through groups, strides, one spatial axis and transposed convolutions", () => {
    expect(names(add(mul(op("Conv", [x, weights(1, 6, 2, 3, 3)], { group: 2, strides: [2, 1] }), perChannel(2)), perChannel(3)))).toEqual(["Conv"]); // biome-ignore format: short
    const line = op("Conv", [f32("x", 1, 4, 9), weights(1, 6, 4, 3)]);
    expect(names(add(mul(line, weights(2, 6, 1)), weights(3, 6, 1)))).toEqual(["Conv"]);
    const wide = op("ConvTranspose", [x, weights(1, 4, 3, 2, 2), weights(4, 6)], { group: 2, strides: [2, 2] });
    expect(names(add(mul(wide, perChannel(2)), perChannel(3)))).toEqual(["ConvTranspose"]);
  });
  it("leaves what others read, what varies along other axes, and what is no constant", () => {
    const shared = conv();
    expect(names(add(mul(shared, perChannel(2)), op("Relu", [shared])))).toEqual(["Conv", "Mul", "Relu", "Add"]);
    expect(names(mul(conv(), weights(2, 7, 6)))).toEqual(["Conv", "Mul"]);
    expect(names(mul(conv(), f32("s", 1, 6, 1, 1)))).toEqual(["Conv", "Mul"]);
    expect(names(add(conv(), weights(2, 2, 6, 7, 6)))).toEqual(["Conv", "Add"]);
  });
});

describe("before a convolution", () => {
  const relu = op("Relu", [x]);
  const step = add(mul(relu, perChannel(2, 4)), perChannel(3, 4));
  it("folds sums only where no padding meets them", () => {
    expect(names(op("Conv", [step, weights(1, 6, 4, 3, 3)]))).toEqual(["Relu", "Conv"]);
    expect(names(op("Conv", [step, weights(1, 6, 4, 3, 3)], { pads: [1, 1, 1, 1] }))).toEqual(["Relu", "Mul", "Add", "Conv"]);
    expect(names(op("Conv", [step, weights(1, 6, 4, 3, 3)], { auto_pad: "SAME_UPPER" }))).toEqual(["Relu", "Mul", "Add", "Conv"]);
    expect(names(op("Conv", [mul(relu, scalar(3)), weights(1, 6, 4, 3, 3)], { pads: [1, 1, 1, 1] }))).toEqual(["Relu", "Conv"]);
  });
  it("folds into groups", () => {
    expect(names(op("Conv", [step, weights(1, 4, 1, 3, 3), weights(5, 4)], { group: 4 }))).toEqual(["Relu", "Conv"]);
    expect(names(op("Conv", [step, weights(1, 6, 2, 1, 1)], { group: 2 }))).toEqual(["Relu", "Conv"]);
    expect(names(op("ConvTranspose", [mul(relu, perChannel(2, 4)), weights(1, 4, 3, 2, 2)], { group: 2 }))).toEqual(["Relu", "ConvTranspose"]); // biome-ignore format: short
  });
  it("gives a step between two convolutions to the first", () => {
    const first = op("Conv", [x, weights(1, 6, 4, 3, 3)]);
    const second = op("Conv", [add(mul(first, perChannel(2)), perChannel(3)), weights(4, 2, 6, 3, 3)], { pads: [1, 1, 1, 1] });
    expect(names(second)).toEqual(["Conv", "Conv"]);
  });
});

describe("around a matrix product", () => {
  const a = f32("a", 2, 3, 5);
  const product = op("MatMul", [a, weights(1, 5, 7)]);
  it("folds products, and joins sums into one", () => {
    expect(names(mul(product, weights(2, 7)))).toEqual(["MatMul"]);
    expect(names(add(mul(add(product, weights(2, 7)), scalar(3)), weights(3, 7)))).toEqual(["MatMul", "Add"]);
    expect(names(op("MatMul", [add(mul(op("Relu", [a]), weights(2, 5)), weights(3, 5)), weights(1, 5, 7)]))).toEqual(["Relu", "MatMul", "Add"]); // biome-ignore format: short
    expect(names(add(product, weights(2, 7)))).toEqual(["MatMul", "Add"]);
  });
  it("leaves products of two computed matrices", () => {
    expect(names(mul(op("MatMul", [a, f32("b", 5, 7)]), scalar(2)))).toEqual(["MatMul", "Mul"]);
  });
});

it("works on channels last too", () => {
  const y = add(mul(op("Conv", [x, weights(1, 6, 4, 3, 3)], { pads: [1, 1, 1, 1] }), perChannel(2)), perChannel(3));
  expect(names(y, layout())).toEqual(["Transpose", "Conv", "Transpose"]);
});
