// Normalizations: subtracts a mean and divides by a deviation (or a norm), over a batch, a layer, an instance, a group or a neighbourhood.
import { HeddleError } from "../ir/error.ts";
import { call, constant, type Expr, reduce, select, within } from "../ir/expr.ts";
import { type Builder, defineOp, type Op, type Value } from "../ir/graph.ts";
import { addIndex, clampIndex, type Index, newVar, varIndex } from "../ir/index_expr.ts";
import { elementCount, fromNumbers, type Shape, type TensorData, toNumbers } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { emittable, FLOATS, f32, inputType, normalizeAxes, normalizeAxis, the, without } from "./define.ts";
import { LayerNormGrad } from "./layer_norm_grad.ts";
import { batchNormGradient, layerNormGradient, neighbourhoodGradient } from "./norm_gradient.ts";
import { constantOf } from "./source.ts";

/** One number a channel, as a shape that broadcasts against (N, C, spatial…). */
const channelShape = (count: number, rank: number): number[] => [count, ...new Array<number>(Math.max(0, rank - 2)).fill(1)];

function checkPerChannel(op: string, inputs: readonly (Value | null)[], i: number, channels: number): void {
  const { shape } = inputType(op, inputs, i, FLOATS);
  if (shape.length !== 1 || shape[0] !== channels)
    throw new HeddleError("bad-model", `${op}: input ${i} is (${shape}), wanted (${channels}), one number a channel`);
}

/** (x − mean) / √(variance + epsilon) over the axes, which stay with size 1. */
function standardized(build: Builder, x: Value, axes: Value, epsilon: number): Value {
  const centered = build.op("Sub", [x, build.op("ReduceMean", [x, axes])]);
  const variance = build.op("ReduceMean", [build.op("Mul", [centered, centered]), axes]);
  const deviation = build.op("Sqrt", [build.op("Add", [variance, build.constant(x.type.dtype, epsilon)])]);
  return build.op("Div", [centered, deviation]);
}

interface BatchNormAttrs {
  readonly epsilon: number;
  readonly momentum: number;
  readonly training_mode: number;
}

/** Factor and summand of each channel: scale / √(variance + epsilon), and bias − mean · that; constants when all four are. */
function affine(build: Builder, parts: readonly Value[], epsilon: number, shape: Shape): { factor: Value; summand: Value } {
  const { dtype } = parts[0].type;
  const known = parts.map((v) => constantOf(v));
  if (known.every((t) => t !== undefined)) {
    const [scale, bias, mean, variance] = known.map((t) => toNumbers(t));
    const factor = scale.map((s, i) => s / Math.sqrt(variance[i] + epsilon));
    const summand = bias.map((b, i) => b - mean[i] * factor[i]);
    return { factor: build.tensor(fromNumbers(dtype, shape, factor)), summand: build.tensor(fromNumbers(dtype, shape, summand)) };
  }
  const [scale, bias, mean, variance] = parts.map((v) => build.reshape(v, shape));
  const factor = build.op("Div", [scale, build.op("Sqrt", [build.op("Add", [variance, build.constant(dtype, epsilon)])])]);
  return { factor, summand: build.op("Sub", [bias, build.op("Mul", [mean, factor])]) };
}

/** With the statistics of the batch itself, which also move the running ones. */
function trainingStep(build: Builder, inputs: readonly Value[], { epsilon, momentum }: BatchNormAttrs): Value[] {
  const [x, scale, bias, oldMean, oldVariance] = inputs;
  const { dtype, shape } = x.type;
  const axes = build.ints(...shape.map((_, i) => i).filter((i) => i !== 1));
  const mean = build.op("ReduceMean", [x, axes]);
  const centered = build.op("Sub", [x, mean]);
  const variance = build.op("ReduceMean", [build.op("Mul", [centered, centered]), axes]);
  const perChannel = [shape[1]];
  const blend = (old: Value, now: Value) =>
    build.op("Add", [
      build.op("Mul", [old, build.constant(dtype, momentum)]),
      build.op("Mul", [build.reshape(now, perChannel), build.constant(dtype, 1 - momentum)]),
    ]);
  const statistics = [mean, variance].map((v) => build.reshape(v, perChannel));
  const { factor, summand } = affine(build, [scale, bias, ...statistics], epsilon, channelShape(shape[1], shape.length));
  const y = build.op("Add", [build.op("Mul", [x, factor]), summand]);
  return [y, blend(oldMean, mean), blend(oldVariance, variance)];
}

