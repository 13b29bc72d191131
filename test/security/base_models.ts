// Small whole models of the kinds that real files hold, as bytes: what mutations start from.
import { exportOnnx } from "../../src/formats/onnx/export.ts";
import { type Attrs, apply, type Op, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, Input, input } from "../../src/ops/source.ts";
import { floats, info, ints, model, node } from "../formats/onnx_model.ts";

const op = (name: string, inputs: readonly (Value | null)[], attrs: Attrs = {}): Value =>
  apply(OPS.get(name)!, inputs, attrs, name.toLowerCase())[0]; // operators of the table

/** Numbers of which no two neighbours are equal, in [-0.5, 0.5]. */
const weights = (...shape: number[]): Value =>
  constantValue(
    fromNumbers(
      "f32",
      shape,
      Array.from({ length: elementCount(shape) }, (_, i) => ((i * 7) % 11) / 10 - 0.5),
    ),
  );
const list = (...numbers: number[]): Value => constantValue(fromNumbers("i64", [numbers.length], numbers));
const x32 = (...shape: number[]): Value => input("x", { dtype: "f32", shape });

function exported(inputs: readonly Value[], ...outputs: Value[]): Uint8Array {
  return exportOnnx({ inputs, outputs: outputs.map((value, i) => ({ name: `y${i}`, value })) });
}

/** Convolutions of every form, pooling, resizing, a classifier's end. */
function convolutions(): Uint8Array {
  const x = x32(1, 3, 16, 16);
  const stem = op("Conv", [x, weights(16, 3, 3, 3), weights(16)], { pads: [1, 1, 1, 1], strides: [2, 2], kernel_shape: [3, 3] });
  const depthwise = op("Conv", [op("HardSwish", [stem]), weights(16, 1, 3, 3)], { group: 16, pads: [1, 1, 1, 1] });
  const pointwise = op("Relu", [op("Conv", [depthwise, weights(24, 16, 1, 1), weights(24)])]);
  const wide = op("Conv", [pointwise, weights(24, 24, 3, 3)], { pads: [2, 2, 2, 2], dilations: [2, 2] });
  const pool = op("MaxPool", [op("Add", [wide, pointwise])], { kernel_shape: [2, 2], strides: [2, 2] });
  const up = op("Resize", [pool, null, null, list(1, 24, 8, 8)], { mode: "linear" });
  const deconv = op("ConvTranspose", [op("AveragePool", [up], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }), weights(24, 4, 2, 2)], {
    strides: [2, 2],
  });
  const mean = op("Flatten", [op("GlobalAveragePool", [up])], { axis: 1 });
  return exported([x], op("Softmax", [op("Gemm", [mean, weights(24, 5), weights(5)])]), deconv);
}

/** Attention, layer normalisation, Gelu. */
function transformer(): Uint8Array {
  const x = x32(1, 6, 16);
  const norm = (v: Value) => op("LayerNormalization", [v, weights(16), weights(16)], { axis: -1 });
  const heads = (v: Value, perm: readonly number[]) =>
    op("Transpose", [op("Reshape", [op("MatMul", [v, weights(16, 16)]), list(0, -1, 2, 8)])], { perm });
  const h = norm(x);
  const scores = op("Div", [op("MatMul", [heads(h, [0, 2, 1, 3]), heads(h, [0, 2, 3, 1])]), constantValue(fromNumbers("f32", [], [2.8]))]);
  const mixed = op("MatMul", [op("Softmax", [scores], { axis: -1 }), heads(h, [0, 2, 1, 3])]);
  const joined = op("Reshape", [op("Transpose", [mixed], { perm: [0, 2, 1, 3] }), list(0, 0, 16)]);
  const y = op("Add", [x, op("MatMul", [joined, weights(16, 16)])]);
  const up = op("Gelu", [op("Add", [op("MatMul", [norm(y), weights(16, 32)]), weights(32)])]);
  return exported([x], op("Add", [y, op("MatMul", [up, weights(32, 16)])]));
}

