// Products with flattened images, before → after in text: who changes its order.
import { expect, test } from "vitest";
import { flattened } from "../../src/passes/flattened.ts";
import { f32, graphOf, ints, op, textAfter, weights } from "./support.ts";

const turned = op("Transpose", [f32("images", 8, 2, 3, 5)], { perm: [0, 3, 1, 2] });
const rows = op("Reshape", [turned, ints(8, 30)]);

test("weights follow the images", () => {
  expect(textAfter(graphOf(op("MatMul", [rows, f32("w", 30, 4)])), flattened)).toEqual([
    "Reshape(images, [8,30]){allowzero=1} : 8x30",
    "Reshape(w, [5,2,3,4]){allowzero=1} : 5x2x3x4",
    "Transpose(%1){perm=1,2,0,3} : 2x3x5x4",
    "Reshape(%2, [30,4]){allowzero=1} : 30x4",
    "MatMul(%0, %3) : 8x4",
  ]);
});

test("weights that are known follow whatever their size", () => {
  const lines = textAfter(graphOf(op("MatMul", [rows, weights(1, 30, 40)])), flattened);
  expect(lines.at(-1)).toMatch(/^MatMul\(%0, %\d\) : 8x40$/);
  expect(lines[0]).toBe("Reshape(images, [8,30]){allowzero=1} : 8x30");
});

test("gradients of weights are put in order afterwards", () => {
  expect(textAfter(graphOf(op("MatMul", [f32("dy", 3, 8), rows])), flattened)).toEqual([
    "Reshape(images, [8,30]){allowzero=1} : 8x30",
    "MatMul(dy, %0) : 3x30",
    "Reshape(%1, [3,2,3,5]){allowzero=1} : 3x2x3x5",
    "Transpose(%2){perm=0,3,1,2} : 3x5x2x3",
    "Reshape(%3, [3,30]){allowzero=1} : 3x30",
  ]);
});

test("gradients of images come out as they lie", () => {
  const product = op("MatMul", [f32("dy", 8, 3), f32("w", 3, 30)]);
  const images = op("Transpose", [op("Reshape", [product, ints(8, 5, 2, 3)])], { perm: [0, 2, 3, 1] });
  const lines = ["Reshape(w, [3,5,2,3]){allowzero=1} : 3x5x2x3", "Transpose(%0){perm=0,2,3,1} : 3x2x3x5"];
  expect(textAfter(graphOf(images), flattened)).toEqual([
    ...lines,
    "Reshape(%1, [3,30]){allowzero=1} : 3x30",
    "MatMul(dy, %2) : 8x30",
    "Reshape(%3, [8,2,3,5]){allowzero=1} : 8x2x3x5",
  ]);
  expect(textAfter(graphOf(images, product), flattened)).toHaveLength(3); // others read the product
});

test("larger weights, and images in another order, stay", () => {
  expect(textAfter(graphOf(op("MatMul", [rows, f32("w", 30, 5)])), flattened)[0]).toMatch(/^Transpose/);
  expect(textAfter(graphOf(op("MatMul", [f32("dy", 5, 8), rows])), flattened)[0]).toMatch(/^Transpose/);
  const mixed = op("Reshape", [op("Transpose", [f32("images", 8, 2, 3, 5)], { perm: [1, 0, 3, 2] }), ints(2, 120)]);
  expect(textAfter(graphOf(op("MatMul", [mixed, f32("w", 120, 1)])), flattened)[0]).toMatch(/^Transpose/);
});