const BatchNormalization: Op = defineOp<BatchNormAttrs>({
  name: "BatchNormalization",
  kind: "opaque",
  attrs: {
    epsilon: { type: "float", default: 1e-5 },
    momentum: { type: "float", default: 0.9 },
    training_mode: { type: "int", default: 0 },
  },
  infer(inputs, { training_mode }) {
    const { dtype, shape } = inputType("BatchNormalization", inputs, 0, FLOATS);
    if (shape.length < 2) throw new HeddleError("bad-model", `BatchNormalization: input 0 is (${shape}), wanted batch and channels first`);
    for (const i of [1, 2, 3, 4]) checkPerChannel("BatchNormalization", inputs, i, shape[1]);
    const running = { dtype: inputs[3]!.type.dtype, shape: [shape[1]] }; // checkPerChannel has seen it
    return [{ dtype, shape }, ...(training_mode ? [running, running] : [])];
  },
  expand(inputs, attrs, node) {
    const build = builder(node.from);
    const { dtype, shape } = node.outputs[0].type;
    const parts = inputs.slice(0, 5).map((v) => build.cast(v!, dtype)); // infer has seen all five
    if (attrs.training_mode) return trainingStep(build, parts, attrs).map((v, i) => build.cast(v, node.outputs[i].type.dtype));
    const { factor, summand } = affine(build, parts.slice(1), attrs.epsilon, channelShape(shape[1], shape.length));
    return [build.op("Add", [build.op("Mul", [parts[0], factor]), summand])];
  },
  vjp: (context, node) => (node.attrs.training_mode ? batchNormGradient(context, node, node.attrs.epsilon) : undefined),
  // Up to opset 13 a second output meant training; the first forms had `is_test` and could normalize each element by itself.
  importOnnx({ emit, inputs, attrs, opset, outputCount }) {
    if (attrs.spatial === 0) throw new HeddleError("unsupported", "BatchNormalization: attribute spatial=0 (opset < 9) is not supported");
    const isTraining = opset >= 14 ? attrs.training_mode : attrs.is_test === 0 || outputCount > 1 ? 1 : 0;
    if (isTraining && opset < 14)
      throw new HeddleError("unsupported", "BatchNormalization: training before opset 14 is not supported; export the model for inference");
    return emit(emittable(BatchNormalization), inputs, without(attrs, ["spatial", "is_test", "consumed_inputs"]));
  },
  flops: (node) => 2 * elementCount(node.outputs[0].type.shape),
  samples: [
    { inputs: [f32(2, 3, 4, 5), f32(3), f32(3), f32(3), f32(3)], range: [0.5, 2] },
    { inputs: [f32(4, 3), ...["s", "b", "m", "v"].map((_, i) => fromNumbers("f32", [3], [i + 1, 2, 0.5]))] },
    { inputs: [f32(2, 3, 4), f32(3), f32(3), f32(3), f32(3)], attrs: { training_mode: 1 }, range: [0.5, 2] },
  ],
});

interface LayerNormAttrs {
  readonly axis: number;
  readonly epsilon: number;
  readonly stash_type: number;
  /** Heddle's own: 1 asks for mean and inverse deviation too. */
  readonly with_stats: number;
}

/** Sizes of a layer normalization: x seen as (rows, size). */
export function layerNormGeometry(shape: Shape, axis: number): { rows: number; size: number; axis: number } {
  const at = normalizeAxis("LayerNormalization", axis, shape.length);
  return { rows: elementCount(shape.slice(0, at)), size: elementCount(shape.slice(at)), axis: at };
}

/** Scale and bias broadcast to the normalized axes, or to the whole input. */
function checkLayerInput(op: string, inputs: readonly (Value | null)[], i: number, shape: Shape): void {
  if (!inputs[i] && i > 1) return;
  const part = inputType(op, inputs, i, FLOATS).shape;
  const skip = shape.length - part.length;
  if (skip < 0 || part.some((d, k) => d !== 1 && d !== shape[skip + k]))
    throw new HeddleError("bad-model", `${op}: input ${i} is (${part}), which does not broadcast to (${shape})`);
}

/** Elements of `t`, broadcast to a shape. */
function spreadTo(t: TensorData, shape: Shape): Float64Array {
  const values = toNumbers(t);
  if (t.shape.join() === shape.join()) return values;
  const out = new Float64Array(elementCount(shape));
  const skip = shape.length - t.shape.length;
  for (let i = 0; i < out.length; i++) {
    let rest = i;
    let at = 0;
    let step = 1;
    for (let axis = shape.length - 1; axis >= skip; axis--) {
      const d = t.shape[axis - skip];
      if (d !== 1) at += (rest % shape[axis]) * step;
      step *= d;
      rest = Math.floor(rest / shape[axis]);
    }
    out[i] = values[at];
  }
  return out;
}

