// Pools: the largest, the average or the p-norm of what a sliding window covers, and of whole channels.
import type { DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Node, type Op, type Value } from "../ir/graph.ts";
import { dataSteps, type Layout, type Slide } from "../ir/slide.ts";
import { elementCount, fromNumbers, stridesOf, type TensorData, toNumbers } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { emittable, FLOATS, f32, inputType, NUMBERS, u8 } from "./define.ts";
import { averagePoolGradient, lpPoolGradient, maxPoolGradient } from "./pool_gradient.ts";
import {
  coveredCounts,
  joinAxes,
  perAxis,
  permuteLayout,
  SLIDE_ATTRS,
  type SlideAttrs,
  slide,
  slideAttrs,
  splitAxes,
  type Taps,
  visitWindows,
} from "./spatial.ts";

export interface PoolAttrs extends SlideAttrs {
  readonly ceil_mode: number;
}

/** All sizes of a pool, with auto_pad, ceil_mode and defaults resolved. */
export interface PoolGeometry extends Slide {
  readonly layout: Layout;
  readonly batch: number;
  readonly channels: number;
}

const POOL_ATTRS = { ...SLIDE_ATTRS, ceil_mode: { type: "int", default: 0 } } as const;

function geometryOf(op: string, inputs: readonly (Value | null)[], attrs: PoolAttrs): PoolGeometry {
  const { batch, channels, spatial } = splitAxes(op, inputType(op, inputs, 0).shape, attrs.layout);
  if (!attrs.kernel_shape) throw new HeddleError("bad-model", `${op}: attribute kernel_shape is missing`);
  const kernel = perAxis(op, "kernel_shape", attrs.kernel_shape, spatial.length, 1);
  const window = slide(op, spatial, kernel, attrs, attrs.ceil_mode !== 0);
  const reach = kernel.map((k, i) => (k - 1) * window.dilations[i] + 1);
  if (reach.some((r, i) => window.padsBegin[i] >= r || window.padsEnd[i] >= r))
    throw new HeddleError("bad-model", `${op}: pads (${window.padsBegin}), (${window.padsEnd}) must be smaller than the window (${reach})`);
  return { ...window, layout: attrs.layout, batch, channels };
}

/** Geometry of a node of MaxPool, AveragePool or LpPool. */
export const poolGeometry = (node: Node): PoolGeometry => geometryOf(node.op.name, node.inputs, node.attrs as unknown as PoolAttrs);

const outputShape = (g: PoolGeometry): number[] => joinAxes({ batch: g.batch, channels: g.channels, spatial: g.output }, g.layout);

/** Calls `one` for every output element: its number, the first element of its channel, the elements' distance there, and the channel's number. */
export function visitPool(
  g: PoolGeometry,
  one: (to: number, base: number, step: number, taps: Taps, position: number, channel: number) => void,
): void {
  const from = dataSteps({ batch: g.batch, channels: g.channels, spatial: g.input }, g.layout);
  const to = dataSteps({ batch: g.batch, channels: g.channels, spatial: g.output }, g.layout);
  visitWindows(g, (position, taps) => {
    for (let n = 0; n < g.batch; n++)
      for (let c = 0; c < g.channels; c++)
        one(
          n * to.batch + c * to.channel + position * to.position,
          n * from.batch + c * from.channel,
          from.position,
          taps,
          position,
          n * g.channels + c,
        );
  });
}

const poolFlops = (g: PoolGeometry): number => elementCount(outputShape(g)) * elementCount(g.kernel);

interface MaxPoolAttrs extends PoolAttrs {
  readonly storage_order: number;
  /** Heddle's own: 1 asks for the second output, where in the input each maximum is. */
  readonly with_indices: number;
}

/** A row-major place in the spatial axes as a column-major one. */
function columnMajor(place: number, spatial: readonly number[]): number {
  const steps = stridesOf(spatial);
  let step = 1;
  return spatial.reduce((sum, d, axis) => {
    const at = Math.floor(place / steps[axis]) % d;
    const result = sum + at * step;
    step *= d;
    return result;
  }, 0);
}

function maxPool(x: TensorData, g: PoolGeometry, { storage_order, with_indices }: MaxPoolAttrs): TensorData[] {
  const values = toNumbers(x);
  const shape = outputShape(g);
  const y = new Float64Array(elementCount(shape));
  const places = new Float64Array(with_indices ? y.length : 0);
  const positions = elementCount(g.input);
  visitPool(g, (to, base, step, { count, input }, _, channel) => {
    let best = count > 0 ? input[0] : 0;
    for (let t = 1; t < count; t++) {
      const v = values[base + input[t] * step];
      if (v > values[base + best * step] || Number.isNaN(v)) best = input[t];
    }
    y[to] = count > 0 ? values[base + best * step] : Number.NEGATIVE_INFINITY;
    // Places count in ONNX's layout, whatever layout the data has.
    if (with_indices) places[to] = channel * positions + (storage_order ? columnMajor(best, g.input) : best);
  });
  const out = fromNumbers(x.dtype, shape, y);
  return with_indices ? [out, fromNumbers("i64", shape, places)] : [out];
}

