// Normalizations, softmax, recurrent layers, quantization, losses and selection against values worked out by hand.
import { describe, expect, it } from "vitest";
import type { DType } from "../../src/ir/dtype.ts";
import { type Attrs, apply, type ImportContext, type Node, type Op, type Value } from "../../src/ir/graph.ts";
import { fromNumbers, type Shape, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, evaluateNode, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";

const t = (dtype: DType, shape: Shape, values: number[]): TensorData => fromNumbers(dtype, shape, values);
const f = (shape: Shape, values: number[]): TensorData => t("f32", shape, values);
const list = (...values: number[]): TensorData => t("i64", [values.length], values);
const num = (dtype: DType, value: number): TensorData => t(dtype, [], [value]);

/** The first input is known at run time only, the others are constants; with `known`, it is constant too. */
function node(name: string, inputs: (TensorData | null)[], attrs: Attrs = {}, known = false): Node {
  const values = inputs.map((x, i) => x && (i === 0 && !known ? input("x", x) : constantValue(x)));
  return apply(OPS.get(name)!, values, attrs)[0].node;
}
const runAll = (name: string, inputs: (TensorData | null)[], attrs: Attrs = {}, known = false): number[][] =>
  evaluateNode(node(name, inputs, attrs, known), inputs).map((x) => [...toNumbers(x)]);
const run = (name: string, inputs: (TensorData | null)[], attrs: Attrs = {}): number[] => runAll(name, inputs, attrs)[0];
const rounded = (values: number[], digits = 4): number[] => values.map((v) => Number(v.toFixed(digits)));

/** Imports an operator as a file of some opset would. `bodies` are its sub-graphs. */
function imported(
  name: string,
  opset: number,
  inputs: (Value | null)[],
  attrs: Attrs,
  options: { outputCount?: number; bodies?: Record<string, (bind: readonly Value[]) => Value[]> } = {},
): readonly Value[] {
  const folded = (values: readonly Value[]): readonly Value[] => {
    const { node: made } = values[0];
    const data = made.inputs.map((v) => (v?.node.op.name === "Constant" ? (v.node.attrs.value as TensorData) : null));
    if (made.inputs.some((v, i) => v && !data[i])) return values;
    return evaluateNode(made, data).map((x) => constantValue(x));
  };
  const context: ImportContext = {
    opset,
    name: "here",
    inputs,
    attrs,
    outputCount: options.outputCount ?? 1,
    constant: (data) => constantValue(data),
    emit: (op, operands, given) => folded(apply(op as unknown as Op, operands, given, "here")),
    inline: (attr, bind = []) => options.bodies![attr](bind),
  };
  return OPS.get(name)!.importOnnx!(context);
}
const resultOf = (v: Value): number[] => [...toNumbers(evaluateGraph({ inputs: [], outputs: [{ name: "y", value: v }] }, {}).y)];

describe("normalizations", () => {
  it("folds a batch normalization into one factor and one summand", () => {
    const parts = [f([2], [2, 1]), f([2], [10, 0]), f([2], [1, 0]), f([2], [4, 1])];
    expect(run("BatchNormalization", [f([1, 2, 2], [1, 5, 3, 4]), ...parts], { epsilon: 0 })).toEqual([10, 14, 3, 4]);
    const made = node("BatchNormalization", [f([1, 2, 2], [1, 5, 3, 4]), ...parts], { epsilon: 0 });
    const [sum] = made.op.expand!(made.inputs, made.attrs, made);
    expect([sum.node.op.name, sum.node.inputs[0]!.node.op.name, sum.node.inputs[0]!.node.inputs[1]!.node.op.name]).toEqual([
      "Add",
      "Mul",
      "Constant",
    ]);
  });
  it("normalizes layers, instances, groups and vectors", () => {
    const x = f([1, 2, 2], [1, 3, 10, 14]);
    const one = f([2], [1, 1]);
    const zero = f([2], [0, 0]);
    expect(run("LayerNormalization", [x, f([2], [1, 2]), f([2], [0, 1])], { epsilon: 0 })).toEqual([-1, 3, -1, 3]);
    const [, mean, inverse] = runAll("LayerNormalization", [x, one], { epsilon: 0, with_stats: 1 });
    expect([mean, inverse]).toEqual([
      [2, 12],
      [1, 0.5],
    ]);
    expect(run("InstanceNormalization", [x, one, f([2], [0, 5])], { epsilon: 0 })).toEqual([-1, 1, 4, 6]);
    expect(run("GroupNormalization", [x, one, zero], { epsilon: 0, num_groups: 2 })).toEqual([-1, 1, -1, 1]);
    expect(rounded(run("RMSNormalization", [f([1, 2], [3, 4]), one], { epsilon: 0 }))).toEqual([0.8485, 1.1314]);
    expect(rounded(run("LpNormalization", [f([2, 2], [3, 4, 0, 0])]))).toEqual([0.6, 0.8, 0, 0]);
    expect(rounded(run("MeanVarianceNormalization", [f([1, 2], [1, 3])], { axes: [1] }))).toEqual([-1, 1]);
  });
  it("divides by the neighbouring channels", () => {
    const lrn = (size: number) => run("LRN", [f([1, 3, 1], [1, 2, 3])], { size, alpha: size, beta: 1, bias: 1 });
    expect(rounded(lrn(1))).toEqual([0.5, 0.4, 0.3]);
    expect(rounded(lrn(3))).toEqual(rounded([1 / 6, 2 / 15, 3 / 14]));
    expect(rounded(lrn(1e9))).toEqual(rounded([1 / 15, 2 / 15, 3 / 15]));
  });
});

describe("softmax", () => {
  it("does not overflow", () => {
    expect(run("Softmax", [f([1, 2], [1000, 1000])])).toEqual([0.5, 0.5]);
    expect(rounded(run("LogSoftmax", [f([1, 2], [1000, 0])]))).toEqual([0, -1000]);
    expect(run("Hardmax", [f([2, 3], [1, 5, 5, 0, 0, -1])])).toEqual([0, 1, 0, 1, 0, 0]);
  });
  it("made one line of all axes from axis 1 on, before opset 13", () => {
    const x = constantValue(f([1, 2, 2], [0, 0, 0, 0]));
    expect(resultOf(imported("Softmax", 11, [x], {})[0])).toEqual([0.25, 0.25, 0.25, 0.25]);
    expect(resultOf(imported("Softmax", 13, [x], {})[0])).toEqual([0.5, 0.5, 0.5, 0.5]);
    const live = input("x", { dtype: "f32", shape: [4, 10, 1] });
    expect(imported("Softmax", 11, [live], {})[0].node.op.name).toBe("Softmax");
  });
});

describe("recurrent layers", () => {
  const w = (rows: number, v: number) => f([1, rows, 1], Array(rows).fill(v));
  it("runs forward and backward", () => {
    const x = f([3, 1, 1], [1, 2, 3]);
    const attrs = { activations: ["Affine"], hidden_size: 1 }; // Affine with its defaults is the identity
    expect(runAll("RNN", [x, w(1, 1), w(1, 1)], attrs)).toEqual([[1, 3, 6], [6]]);
    expect(runAll("RNN", [x, w(1, 1), w(1, 1)], { ...attrs, direction: "reverse" })).toEqual([[6, 5, 3], [6]]);
    expect(runAll("RNN", [x, w(1, 1), w(1, 1), null, t("i32", [1], [2])], attrs)).toEqual([[1, 3, 0], [3]]);
  });
  it("keeps half of the state at open gates", () => {
    const zeros = [w(3, 0), w(3, 0), null, null, f([1, 1, 1], [4])];
    expect(runAll("GRU", [f([2, 1, 1], [0, 0]), ...zeros])).toEqual([[2, 1], [1]]);
    const lstm = [w(4, 0), w(4, 0), null, null, null, f([1, 1, 1], [4])];
    const [y, , c] = runAll("LSTM", [f([1, 1, 1], [0]), ...lstm]);
    expect([rounded(y), c]).toEqual([rounded([0.5 * Math.tanh(2)]), [2]]);
  });
  it("says what does not fit", () => {
    expect(() => node("LSTM", [f([1, 1, 2], [0, 0]), w(4, 0), w(4, 0)])).toThrow("LSTM: input 1 is (1,4,1), wanted (1,4,2)");
    expect(() => node("RNN", [f([1, 1, 1], [0]), w(1, 0), w(1, 0)], { activations: ["toString"] })).toThrow(
      "activation toString is unknown",
    );
  });
});

describe("quantization", () => {
  it("rounds half to even and saturates", () => {
    const x = f([5], [-300, -0.5, 0.5, 1.5, 300]);
    expect(run("QuantizeLinear", [x, num("f32", 1), num("u8", 10)])).toEqual([0, 10, 10, 12, 255]);
    expect(run("QuantizeLinear", [x, num("f32", 1), num("i8", 0)])).toEqual([-128, 0, 0, 2, 127]);
    expect(run("DequantizeLinear", [t("u8", [2], [0, 255]), num("f32", 0.5), num("u8", 128)])).toEqual([-64, 63.5]);
  });
  it("has a scale for each slice or block", () => {
    const x = f([2, 2], [1, 2, 3, 4]);
    expect(run("QuantizeLinear", [x, f([2], [1, 0.5])])).toEqual([1, 4, 3, 8]);
    expect(run("QuantizeLinear", [x, f([2], [1, 0.5])], { axis: 0 })).toEqual([1, 2, 6, 8]);
    expect(run("QuantizeLinear", [x, f([1, 2], [1, 0.5])], { axis: 0, block_size: 2 })).toEqual([1, 4, 3, 8]);
    expect(() => node("QuantizeLinear", [x, f([3], [1, 1, 1])])).toThrow("wanted one number, or 2 for axis 1");
  });
  it("finds scale and zero point by itself", () => {
    expect(runAll("DynamicQuantizeLinear", [f([3], [-1, 0, 254])])).toEqual([[0, 1, 255], [1], [1]]);
    expect(runAll("DynamicQuantizeLinear", [f([2], [0, 0])])).toEqual([[0, 0], [1], [0]]);
  });
  it("multiplies integers exactly", () => {
    const big = t("u8", [1, 400], Array(400).fill(255));
    expect(run("MatMulInteger", [big, t("u8", [400, 1], Array(400).fill(255))])).toEqual([400 * 255 * 255]);
    expect(run("MatMulInteger", [t("u8", [2, 1], [5, 5]), t("u8", [1, 1], [3]), t("u8", [2], [1, 2])])).toEqual([12, 9]);
    const conv = run("ConvInteger", [t("u8", [1, 1, 2], [3, 4]), t("u8", [1, 1, 2], [1, 1]), num("u8", 1)], { pads: [1, 0] });
    expect(conv).toEqual([2, 5]);
  });
  it("comes back to bytes", () => {
    const q = (scale: number, zero: number) => [num("f32", scale), num("u8", zero)];
    const x = t("u8", [1, 1, 2], [12, 14]);
    const w = t("u8", [2, 1, 1], [3, 5]);
    const inputs = [x, ...q(0.5, 10), w, f([2], [1, 2]), t("u8", [2], [1, 1]), ...q(1, 100), t("i32", [2], [2, 0])];
    // (x − 10)·0.5 · (w − 1)·scale + bias·0.5·scale: 2·(2, 4)·0.5 + 1, and 4·(2, 4)·0.5·2
    expect(run("QLinearConv", inputs)).toEqual([103, 105, 108, 116]);
    expect(run("QLinearMatMul", [t("u8", [1, 1], [12]), ...q(0.5, 10), t("u8", [1, 1], [6]), ...q(2, 1), ...q(0.5, 3)])).toEqual([23]);
  });
});

const ln2 = Number(Math.LN2.toFixed(5));

describe("losses", () => {
  const logs = f([2, 2], [-1, -2, -3, -4]);
  it("weighs and ignores", () => {
    expect(run("NegativeLogLikelihoodLoss", [logs, list(0, 1)])).toEqual([2.5]);
    expect(run("NegativeLogLikelihoodLoss", [logs, list(0, 1), f([2], [1, 3])])).toEqual([13 / 4]);
    expect(run("NegativeLogLikelihoodLoss", [logs, list(0, -7)], { ignore_index: -7, reduction: "none" })).toEqual([1, 0]);
    const [loss, probabilities] = runAll("SoftmaxCrossEntropyLoss", [f([1, 2], [0, 0]), list(1)], { reduction: "sum" });
    expect([rounded(loss, 5), rounded(probabilities, 5)]).toEqual([[ln2], [-ln2, -ln2]]);
  });
});

describe("selection", () => {
  it("orders the largest, equal ones by place", () => {
    expect(runAll("TopK", [f([5], [1, 3, 2, 3, Number.NaN]), list(3)])).toEqual([
      [Number.NaN, 3, 3],
      [4, 1, 3],
    ]);
    expect(runAll("TopK", [f([2, 2], [4, 1, 2, 3]), list(1)], { axis: 0, largest: 0 })).toEqual([
      [2, 1],
      [1, 0],
    ]);
    expect(() => node("TopK", [f([2], [1, 2]), list(3)])).toThrow("TopK: k is 3, the axis has 2");
  });
  it("drops boxes that overlap a better one", () => {
    const boxes = f([1, 3, 4], [0, 0, 1, 1, 1, 1.1, 0, 0.1, 0, 5, 1, 6]);
    const inputs = [boxes, f([1, 1, 3], [0.7, 0.9, 0.6]), list(5), f([1], [0.5]), f([1], [0])];
    expect(runAll("NonMaxSuppression", inputs, {}, true)).toEqual([[0, 0, 1, 0, 0, 2]]);
    const live = inputs.map((x, i) => (i < 2 ? input("x", x) : constantValue(x)));
    expect(() => apply(OPS.get("NonMaxSuppression")!, live)).toThrow("the output's shape depends on data known only at run time");
  });
});

describe("Einsum", () => {
  const a = f([2, 3], [1, 2, 3, 4, 5, 6]);
  it("is products, sums, transposes and diagonals", () => {
    const einsum = (equation: string, ...inputs: TensorData[]) => run("Einsum", inputs, { equation });
    expect(einsum("ij->ji", a)).toEqual([1, 4, 2, 5, 3, 6]);
    expect(einsum("ij->", a)).toEqual([21]);
    expect(einsum("ij,kj->ik", a, a)).toEqual([14, 32, 32, 77]);
    expect(einsum("ij,ij->i", a, a)).toEqual([14, 77]);
    expect(einsum("i,j", f([2], [1, 2]), f([2], [3, 4]))).toEqual([3, 4, 6, 8]);
    expect(einsum("ii->i", f([2, 2], [1, 2, 3, 4]))).toEqual([1, 4]);
    expect(einsum("...i->...", a)).toEqual([6, 15]);
  });
  it("says what it cannot read", () => {
    expect(() => node("Einsum", [a], { equation: "ijk" })).toThrow('Einsum: "ijk": term "ijk" does not fit an input with 2 axes');
    expect(() => node("Einsum", [a], { equation: "ij->k" })).toThrow("output label k is not in the inputs");
    expect(() => node("Einsum", [a, a], { equation: "ij,jk" })).toThrow("label j is both 3 and 2");
  });
});

describe("control flow", () => {
  const op = (name: string) => OPS.get(name)!;
  const emitAdd = (a: Value, b: Value): Value =>
    constantValue(
      evaluateNode(
        apply(op("Add"), [a, b])[0].node,
        [a, b].map((v) => v.node.attrs.value as TensorData),
      )[0],
    );
  const bool = (v: boolean) => constantValue(num("bool", v ? 1 : 0));
  it("takes the branch that is known", () => {
    const bodies = { then_branch: () => [constantValue(f([], [1]))], else_branch: () => [constantValue(f([], [2]))] };
    expect(resultOf(imported("If", 16, [bool(false)], {}, { bodies })[0])).toEqual([2]);
    const live = input("c", { dtype: "bool", shape: [] });
    expect(() => imported("If", 16, [live], {}, { bodies })).toThrow("If: the condition is computed from data at run time");
  });
  it("unrolls loops", () => {
    const bodies = { body: ([i, c, sum]: readonly Value[]) => [c, emitAdd(sum, i), i] };
    const [sum, seen] = imported(
      "Loop",
      16,
      [constantValue(num("i64", 4)), bool(true), constantValue(num("i64", 10))],
      {},
      { bodies, outputCount: 2 },
    );
    expect([resultOf(sum), resultOf(seen)]).toEqual([[16], [0, 1, 2, 3]]);
    expect(() => imported("Loop", 16, [null, bool(true)], {}, { bodies: { body: () => [bool(true)] }, outputCount: 0 })).toThrow(
      "it runs more than 1000 times",
    );
    const stop = { body: ([i]: readonly Value[]) => [bool(resultOf(i)[0] < 2), i] };
    expect(resultOf(imported("Loop", 16, [null, bool(true)], {}, { bodies: stop })[0])).toEqual([0, 1, 2]);
  });
  it("unrolls scans", () => {
    const bodies = { body: ([sum, x]: readonly Value[]) => [emitAdd(sum, x), emitAdd(sum, x)] };
    const inputs = [constantValue(f([], [0])), constantValue(f([3], [1, 2, 3]))];
    const [total, sums] = imported("Scan", 16, inputs, { num_scan_inputs: 1, scan_input_directions: [1] }, { bodies, outputCount: 2 });
    expect([resultOf(total), resultOf(sums)]).toEqual([[6], [3, 5, 6]]);
  });
});

describe("sampling", () => {
  const x = f([1, 1, 2, 2], [1, 2, 3, 4]);
  const place = (gx: number, gy: number) => f([1, 1, 1, 2], [gx, gy]);
  it("interpolates between elements", () => {
    expect(run("GridSample", [x, place(0, 0)])).toEqual([2.5]);
    expect(run("GridSample", [x, place(1, -1)], { align_corners: 1 })).toEqual([2]);
    expect(run("GridSample", [x, place(5, 5)])).toEqual([0]);
    expect(run("GridSample", [x, place(5, 5)], { padding_mode: "border" })).toEqual([4]);
    expect(run("GridSample", [x, place(1.4, -0.5)], { padding_mode: "reflection", mode: "nearest" })).toEqual([2]);
    expect(run("AffineGrid", [f([1, 2, 3], [1, 0, 0, 0, 1, 0]), list(1, 1, 2, 2)])).toEqual([-0.5, -0.5, 0.5, -0.5, -0.5, 0.5, 0.5, 0.5]);
  });
  it("pools regions", () => {
    const region = [x, f([1, 4], [0, 0, 2, 2]), list(0)];
    expect(run("RoiAlign", region, { sampling_ratio: 1 })).toEqual([2.5]);
    expect(run("MaxRoiPool", [x, f([1, 5], [0, 0, 0, 1, 0])], { pooled_shape: [1, 2] })).toEqual([1, 2]);
    expect(() => run("RoiAlign", [x, f([1, 4], [0, 0, 1e9, 2]), list(0)])).toThrow("RoiAlign: a region from 0 to 1000000000 is too large");
  });
  it("puts windows together again", () => {
    expect(run("Col2Im", [f([1, 2, 2], [1, 2, 3, 4]), list(3), list(2)])).toEqual([1, 5, 4]);
    expect(run("MaxUnpool", [f([1, 1, 1], [7]), t("i64", [1, 1, 1], [1])], { kernel_shape: [2] })).toEqual([0, 7]);
    expect(run("CenterCropPad", [f([1, 4], [1, 2, 3, 4]), list(2, 2)])).toEqual([2, 3, 0, 0]);
  });
});

describe("transforms", () => {
  it("finds frequencies, and goes back", () => {
    const wave = f([1, 4, 1], [1, 0, -1, 0]);
    expect(rounded(run("DFT", [wave]), 5).map((v) => v + 0)).toEqual([0, 0, 2, 0, 0, 0, 2, 0]);
    const three = f([1, 3, 1], [1, 2, 3]);
    const [spectrum] = evaluateNode(node("DFT", [three]), [three]);
    expect(rounded(run("DFT", [spectrum], { inverse: 1 })).map((v) => v + 0)).toEqual([1, 0, 2, 0, 3, 0]);
    expect(rounded(run("STFT", [wave, num("i64", 2), f([2], [1, 2])])).map((v) => v + 0)).toEqual([1, 0, 1, 0, -1, 0, -1, 0]);
  });
  it("takes determinants", () => {
    expect(rounded(run("Det", [f([2, 2, 2], [0, 2, 3, 4, 1, 2, 2, 4])])).map((v) => v + 0)).toEqual([-6, 0]);
  });
});