export const LayerNormalization: Op = defineOp<LayerNormAttrs>({
  name: "LayerNormalization",
  kind: "opaque",
  attrs: {
    axis: { type: "int", default: -1 },
    epsilon: { type: "float", default: 1e-5 },
    stash_type: { type: "int", default: 1 },
    with_stats: { type: "int", default: 0, own: true },
  },
  infer(inputs, { axis, with_stats }) {
    const { dtype, shape } = inputType("LayerNormalization", inputs, 0, FLOATS);
    const { axis: at } = layerNormGeometry(shape, axis);
    for (const i of [1, 2]) checkLayerInput("LayerNormalization", inputs, i, shape);
    const stats = { dtype: dtype === "f64" ? dtype : ("f32" as const), shape: shape.map((d, i) => (i < at ? d : 1)) };
    return [{ dtype, shape }, ...(with_stats ? [stats, stats] : [])];
  },
  evaluate([x, scale, bias], node) {
    const { shape, dtype } = x!; // checked by infer, as the scale is
    const { rows, size } = layerNormGeometry(shape, node.attrs.axis);
    const values = toNumbers(x!);
    const factors = spreadTo(scale!, shape);
    const summands = bias ? spreadTo(bias, shape) : null;
    const [means, inverses] = [new Float64Array(rows), new Float64Array(rows)];
    const y = new Float64Array(values.length);
    for (let r = 0; r < rows; r++) {
      const row = values.subarray(r * size, (r + 1) * size);
      const mean = row.reduce((a, b) => a + b, 0) / size;
      const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / size;
      means[r] = mean;
      inverses[r] = 1 / Math.sqrt(variance + node.attrs.epsilon);
      for (let i = 0; i < size; i++) {
        const at = r * size + i;
        y[at] = (row[i] - mean) * inverses[r] * factors[at] + (summands ? summands[at] : 0);
      }
    }
    const stats = [means, inverses].map((list, i) => ({ list, output: node.outputs[i + 1] }));
    return [
      fromNumbers(dtype, shape, y),
      ...stats.flatMap(({ list, output }) => (output ? [fromNumbers(output.type.dtype, output.type.shape, list)] : [])),
    ];
  },
  vjp(context, node) {
    const { axis } = layerNormGeometry(node.outputs[0].type.shape, node.attrs.axis);
    return layerNormGradient(context, node, axis, node.attrs.epsilon, LayerNormGrad);
  },
  importOnnx: ({ emit, inputs, attrs, outputCount }) =>
    emit(emittable(LayerNormalization), inputs, { ...attrs, with_stats: outputCount > 1 ? 1 : 0 }),
  flops: (node) => 8 * elementCount(node.outputs[0].type.shape),
  samples: [
    { inputs: [f32(3, 17), f32(17), f32(17)] },
    { inputs: [f32(2, 3, 4), f32(3, 4)], attrs: { axis: 1, with_stats: 1 } },
    { inputs: [f32(2, 3, 64), f32(64), f32(1)], attrs: { epsilon: 0.1 } },
  ],
});

/** x / √(mean of x² + epsilon) · scale, over the axes from `axis` on. */
const RMSNormalization: Op = defineOp<Omit<LayerNormAttrs, "with_stats">>({
  name: "RMSNormalization",
  kind: "opaque",
  attrs: { axis: { type: "int", default: -1 }, epsilon: { type: "float", default: 1e-5 }, stash_type: { type: "int", default: 1 } },
  infer(inputs, { axis }) {
    const { dtype, shape } = inputType("RMSNormalization", inputs, 0, FLOATS);
    normalizeAxis("RMSNormalization", axis, shape.length);
    checkLayerInput("RMSNormalization", inputs, 1, shape);
    return [{ dtype, shape }];
  },
  expand([x, scale], { axis, epsilon }, node) {
    const build = builder(node.from);
    const { dtype, shape } = node.outputs[0].type;
    const wide = build.cast(x!, dtype === "f64" ? dtype : "f32"); // checked by infer
    const at = normalizeAxis("RMSNormalization", axis, shape.length);
    const axes = build.ints(...shape.map((_, i) => i).filter((i) => i >= at));
    const mean = build.op("ReduceMean", [build.op("Mul", [wide, wide]), axes]);
    const root = build.op("Sqrt", [build.op("Add", [mean, build.constant(wide.type.dtype, epsilon)])]);
    const scaled = build.op("Mul", [build.op("Div", [wide, root]), build.cast(scale!, wide.type.dtype)]);
    return [build.cast(scaled, dtype)];
  },
  samples: [{ inputs: [f32(3, 17), f32(17)] }, { inputs: [f32(2, 3, 4), f32(3, 4)], attrs: { axis: 1 } }],
});

