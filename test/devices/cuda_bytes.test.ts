// 8 bits on NVIDIA GPUs: what goes to libraries, and that it is what the reference computes.
import { describe, expect, test } from "vitest";
import type { DType } from "../../src/ir/dtype.ts";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { isLibraryKernel } from "../../src/ir/library_kernel.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { randomNumbers } from "../run/devices.ts";
import { hasGpu, openCuda } from "./cuda_numbers.ts";

const op = (name: string, inputs: readonly (Value | null)[], attrs: object = {}): Value => apply(OPS.get(name)!, inputs, { ...attrs }, name)[0]; // biome-ignore format: ONNX's
const constant = (dtype: DType, shape: readonly number[], values: ArrayLike<number>): Value =>
  constantValue(fromNumbers(dtype, shape, values));
const drawn = (dtype: DType, shape: readonly number[], scale: number, seed: number): TensorData =>
  fromNumbers(
    dtype,
    shape,
    randomNumbers(seed, elementCount(shape)).map((v) => v * scale),
  );

/** Types that libraries multiplied, the result, and the reference's. */
async function run(graph: Graph, x: TensorData): Promise<{ types: string[]; got: Float64Array; want: Float64Array }> {
  const device = await openCuda();
  const program = await compileForGpu(graph, { device });
  const got = toNumbers((await program.run({ x })).y);
  const kernels = program.schedule.steps.flatMap(({ calls }) => (calls ?? []).map(({ kernel }) => kernel));
  const types = kernels.filter(isLibraryKernel).map(({ type, outType }) => `${type} ${outType}`);
  program.free();
  await device.close();
  return { types, got, want: toNumbers(evaluateGraph(graph, { x }).y) };
}
const graphOf = (x: Value, value: Value): Graph => ({ inputs: [x], outputs: [{ name: "y", value }] });

describe.skipIf(!hasGpu)("8 bits on a CUDA device", () => {
  test("float8 of files, with the scales of both", { timeout: 60_000 }, async () => {
    const [m, k, n] = [256, 1024, 512];
    const x = input("x", { dtype: "f32", shape: [m, k] });
    const dequantized = (codes: Value, scale: number): Value => op("DequantizeLinear", [codes, constant("f32", [], [scale])]);
    const left = dequantized(op("QuantizeLinear", [x, constant("f32", [], [0.25]), constant("f8e4m3fn", [], [0])]), 0.25);
    const right = dequantized(constantValue(drawn("f8e4m3fn", [k, n], 1, 2)), 3);
    const { types, got, want } = await run(graphOf(x, op("MatMul", [left, right])), drawn("f32", [m, k], 30, 1));
    expect(types).toEqual(["f8e4m3fn f32"]);
    const largest = want.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
    // Matrix units add float8 products with some 14 bits.
    expect(got.reduce((worst, v, i) => Math.max(worst, Math.abs(v - want[i])), 0) / largest).toBeLessThan(2 ** -11);
  });

  test.each([
    ["u8", 7, "u8", 0, "i8 u8"],
    ["i8", 5, "i8", -3, "i8 f32"],
  ] as const)("convolutions of %s around %i to %s around %i, to the byte", { timeout: 60_000 }, async (from, xZero, to, yZero, type) => {
    const x = input("x", { dtype: from, shape: [1, 64, 64, 64] });
    const scale = (value: number): Value => constant("f32", [], [value]);
    const lists = Array.from({ length: 64 }, (_, i) => i);
    const y = op(
      "QLinearConv",
      [
        ...[x, scale(0.02), constant(from, [], [xZero])],
        ...[constantValue(drawn("i8", [64, 64, 3, 3], 127, 2)), constant("f32", [64], lists.map((i) => 0.001 * (1 + (i % 5)))), constant("i8", [], [0])],
        ...[scale(0.31), constant(to, [], [yZero]), constant("i32", [64], lists.map((i) => 37 * i - 500))],
      ],
      { pads: [1, 1, 1, 1], group: 1 },
    ); // biome-ignore format: an operand of ONNX's a line
    const given = drawn("i8", x.type.shape, 127, 1);
    const { types, got, want } = await run(graphOf(x, y), from === "i8" ? given : { ...given, dtype: "u8", data: new Uint8Array(given.data.buffer) }); // biome-ignore format: short
    expect(types).toEqual([type]);
    expect(got.filter((v, i) => v !== want[i])).toEqual(new Float64Array());
  });
});
