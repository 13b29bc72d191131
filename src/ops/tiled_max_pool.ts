// Maxima of windows that lie side by side: TiledMaxPool also says in a byte which element of its window each is, which is all that TiledMaxPoolGrad asks.
import { DTYPES } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, apply, defineOp, type Node, type Op } from "../ir/graph.ts";
import type { Layout } from "../ir/slide.ts";
import { elementCount, fromNumbers, toNumbers } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { f32, inputType, tensorOf } from "./define.ts";
import { type PoolGeometry, visitPool } from "./pool.ts";
import { SpreadWindows, type WindowAttrs } from "./pool_windows.ts";
import { joinAxes, permutedLayout, splitAxes } from "./spatial.ts";

export interface TileAttrs {
  /** Elements of a window on each axis: they cover all of them once. */
  readonly kernel_shape: readonly number[];
  readonly layout: Layout;
}

const TILE_ATTRS: Readonly<Record<keyof TileAttrs, AttrSpec>> = {
  kernel_shape: { type: "ints" },
  layout: { type: "string", default: "NCHW" },
};

/** What the pool itself is told besides. */
export interface TiledMaxPoolAttrs extends TileAttrs {
  /** 1: a maximum that is not positive has no element, as a rectifier in front of the pool passes no gradient on there. */
  readonly rectified: number;
}

/** Elements of a window whose numbers a byte holds, beside one for no element: how many there are. */
const MOST_TAPS = 255;

/** Whether the windows of a pool over `size` elements are those that these operators know. */
export function areTiles({ kernel_shape: kernel, strides, dilations, pads }: WindowAttrs, size: readonly number[]): boolean {
  const isTiled = kernel.every((k, i) => strides[i] === k && size[i] % k === 0 && pads[i] === 0 && (dilations[i] === 1 || k === 1));
  return isTiled && elementCount(kernel) <= MOST_TAPS;
}

/** The same windows with everything written out. */
const windowsOf = ({ kernel_shape, layout }: TileAttrs): WindowAttrs => {
  const each = (n: number) => kernel_shape.map(() => n);
  return { kernel_shape, strides: kernel_shape, dilations: each(1), pads: each(0), layout };
};

/** The same pool as others see it. */
function poolOf(shape: readonly number[], attrs: TileAttrs): PoolGeometry {
  const { kernel_shape, strides, dilations, pads, layout } = windowsOf(attrs);
  const { spatial, batch, channels } = splitAxes("TiledMaxPool", shape, layout);
  const output = spatial.map((d, i) => d / kernel_shape[i]);
  return { batch, channels, layout, input: spatial, output, kernel: kernel_shape, strides, dilations, padsBegin: pads, padsEnd: pads };
}

/** The shape with each spatial axis changed. */
function resized(
  op: string,
  shape: readonly number[],
  { kernel_shape, layout }: TileAttrs,
  to: (size: number, k: number) => number,
): number[] {
  const axes = splitAxes(op, shape, layout);
  const isWindow = kernel_shape.length === axes.spatial.length && kernel_shape.every((k) => Number.isInteger(k) && k > 0);
  if (!isWindow || elementCount(kernel_shape) > MOST_TAPS)
    throw new HeddleError("bad-model", `${op}: kernel_shape (${kernel_shape}) over ${axes.spatial.length} axes, wanted a number for each`);
  return joinAxes({ ...axes, spatial: axes.spatial.map((d, i) => to(d, kernel_shape[i])) }, layout);
}

/** Moves all inputs into the other layout. */
const permuteTiles =
  <A extends TileAttrs>(op: () => Op): Op<A>["permute"] =>
  ({ order, permuted }, node) => {
    const layout = permutedLayout(order, node.attrs.layout);
    return layout && apply(op(), node.inputs.map((_, i) => permuted(i)), { ...(node.attrs as object), layout }, node.from); // biome-ignore format: short
  };