export const MaxPool: Op = defineOp<MaxPoolAttrs>({
  name: "MaxPool",
  kind: "opaque",
  attrs: { ...POOL_ATTRS, storage_order: { type: "int", default: 0 }, with_indices: { type: "int", default: 0, own: true } },
  infer(inputs, attrs) {
    const { dtype } = inputType("MaxPool", inputs, 0, NUMBERS);
    const shape = outputShape(geometryOf("MaxPool", inputs, attrs));
    return [{ dtype, shape }, ...(attrs.with_indices ? [{ dtype: "i64" as DType, shape }] : [])];
  },
  evaluate: ([x], node) => maxPool(x!, geometryOf("MaxPool", node.inputs, node.attrs), node.attrs), // checked by infer
  importOnnx: ({ emit, inputs, attrs, outputCount }) =>
    emit(emittable(MaxPool), inputs, { ...slideAttrs("MaxPool", attrs), with_indices: outputCount > 1 ? 1 : 0 }),
  vjp: (context, node) => maxPoolGradient(context, node, geometryOf("MaxPool", node.inputs, node.attrs)),
  permute: permuteLayout<MaxPoolAttrs>(() => MaxPool),
  prefersChannelsLast: true,
  flops: (node) => poolFlops(geometryOf("MaxPool", node.inputs, node.attrs)),
  samples: [
    { inputs: [f32(1, 3, 6, 7)], attrs: { kernel_shape: [2, 2], strides: [2, 2] } },
    { inputs: [f32(2, 2, 7, 5)], attrs: { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 1], with_indices: 1 } },
    { inputs: [f32(1, 6, 7, 5)], attrs: { layout: "NHWC", kernel_shape: [3, 2], strides: [2, 2], pads: [1, 0, 1, 1] } },
    { inputs: [f32(1, 1, 6, 6)], attrs: { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1 } },
    { inputs: [f32(1, 2, 11)], attrs: { kernel_shape: [3], dilations: [2], auto_pad: "SAME_UPPER" } },
    { inputs: [u8(1, 1, 5, 5)], attrs: { kernel_shape: [5, 5], pads: [2, 2, 2, 2] } },
  ],
});

interface AveragePoolAttrs extends PoolAttrs {
  readonly count_include_pad: number;
}

export const AveragePool: Op = defineOp<AveragePoolAttrs>({
  name: "AveragePool",
  kind: "opaque",
  attrs: { ...POOL_ATTRS, count_include_pad: { type: "int", default: 0 } },
  infer(inputs, attrs) {
    const { dtype } = inputType("AveragePool", inputs, 0, FLOATS);
    return [{ dtype, shape: outputShape(geometryOf("AveragePool", inputs, attrs)) }];
  },
  evaluate([x], node) {
    const g = geometryOf("AveragePool", node.inputs, node.attrs);
    const values = toNumbers(x!); // checked by infer
    const y = new Float64Array(elementCount(outputShape(g)));
    const counts = node.attrs.count_include_pad ? coveredCounts(g) : null;
    visitPool(g, (to, base, step, { count, input }, position) => {
      let sum = 0;
      for (let t = 0; t < count; t++) sum += values[base + input[t] * step];
      y[to] = sum / (counts ? counts[position] : count);
    });
    return [fromNumbers(x!.dtype, outputShape(g), y)];
  },
  importOnnx: ({ emit, inputs, attrs }) => emit(emittable(AveragePool), inputs, slideAttrs("AveragePool", attrs)),
  vjp: (context, node) =>
    averagePoolGradient(context, geometryOf("AveragePool", node.inputs, node.attrs), node.attrs.count_include_pad !== 0),
  permute: permuteLayout<AveragePoolAttrs>(() => AveragePool),
  prefersChannelsLast: true,
  flops: (node) => poolFlops(geometryOf("AveragePool", node.inputs, node.attrs)),
  samples: [
    { inputs: [f32(1, 3, 6, 7)], attrs: { kernel_shape: [2, 2], strides: [2, 2] } },
    { inputs: [f32(2, 2, 7, 5)], attrs: { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 1] } },
    {
      inputs: [f32(1, 6, 7, 5)],
      attrs: { layout: "NHWC", kernel_shape: [3, 2], strides: [2, 2], pads: [1, 0, 1, 1], count_include_pad: 1 },
    },
    { inputs: [f32(1, 1, 6, 6)], attrs: { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1, count_include_pad: 1 } },
    { inputs: [f32(1, 2, 11)], attrs: { kernel_shape: [4], auto_pad: "SAME_LOWER" } },
  ],
});