const InstanceNormalization: Op = defineOp<{ epsilon: number }>({
  name: "InstanceNormalization",
  kind: "opaque",
  attrs: { epsilon: { type: "float", default: 1e-5 } },
  infer(inputs) {
    const { dtype, shape } = inputType("InstanceNormalization", inputs, 0, FLOATS);
    if (shape.length < 3)
      throw new HeddleError("bad-model", `InstanceNormalization: input 0 is (${shape}), wanted batch, channels and spatial axes`);
    for (const i of [1, 2]) checkPerChannel("InstanceNormalization", inputs, i, shape[1]);
    return [{ dtype, shape }];
  },
  expand([x, scale, bias], { epsilon }, node) {
    const build = builder(node.from);
    const { shape } = x!.type; // checked by infer
    const axes = build.ints(...shape.map((_, i) => i).slice(2));
    const perChannel = channelShape(shape[1], shape.length);
    const scaled = build.op("Mul", [standardized(build, x!, axes, epsilon), build.reshape(scale!, perChannel)]);
    return [build.op("Add", [scaled, build.reshape(bias!, perChannel)])];
  },
  importOnnx: ({ emit, inputs, attrs }) => emit(emittable(InstanceNormalization), inputs, without(attrs, ["consumed_inputs"])),
  flops: (node) => 8 * elementCount(node.outputs[0].type.shape),
  samples: [{ inputs: [f32(2, 3, 4, 5), f32(3), f32(3)] }, { inputs: [f32(1, 2, 7), f32(2), f32(2)], attrs: { epsilon: 0.1 } }],
});

interface GroupNormAttrs {
  readonly epsilon: number;
  readonly num_groups: number;
  readonly stash_type: number;
}

/** Scale and bias have one number a channel (opset 21), or one a group (opset 18). */
const GroupNormalization: Op = defineOp<GroupNormAttrs>({
  name: "GroupNormalization",
  kind: "opaque",
  attrs: { epsilon: { type: "float", default: 1e-5 }, num_groups: { type: "int" }, stash_type: { type: "int", default: 1 } },
  infer(inputs, { num_groups: groups }) {
    const { dtype, shape } = inputType("GroupNormalization", inputs, 0, FLOATS);
    if (shape.length < 2 || !(groups >= 1) || shape[1] % groups !== 0)
      throw new HeddleError("bad-model", `GroupNormalization: the channels of (${shape}) do not divide into ${groups} groups`);
    for (const i of [1, 2]) checkPerChannel("GroupNormalization", inputs, i, inputs[i]?.type.shape[0] === groups ? groups : shape[1]);
    return [{ dtype, shape }];
  },
  expand([x, scale, bias], { epsilon, num_groups: groups }, node) {
    const build = builder(node.from);
    const { shape } = x!.type; // checked by infer
    const [batch, channels] = shape;
    const grouped = build.reshape(x!, [batch, groups, channels / groups, elementCount(shape.slice(2))]);
    const even = standardized(build, grouped, build.ints(2, 3), epsilon);
    const spread = (v: Value) => build.reshape(v, v.type.shape[0] === channels ? [groups, channels / groups, 1] : [groups, 1, 1]);
    return [build.reshape(build.op("Add", [build.op("Mul", [even, spread(scale!)]), spread(bias!)]), shape)];
  },
  flops: (node) => 8 * elementCount(node.outputs[0].type.shape),
  samples: [
    { inputs: [f32(2, 4, 3, 5), f32(4), f32(4)], attrs: { num_groups: 2 } },
    { inputs: [f32(2, 6, 5), f32(3), f32(3)], attrs: { num_groups: 3, epsilon: 0.1 } },
  ],
});

const MeanVarianceNormalization: Op = defineOp<{ axes: readonly number[] }>({
  name: "MeanVarianceNormalization",
  kind: "opaque",
  attrs: { axes: { type: "ints", default: [0, 2, 3] } },
  infer(inputs, { axes }) {
    const { dtype, shape } = inputType("MeanVarianceNormalization", inputs, 0, FLOATS);
    normalizeAxes("MeanVarianceNormalization", axes, shape.length);
    return [{ dtype, shape }];
  },
  // ONNX adds 1e-9 to the deviation, not to the variance; the difference only shows where all elements are equal.
  expand([x], { axes }, node) {
    const build = builder(node.from);
    const over = build.ints(...axes);
    const centered = build.op("Sub", [x!, build.op("ReduceMean", [x!, over])]); // checked by infer
    const variance = build.op("ReduceMean", [build.op("Mul", [centered, centered]), over]);
    return [build.op("Div", [centered, build.op("Add", [build.op("Sqrt", [variance]), build.constant(x!.type.dtype, 1e-9)])])];
  },
  samples: [{ inputs: [f32(2, 3, 4, 5)] }, { inputs: [f32(3, 7)], attrs: { axes: [-1] } }],
});