/** Outputs: the maxima, and the number of the first element of each window that is its maximum. */
export const TiledMaxPool: Op = defineOp<TiledMaxPoolAttrs>({
  name: "TiledMaxPool",
  kind: "opaque",
  own: true,
  attrs: { ...TILE_ATTRS, rectified: { type: "int", default: 0 } },
  infer(inputs, attrs) {
    const { dtype, shape } = inputType("TiledMaxPool", inputs, 0, ["f32"]);
    const pooled = resized("TiledMaxPool", shape, attrs, (d, k) => d / k);
    if (!pooled.every(Number.isInteger))
      throw new HeddleError("bad-model", `TiledMaxPool: windows (${attrs.kernel_shape}) do not cover (${shape})`);
    return [
      { dtype, shape: pooled },
      { dtype: "u8", shape: pooled },
    ];
  },
  evaluate([x], { attrs, outputs }) {
    const { shape } = outputs[0].type;
    const values = toNumbers(x!); // checked by infer
    const y = new Float64Array(elementCount(shape));
    const places = new Float64Array(y.length);
    visitPool(poolOf(x!.shape, attrs), (to, base, step, { count, input, kernel }) => {
      let best = 0;
      for (let t = 1; t < count; t++) if (values[base + input[t] * step] > values[base + input[best] * step]) best = t;
      y[to] = values[base + input[best] * step];
      places[to] = attrs.rectified && !(y[to] > 0) ? elementCount(attrs.kernel_shape) : kernel[best];
    });
    return [fromNumbers("f32", shape, y), fromNumbers("u8", shape, places)];
  },
  permute: permuteTiles(() => TiledMaxPool),
  prefersChannelsLast: true,
  flops: (node) => elementCount(node.inputs[0]!.type.shape), // it has one, by infer
  samples: [
    { inputs: [f32(1, 3, 6, 8)], attrs: { kernel_shape: [2, 2] } },
    { inputs: [f32(2, 6, 4, 17)], attrs: { kernel_shape: [3, 1], layout: "NHWC", rectified: 1 } },
    { inputs: [tensorOf("f32", [1, 3, 3, 2, 2, 2, 0, 5], [1, 1, 2, 4])], attrs: { kernel_shape: [2, 2] } },
    { inputs: [tensorOf("f32", [1, 3, 3, 2, 2, 2], [1, 2, 3])], attrs: { kernel_shape: [3] } },
  ],
});

/** Inputs: gradients of the maxima, and which elements these were. */
export const TiledMaxPoolGrad: Op = defineOp<TileAttrs>({
  name: "TiledMaxPoolGrad",
  kind: "opaque",
  own: true,
  attrs: TILE_ATTRS,
  infer(inputs, attrs) {
    const { dtype, shape } = inputType("TiledMaxPoolGrad", inputs, 0, ["f32"]);
    const places = inputType("TiledMaxPoolGrad", inputs, 1, ["u8"]).shape;
    if (places.join() !== shape.join()) throw new HeddleError("bad-model", `TiledMaxPoolGrad: places (${places}) for gradients (${shape})`);
    return [{ dtype, shape: resized("TiledMaxPoolGrad", shape, attrs, (d, k) => d * k) }];
  },
  expand([dy, places], attrs, node) {
    const build = builder(node.from);
    const { spatial } = splitAxes("TiledMaxPoolGrad", node.outputs[0].type.shape, attrs.layout);
    const numbers = build.op("Cast", [places], { to: DTYPES.i32.onnx });
    return [build.op(SpreadWindows, [dy, numbers], { ...windowsOf(attrs), size: spatial })];
  },
  permute: permuteTiles(() => TiledMaxPoolGrad),
  prefersChannelsLast: true,
  flops: (node) => elementCount(node.outputs[0].type.shape),
  samples: [
    { inputs: [f32(1, 2, 2, 3), tensorOf("u8", [0, 1, 2, 3, 2, 1, 3, 3, 0, 1, 0, 2], [1, 2, 2, 3])], attrs: { kernel_shape: [2, 2] } },
    {
      inputs: [f32(2, 1, 2, 5), tensorOf("u8", [...Array(20).keys()].map((i) => (i * 5) % 6), [2, 1, 2, 5])], // biome-ignore format: short
      attrs: { kernel_shape: [2, 3], layout: "NHWC" },
    },
    { inputs: [f32(1, 1, 4), tensorOf("u8", [2, 0, 1, 2], [1, 1, 4])], attrs: { kernel_shape: [3] } },
  ],
});

/** Whether kernels with two spatial axes do it. */
export const hasTwoAxes = (node: Node): boolean => (node.attrs as unknown as TileAttrs).kernel_shape.length === 2;

export const tiledMaxPoolOps: readonly Op[] = [TiledMaxPool, TiledMaxPoolGrad];