function recurrent(): Uint8Array {
  const x = x32(5, 1, 4);
  const lstm = op("LSTM", [x, weights(2, 24, 4), weights(2, 24, 6), weights(2, 48)], { hidden_size: 6, direction: "bidirectional" });
  const rows = op("Reshape", [op("Transpose", [lstm], { perm: [0, 2, 1, 3] }), list(0, 0, -1)]);
  const gru = op("GRU", [rows, weights(1, 9, 12), weights(1, 9, 3)], { hidden_size: 3 });
  return exported([x], op("ReduceMean", [gru, list(0)], { keepdims: 0 }), op("CumSum", [gru, constantValue(fromNumbers("i64", [], [0]))]));
}

/** Operators whose indices come from data or from constants that a file may set to anything. */
function indexed(): Uint8Array {
  const x = x32(4, 6);
  const at = input("at", { dtype: "i64", shape: [3] });
  const rows = op("Gather", [x, at], { axis: 0 });
  const picked = op("GatherElements", [rows, constantValue(fromNumbers("i64", [3, 2], [0, 1, 2, 3, 4, 5]))], { axis: 1 });
  const spread = op("ScatterElements", [x, constantValue(fromNumbers("i64", [1, 2], [1, 3])), weights(1, 2)], { axis: 1 });
  const placed = op("ScatterND", [spread, constantValue(fromNumbers("i64", [2, 1], [0, 2])), weights(2, 6)]);
  const [top, which] = apply(OPS.get("TopK")!, [placed, list(3)], { axis: 1 }, "topk");
  const nd = op("GatherND", [placed, constantValue(fromNumbers("i64", [2, 2], [0, 1, 3, 5]))]);
  const best = op("ArgMax", [placed], { axis: 1 });
  return exported([x, at], picked, top, which, nd, op("OneHot", [best, list(6), constantValue(fromNumbers("f32", [2], [0, 1]))]));
}

/** Operators that move, cut, repeat and make elements. */
function shapes(): Uint8Array {
  const x = x32(2, 3, 4);
  const padded = op("Pad", [x, list(0, 1, 2, 0, 1, 2)], { mode: "reflect" });
  const cut = op("Slice", [padded, list(0, 1), list(5, 7), list(1, 2), list(2, 1)]);
  const tiled = op("Tile", [cut, list(1, 2, 1)]);
  const wide = op("Expand", [op("Unsqueeze", [tiled, list(1)]), list(2, 3, 1, 1)]);
  const ones = op("ConstantOfShape", [list(2, 3, 6, 6)], {});
  const joined = op("Concat", [wide, op("Add", [wide, op("Cast", [ones], { to: 1 })])], { axis: 1 });
  const [first, second] = apply(OPS.get("Split")!, [joined, list(2, 4)], { axis: 1 }, "split");
  const moved = op("DepthToSpace", [second], { blocksize: 2 });
  const range = op(
    "Range",
    [0, 12, 1].map((n) => constantValue(fromNumbers("f32", [], [n]))),
  );
  const sums = op("ReduceSum", [first, list(-1, 1)], { keepdims: 0 });
  return exported([x], sums, op("Mul", [moved, range]), op("Einsum", [x, x], { equation: "bij,bkj->bik" }), op("Trilu", [first]));
}

/** Images: sampling at computed places, unusual resizing, and normalisation. */
function images(): Uint8Array {
  const x = x32(1, 4, 6, 6);
  const theta = constantValue(fromNumbers("f32", [1, 2, 3], [1, 0.1, 0, 0, 0.9, 0.2]));
  const sampled = op("GridSample", [x, op("AffineGrid", [theta, list(1, 4, 5, 5)])], { mode: "linear", padding_mode: "border" });
  const cubic = op("Resize", [sampled, null, constantValue(fromNumbers("f32", [4], [1, 1, 1.6, 0.7]))], { mode: "cubic" });
  const boxes = constantValue(fromNumbers("f32", [2, 4], [0, 0, 4, 4, 1, 1, 3, 5]));
  const roi = op("RoiAlign", [x, boxes, list(0, 0)], { output_height: 2, output_width: 2, sampling_ratio: 2 });
  const normal = op("InstanceNormalization", [x, weights(4), weights(4)], { epsilon: 1e-5 });
  const lrn = op("LRN", [op("GroupNormalization", [normal, weights(4), weights(4)], { num_groups: 2, epsilon: 1e-5 })], { size: 3 });
  const q = op("QuantizeLinear", [lrn, constantValue(fromNumbers("f32", [], [0.1])), constantValue(fromNumbers("u8", [], [128]))]);
  const back = op("DequantizeLinear", [q, constantValue(fromNumbers("f32", [], [0.1])), constantValue(fromNumbers("u8", [], [128]))]);
  return exported([x], cubic, roi, back);
}