interface LpPoolAttrs extends PoolAttrs {
  readonly p: number;
}

const LpPool: Op = defineOp<LpPoolAttrs>({
  name: "LpPool",
  kind: "opaque",
  attrs: { ...POOL_ATTRS, p: { type: "int", default: 2 } },
  infer(inputs, attrs) {
    const { dtype } = inputType("LpPool", inputs, 0, FLOATS);
    return [{ dtype, shape: outputShape(geometryOf("LpPool", inputs, attrs)) }];
  },
  evaluate([x], node) {
    const g = geometryOf("LpPool", node.inputs, node.attrs);
    const { p } = node.attrs;
    const values = toNumbers(x!); // checked by infer
    const y = new Float64Array(elementCount(outputShape(g)));
    visitPool(g, (to, base, step, { count, input }) => {
      let sum = 0;
      for (let t = 0; t < count; t++) sum += Math.abs(values[base + input[t] * step]) ** p;
      y[to] = sum ** (1 / p);
    });
    return [fromNumbers(x!.dtype, outputShape(g), y)];
  },
  importOnnx: ({ emit, inputs, attrs }) => emit(emittable(LpPool), inputs, slideAttrs("LpPool", attrs)),
  vjp: (context, node) => lpPoolGradient(context, node, geometryOf("LpPool", node.inputs, node.attrs), node.attrs.p),
  permute: permuteLayout<LpPoolAttrs>(() => LpPool),
  flops: (node) => 2 * poolFlops(geometryOf("LpPool", node.inputs, node.attrs)),
  samples: [
    { inputs: [f32(1, 2, 5, 7)], attrs: { kernel_shape: [2, 3], strides: [2, 2] } },
    { inputs: [f32(1, 5, 7, 2)], attrs: { kernel_shape: [3, 3], pads: [1, 1, 1, 1], p: 3, layout: "NHWC" } },
  ],
});

/** Numbers of the spatial axes of (N, C, spatial…). */
function spatialAxes(op: string, x: Value): number[] {
  const rank = x.type.shape.length;
  if (rank < 2) throw new HeddleError("bad-model", `${op}: input 0 is (${x.type.shape}), wanted batch and channels first`);
  return Array.from({ length: rank - 2 }, (_, i) => i + 2);
}

/** A pool over all spatial axes at once. */
function globalPool<A extends object>(
  name: string,
  attrs: Op["attrs"],
  over: (x: Value, axes: Value, attrs: A, from: string) => Value,
): Op {
  return defineOp<A>({
    name,
    kind: "opaque",
    attrs,
    infer(inputs) {
      const { dtype, shape } = inputType(name, inputs, 0, FLOATS);
      const axes = spatialAxes(name, inputs[0]!); // inputType has checked that it is there
      return [{ dtype, shape: shape.map((d, i) => (axes.includes(i) ? 1 : d)) }];
    },
    expand([x], given, node) {
      const axes = spatialAxes(name, x!);
      return [axes.length === 0 ? x! : over(x!, builder(node.from).ints(...axes), given, node.from)];
    },
    flops: (node) => elementCount(node.inputs[0]!.type.shape),
    samples: [{ inputs: [f32(2, 3, 4, 5)] }, { inputs: [f32(1, 3, 7)] }],
  });
}

function pNorm(x: Value, axes: Value, p: number, from: string): Value {
  const build = builder(from);
  if (p === 1 || p === 2) return build.op(p === 1 ? "ReduceL1" : "ReduceL2", [x, axes]);
  const scalar = (v: number) => build.constant(x.type.dtype, v);
  const sum = build.op("ReduceSum", [build.op("Pow", [build.op("Abs", [x]), scalar(p)]), axes]);
  return build.op("Pow", [sum, scalar(1 / p)]);
}

export const poolOps: readonly Op[] = [
  MaxPool,
  AveragePool,
  LpPool,
  globalPool<object>("GlobalAveragePool", {}, (x, axes, _, from) => builder(from).op("ReduceMean", [x, axes])),
  globalPool<object>("GlobalMaxPool", {}, (x, axes, _, from) => builder(from).op("ReduceMax", [x, axes])),
  globalPool<{ p: number }>("GlobalLpPool", { p: { type: "int", default: 2 } }, (x, axes, { p }, from) => pNorm(x, axes, p, from)),
];
