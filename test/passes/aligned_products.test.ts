// Zeros around matrices of odd sizes: where they go, and that results stay.
import { expect, test } from "vitest";
import type { Value } from "../../src/ir/graph.ts";
import { input } from "../../src/ops/source.ts";
import { alignedProducts } from "../../src/passes/aligned_products.ts";
import { difference, f32, graphOf, op, show } from "./support.ts";

const bf16 = (name: string, ...shape: number[]): Value => input(name, { dtype: "bf16", shape });
const aligned = (y: Value): string[] => show(alignedProducts.run(graphOf(y))).map((line) => line.replace(/\(.*\)/, ""));

test("all three sizes get zeros, and the result loses them", () => {
  const y = op("MatMul", [bf16("a", 525, 1027), bf16("b", 1027, 1003)]);
  expect(aligned(y)).toEqual(["Pad : 576x1088", "Pad : 1088x1024", "MatMul : 576x1024", "Slice : 525x1003"]);
  const before = graphOf(y);
  expect(difference(before, alignedProducts.run(before))).toBe(0);
});

test("what is multiplied turned gets them before it is turned", () => {
  const turned = op("Transpose", [bf16("a", 4096, 1001)], { perm: [1, 0] });
  expect(aligned(op("MatMul", [turned, bf16("b", 4096, 256)]))).toEqual([
    "Pad : 4096x1024",
    "Transpose{perm=1,0} : 1024x4096",
    "MatMul : 1024x256",
    "Slice : 1001x256",
  ]);
});

test("small products, even ones and float32 are left alone", () => {
  expect(aligned(op("MatMul", [bf16("a", 99, 101), bf16("b", 101, 103)]))).toEqual(["MatMul : 99x103"]);
  expect(aligned(op("MatMul", [bf16("a", 1024, 1024), bf16("b", 1024, 1032)]))).toEqual(["MatMul : 1024x1032"]);
  expect(aligned(op("MatMul", [f32("a", 1025, 1024), f32("b", 1024, 1032)]))).toEqual(["MatMul : 1025x1032"]);
});
