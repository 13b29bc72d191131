// Convolutions, pools and matrix products against values worked out by hand.
import { describe, expect, it } from "vitest";
import { type Attrs, apply, type Node } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type Shape, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { convGeometry } from "../../src/ops/conv.ts";
import { convTransposeGeometry } from "../../src/ops/conv_transpose.ts";
import { evaluateNode, OPS } from "../../src/ops/index.ts";
import { matMulGeometry } from "../../src/ops/matmul.ts";
import { poolGeometry } from "../../src/ops/pool.ts";
import { input } from "../../src/ops/source.ts";

const f = (shape: Shape, values: number[]): TensorData => fromNumbers("f32", shape, values);
const count = (...shape: number[]): TensorData => f(shape, [...Array(elementCount(shape)).keys()]);
const ones = (...shape: number[]): TensorData => f(shape, Array(elementCount(shape)).fill(1));

function node(name: string, inputs: readonly TensorData[], attrs: Attrs = {}): Node {
  const values = inputs.map((t, i) => input(`x${i}`, t));
  return apply(OPS.get(name)!, values, attrs)[0].node;
}
function run(name: string, inputs: readonly TensorData[], attrs: Attrs = {}): { shape: Shape; values: number[] } {
  const [out] = evaluateNode(node(name, inputs, attrs), inputs);
  return { shape: out.shape, values: [...toNumbers(out)] };
}

describe("Conv", () => {
  it("sums what the window covers, and the bias", () => {
    const out = run("Conv", [count(1, 1, 3, 3), ones(1, 1, 2, 2), f([1], [100])]);
    expect(out).toEqual({ shape: [1, 1, 2, 2], values: [108, 112, 120, 124] });
  });
  it("pads with zeros", () => {
    expect(run("Conv", [count(1, 1, 2, 2), ones(1, 1, 3, 3)], { pads: [1, 1, 1, 1] }).values).toEqual([6, 6, 6, 6]);
    expect(run("Conv", [count(1, 1, 2, 2), ones(1, 1, 2, 2)], { pads: [1, 0, 0, 0] }).values).toEqual([1, 6]);
  });
  it("keeps groups apart", () => {
    const out = run("Conv", [f([1, 2, 1], [3, 5]), f([4, 1, 1], [1, 2, 10, 20])], { group: 2 });
    expect(out).toEqual({ shape: [1, 4, 1], values: [3, 6, 50, 100] });
  });
  it("gives the same with the channels innermost", () => {
    const x = f([1, 2, 2, 2], [0, 4, 1, 5, 2, 6, 3, 7]); // channels 0..3 and 4..7
    const w = f([1, 2, 2, 2], [1, 0, 0, 0, 0, 0, 0, 2]);
    expect(run("Conv", [x, w], { layout: "NHWC" })).toEqual({ shape: [1, 1, 1, 1], values: [14] });
    expect(run("Conv", [count(1, 2, 2, 2), w])).toEqual({ shape: [1, 1, 1, 1], values: [14] });
  });
  it("resolves auto_pad, strides and dilations", () => {
    const g = (attrs: Attrs) => convGeometry(node("Conv", [count(1, 1, 5, 6), ones(1, 1, 3, 2)], attrs));
    expect(g({ auto_pad: "SAME_UPPER", strides: [2, 2] })).toMatchObject({ output: [3, 3], padsBegin: [1, 0], padsEnd: [1, 0] });
    expect(g({ auto_pad: "SAME_LOWER" })).toMatchObject({ output: [5, 6], padsBegin: [1, 1], padsEnd: [1, 0] });
    expect(g({ auto_pad: "VALID", dilations: [2, 3] })).toMatchObject({ output: [1, 3], padsBegin: [0, 0], kernel: [3, 2] });
    expect(g({ layout: "NCHW" })).toMatchObject({ batch: 1, inChannels: 1, outChannels: 1, group: 1, input: [5, 6], output: [3, 5] });
  });
  it("counts multiplications and additions", () => {
    const made = node("Conv", [count(1, 4, 5, 5), ones(8, 2, 3, 3)], { group: 2 });
    expect(made.op.flops!(made)).toBe(2 * 9 * 8 * 2 * 9);
  });
  it("says what does not fit", () => {
    expect(() => node("Conv", [count(1, 3, 4, 4), ones(2, 2, 3, 3)])).toThrow("Conv: 3 channels in 1 groups do not fit weights (2,2,3,3)");
    expect(() => node("Conv", [count(1, 1, 2, 2), ones(1, 1, 3, 3)])).toThrow("Conv: window of 3 is larger than the padded input 2");
    expect(() => node("Conv", [count(1, 1, 4, 4), ones(1, 1, 3, 3), ones(2)])).toThrow("Conv: bias (2) does not fit 1 output channels");
    expect(() => node("Conv", [count(1, 1, 4, 4), ones(1, 1, 3, 3)], { strides: [1] })).toThrow(
      "Conv: strides (1) has 1 numbers, wanted 2",
    );
    expect(() => node("Conv", [count(1, 1, 4, 4), ones(1, 1, 3, 3)], { kernel_shape: [2, 2] })).toThrow("kernel_shape (2,2) differs");
    expect(() => node("Conv", [count(1, 1, 4, 4), ones(1, 1, 3, 3)], { layout: "CHWN" })).toThrow("layout is CHWN");
  });
});