/** What exportOnnx does not write: branches, loops, functions, typed data, symbolic sizes, data outside the file. */
function oddities(): Uint8Array {
  const branch = (name: string, by: string) => ({ node: [node(by, ["x", "bias"], [name])], output: [info(name, [])] });
  const body = {
    node: [node("Add", ["state", "bias"], ["next"]), node("Identity", ["on"], ["goes"])],
    input: [info("i", [], 7), info("on", [], 9), info("state", [])],
    output: [info("goes", [], 9), info("next", [])],
  };
  const twice = {
    name: "Twice", domain: "own", input: ["a"], output: ["b"], attribute: ["axis"], opsetImport: [{ domain: "", version: 17n }],
    node: [node("Concat", ["a", "a"], ["b"], { axis: "axis" })],
  }; // biome-ignore format: a table
  const graph = {
    node: [
      node("Shape", ["x"], ["shape"]),
      node("Concat", ["more", "shape"], ["longer"], { axis: 0 }),
      node("Expand", ["x", "longer"], ["wide"]),
      { ...node("Twice", ["wide"], ["w2"], { axis: 0 }), domain: "own" },
      node("If", ["yes"], ["chosen"], { then_branch: branch("t", "Add"), else_branch: branch("e", "Sub") }),
      node("Loop", ["three", "yes", "chosen"], ["looped"], { body }),
      node("NonZero", ["bias"], ["places"]),
      node("Mul", ["w2", "looped"], ["y"]),
      node("Add", ["y", "outside"], ["z"]),
    ],
    initializer: [
      ints("more", [2, 2]), floats("bias", [2], [1, 2]), { ...ints("three", [3]), dims: [] },
      { name: "yes", dataType: 9, dims: [], int32Data: [1] },
      { name: "outside", dataType: 1, dims: [2n], floatData: [0.5, 0.25] },
    ], // biome-ignore format: a table
    input: [info("x", ["N", 2])],
    output: [info("y", []), info("z", []), info("places", [], 7)],
  };
  return model(graph, { functions: [twice], opsetImport: [{ domain: "", version: 17n }, { domain: "own", version: 1n }] }); // biome-ignore format: one idea
}

export const NETWORKS: Readonly<Record<string, () => Uint8Array>> = {
  convolutions,
  transformer,
  recurrent,
  indexed,
  shapes,
  images,
  oddities,
};

/** One file a sample of the operator; none where files cannot hold it. */
export function samplesOf(operator: Op): Uint8Array[] {
  if (operator.own) return [];
  return (operator.samples ?? []).map((sample) => {
    const values = sample.inputs.map((s, i) => s && ("data" in s ? constantValue(s) : input(`x${i}`, s)));
    const outputs = apply(operator, values, sample.attrs ?? {}, operator.name.toLowerCase());
    return exported(
      values.filter((v) => v !== null).filter((v) => v.node.op === Input),
      ...outputs,
    );
  });
}

/** By name: a network, or `operator Conv 2`. */
export function baseModel(name: string): Uint8Array {
  const [, operator, sample] = /^operator (\w+) (\d+)$/.exec(name) ?? [];
  if (operator) return samplesOf(OPS.get(operator)!)[Number(sample)]; // names come from samplesOf
  return NETWORKS[name]();
}
