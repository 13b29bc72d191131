// Which kernel multiplies float32: matrix units or plain cores, as was measured on an H200, and what matrix units are given.
import { expect, test } from "vitest";
import { printCuda } from "../../src/codegen/cuda/index.ts";
import type { SimtTarget } from "../../src/ir/simt.ts";
import { planProduct, productKernel } from "../../src/kernels/simt/choose.ts";
import { type Operand, stridedOperand } from "../../src/kernels/simt/operand.ts";
import { noTail } from "../../src/kernels/simt/tail.ts";
import { H200 } from "./simt_machine.ts";

const target: SimtTarget = { ...H200, fragments: ["f16", "bf16", "f32"] };
const matrix = (rows: number, depth: number): Operand =>
  stridedOperand("f32", rows * depth, [], { extent: rows, stride: depth }, { extent: depth, stride: 1 });
const product = (m: number, n: number, k: number) => ({ left: matrix(m, k), right: matrix(n, k), batch: 1 });

test.each([
  { size: [400, 384, 384], kind: "fragments" },
  { size: [40, 120, 240], kind: "fragments" },
  { size: [25600, 96, 12], kind: "plain" },
  { size: [3840, 64, 32], kind: "plain" },
  { size: [2048, 2048, 2048], kind: "fragments" },
  { size: [3840, 64, 64], kind: "plain" },
  { size: [4, 1000, 100], kind: "few" },
] as const)("$size is for $kind", ({ size: [m, n, k], kind }) => {
  expect(planProduct(product(m, n, k), target).k).toBe(kind);
});

/** Of an 8-image transposed convolution 172 µs by 128×32, 154 by 128×64 and 240 on plain cores; detection's window of 3×3 over 96 channels 38 by 128×32; 28×28×512 to 128, eight images, 19 by 64×32. */
test.each([
  { what: "transposed convolution", size: [131072, 64, 512], tile: [128, 64] },
  { what: "window for 24 channels", size: [25600, 24, 864], tile: [128, 32] },
  { what: "pointwise convolution", size: [6272, 128, 512], tile: [64, 32] },
] as const)("tiles of a $what", ({ size: [m, n, k], tile }) => {
  const plan = planProduct(product(m, n, k), target);
  expect(plan.k === "fragments" && [plan.schedule.bm, plan.schedule.bn]).toEqual(tile);
});

test("few results of a deep product are shared by subgroups; without matrix units for float32 plain cores multiply", () => {
  const p = product(40, 120, 240);
  const plan = planProduct(p, target);
  expect(plan.k === "fragments" && plan.schedule.slices).toBeGreaterThan(1);
  expect(planProduct(p, { ...H200, fragments: ["f16", "bf16"] }).k).toBe("plain");
});

test("three products of tf32 are printed for each of float32, with a sum of their own", () => {
  const p = product(400, 384, 384);
  const kernel = productKernel(
    "product",
    { ...p, splits: 1, tail: noTail({ dtype: "f32", shape: [400, 384] }), place: (_, row, column) => [row, column] },
    planProduct(p, target),
    target,
  );
  const text = printCuda([kernel]);
  const products = text.match(/mma\.sync\.aligned\.m16n8k8\.row\.col\.f32\.tf32\.tf32\.f32/g) ?? [];
  const own = text.match(/float \w+_0\[4\] = \{\}, \w+_1\[4\] = \{\};/g) ?? [];
  expect(products.length).toBeGreaterThan(0);
  expect(products.length).toBe(12 * own.length);
});