describe("ConvTranspose", () => {
  it("spreads each element over a window", () => {
    const out = run("ConvTranspose", [f([1, 1, 2], [1, 10]), f([1, 1, 2], [3, 4])], { strides: [2] });
    expect(out).toEqual({ shape: [1, 1, 4], values: [3, 4, 30, 40] });
    expect(run("ConvTranspose", [f([1, 1, 2], [1, 10]), f([1, 1, 3], [1, 1, 1])]).values).toEqual([1, 11, 11, 10]);
  });
  it("cuts pads off, and leaves what is beyond them to the bias", () => {
    const inputs = [f([1, 1, 2], [1, 10]), f([1, 1, 3], [1, 2, 3]), f([1], [100])];
    expect(run("ConvTranspose", inputs, { pads: [1, 1] }).values).toEqual([112, 123]);
    expect(run("ConvTranspose", inputs, { output_shape: [6] }).values).toEqual([101, 112, 123, 130, 100, 100]);
    expect(convTransposeGeometry(node("ConvTranspose", inputs, { auto_pad: "SAME_UPPER", strides: [2] }))).toMatchObject({
      output: [4],
      padsBegin: [0],
      padsEnd: [1],
    });
  });
});

describe("pools", () => {
  const x = f([1, 1, 3, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  it("takes the largest, and says where it was", () => {
    expect(run("MaxPool", [x], { kernel_shape: [2, 2] }).values).toEqual([5, 6, 8, 9]);
    const made = node("MaxPool", [x], { kernel_shape: [2, 2], with_indices: 1 });
    expect([...toNumbers(evaluateNode(made, [x])[1])]).toEqual([4, 5, 7, 8]);
    const columns = node("MaxPool", [x], { kernel_shape: [2, 2], with_indices: 1, storage_order: 1 });
    expect([...toNumbers(evaluateNode(columns, [x])[1])]).toEqual([4, 7, 5, 8]);
  });
  it("never takes a pad for the largest", () => {
    expect(run("MaxPool", [f([1, 1, 2], [-3, -2])], { kernel_shape: [2], pads: [1, 1] }).values).toEqual([-3, -2, -2]);
  });
  it("averages with and without the pads", () => {
    const padded = { kernel_shape: [2, 2], pads: [1, 1, 0, 0], strides: [2, 2] };
    expect(run("AveragePool", [x], padded).values).toEqual([1, 2.5, 5.5, 7]);
    expect(run("AveragePool", [x], { ...padded, count_include_pad: 1 }).values).toEqual([0.25, 1.25, 2.75, 7]);
  });
  it("rounds up, but begins no window behind the input", () => {
    const sized = (attrs: Attrs) =>
      poolGeometry(node("AveragePool", [count(1, 1, 4)], { kernel_shape: [3], strides: [2], ...attrs })).output;
    expect([sized({}), sized({ ceil_mode: 1 }), sized({ ceil_mode: 1, pads: [0, 1] })]).toEqual([[1], [2], [2]]);
    const last = run("AveragePool", [f([1, 1, 4], [1, 2, 3, 4])], { kernel_shape: [3], strides: [2], ceil_mode: 1, count_include_pad: 1 });
    expect(last.values).toEqual([2, 3.5]);
  });
  it("takes whole channels", () => {
    expect(run("GlobalAveragePool", [x])).toEqual({ shape: [1, 1, 1, 1], values: [5] });
    expect(run("GlobalMaxPool", [x]).values).toEqual([9]);
    expect(run("GlobalLpPool", [f([1, 1, 2], [3, -4])]).values).toEqual([5]);
    expect(run("LpPool", [f([1, 1, 3], [3, -4, 0])], { kernel_shape: [2] }).values).toEqual([5, 4]);
  });
  it("says what does not fit", () => {
    expect(() => node("MaxPool", [x])).toThrow("MaxPool: attribute kernel_shape is missing");
    expect(() => node("MaxPool", [x], { kernel_shape: [2, 2], pads: [2, 0, 0, 0] })).toThrow("must be smaller than the window (2,2)");
  });
});

describe("MatMul", () => {
  it("multiplies matrices, rows and columns", () => {
    const a = f([2, 2], [1, 2, 3, 4]);
    expect(run("MatMul", [a, f([2, 1], [10, 1])])).toEqual({ shape: [2, 1], values: [12, 34] });
    expect(run("MatMul", [f([2], [10, 1]), a])).toEqual({ shape: [2], values: [13, 24] });
    expect(run("MatMul", [a, f([2], [10, 1])])).toEqual({ shape: [2], values: [12, 34] });
    expect(run("MatMul", [f([2], [1, 2]), f([2], [3, 4])])).toEqual({ shape: [], values: [11] });
  });
  it("broadcasts batches", () => {
    const out = run("MatMul", [f([2, 1, 1, 1], [1, 2]), f([3, 1, 1], [10, 20, 30])]);
    expect(out).toEqual({ shape: [2, 3, 1, 1], values: [10, 20, 30, 20, 40, 60] });
    const made = node("MatMul", [ones(2, 1, 4, 5), ones(3, 5, 7)]);
    expect(matMulGeometry(made)).toMatchObject({ batch: [2, 3], m: 4, k: 5, n: 7, shape: [2, 3, 4, 7] });
    expect(made.op.flops!(made)).toBe(2 * 6 * 4 * 5 * 7);
  });
  it("sums nothing to zero", () => {
    expect(run("MatMul", [ones(2, 0), ones(0, 2)]).values).toEqual([0, 0, 0, 0]);
  });
  it("says what does not fit", () => {
    expect(() => node("MatMul", [ones(4, 7), ones(8, 3)])).toThrow("MatMul: inner sizes differ, a is (4,7), b is (8,3)");
    expect(() => node("MatMul", [ones(), ones(3)])).toThrow("a scalar has no axis to sum over");
  });
  it("is what Gemm is made of", () => {
    const [a, b, c] = [f([2, 1], [1, 2]), f([3, 2], [1, 2, 3, 4, 5, 6]), f([3], [100, 200, 300])];
    const out = run("Gemm", [a, b, c], { transA: 1, transB: 1, alpha: 2, beta: 0.5 });
    expect(out).toEqual({ shape: [1, 3], values: [60, 122, 184] });
    expect(() => node("Gemm", [a, b])).toThrow("Gemm: inner sizes differ, a is (2,1), b is (3,2), transA 0, transB 0");
  });
});