const LpNormalization: Op = defineOp<{ axis: number; p: number }>({
  name: "LpNormalization",
  kind: "opaque",
  attrs: { axis: { type: "int", default: -1 }, p: { type: "int", default: 2 } },
  infer(inputs, { axis, p }) {
    const { dtype, shape } = inputType("LpNormalization", inputs, 0, FLOATS);
    normalizeAxis("LpNormalization", axis, shape.length);
    if (p !== 1 && p !== 2) throw new HeddleError("bad-model", `LpNormalization: p is ${p}, wanted 1 or 2`);
    return [{ dtype, shape }];
  },
  // Where the norm is 0 all elements are: they stay so.
  expand([x], { axis, p }, node) {
    const build = builder(node.from);
    const scalar = (v: number) => build.constant(x!.type.dtype, v); // checked by infer
    const norm = build.op(p === 1 ? "ReduceL1" : "ReduceL2", [x!, build.ints(axis)]);
    return [build.op("Div", [x!, build.op("Where", [build.op("Equal", [norm, scalar(0)]), scalar(1), norm])])];
  },
  samples: [{ inputs: [f32(3, 17)] }, { inputs: [f32(2, 3, 4)], attrs: { axis: 1, p: 1 } }],
});

interface LrnAttrs {
  readonly alpha: number;
  readonly beta: number;
  readonly bias: number;
  readonly size: number;
}

/** Σ x² over the channels from ⌊(size−1)/2⌋ before to ⌈(size−1)/2⌉ after. */
function neighbourhood(read: (channel: Index) => Expr, at: Index, channels: number, size: number): Expr {
  const before = Math.min(channels - 1, Math.floor((size - 1) / 2));
  const after = Math.min(channels - 1, Math.ceil((size - 1) / 2));
  const v = newVar(before + after + 1);
  const channel = addIndex(addIndex(at, varIndex(v)), -before);
  const x = read(clampIndex(channel, 0, channels - 1));
  return reduce("add", [v], select(within(channel, 0, channels), call("mul", x, x), constant(x.dtype, 0)));
}

/** Divides by what the neighbouring channels hold: x / (bias + alpha/size · Σ x²)^beta. */
const LRN: Op = defineOp<LrnAttrs>({
  name: "LRN",
  kind: "reduce",
  attrs: {
    alpha: { type: "float", default: 1e-4 },
    beta: { type: "float", default: 0.75 },
    bias: { type: "float", default: 1 },
    size: { type: "int" },
  },
  infer(inputs, { size }) {
    const { dtype, shape } = inputType("LRN", inputs, 0, FLOATS);
    if (shape.length < 2) throw new HeddleError("bad-model", `LRN: input 0 is (${shape}), wanted batch and channels first`);
    if (!(size >= 1)) throw new HeddleError("bad-model", `LRN: size is ${size}, wanted 1 or more`);
    return [{ dtype, shape }];
  },
  lower([input], node) {
    const x = the(input);
    const { type } = node.outputs[0];
    const { alpha, beta, bias, size } = node.attrs;
    const k = (v: number) => constant(type.dtype, v);
    const at = (index: readonly Index[]): Expr => {
      const sum = neighbourhood((channel) => x.at(index.with(1, channel)), index[1], type.shape[1], size);
      const base = call("add", k(bias), call("mul", k(alpha / size), sum));
      return call("div", x.at(index), call("pow", base, k(beta)));
    };
    return [{ type, at }];
  },
  vjp: neighbourhoodGradient,
  flops: (node) => 2 * node.attrs.size * elementCount(node.outputs[0].type.shape),
  samples: [
    { inputs: [f32(2, 7, 3, 4)], attrs: { size: 3 } },
    { inputs: [f32(1, 3, 5)], attrs: { size: 4, alpha: 0.1, beta: 0.5, bias: 2 } },
  ],
});

export const normOps: readonly Op[] = [
  BatchNormalization,
  LayerNormalization,
  RMSNormalization,
  InstanceNormalization,
  GroupNormalization,
  MeanVarianceNormalization,
  LpNormalization,
  LRN,
];
