// LayerNormGrad: what layer normalization read, its scale and the gradient of its result → their gradients, in one operator, since all need the same sums of each row.
import { DTYPES } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, defineOp, type Node, type Op, type Value } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { FLOATS, f32, inputType } from "./define.ts";
import { formula, sumOver } from "./gradient.ts";
import { normalStatistics } from "./norm_gradient.ts";

interface LayerNormGradAttrs {
  readonly epsilon: number;
  /** Gradients of scale and bias are sums of so many parts, each of as many rows. */
  readonly parts: number;
  /** ONNX's number of a type in which the first result is given as well; 0: none. */
  readonly copy: number;
}

const ATTRS: Readonly<Record<keyof LayerNormGradAttrs, AttrSpec>> = {
  epsilon: { type: "float", default: 1e-5 },
  parts: { type: "int", default: 1 },
  copy: { type: "int", default: 0 },
};

/** Rows of `width` that are normalized. */
export interface LayerNormGradGeometry extends LayerNormGradAttrs {
  readonly rows: number;
  readonly width: number;
}

function geometryOf(inputs: readonly (Value | null)[], attrs: LayerNormGradAttrs): LayerNormGradGeometry {
  const [x, scale, dy] = [0, 1, 2].map((i) => inputType("LayerNormGrad", inputs, i, FLOATS));
  const width = x.shape[x.shape.length - 1];
  const rows = elementCount(x.shape.slice(0, -1));
  if (scale.shape.join() !== `${width}` || dy.shape.join() !== x.shape.join() || rows % attrs.parts !== 0)
    throw new HeddleError("bad-model", `LayerNormGrad: (${x.shape}), (${scale.shape}), (${dy.shape}), ${attrs.parts} parts, wanted (…, C), (C), (…, C), a divisor of the rows`); // biome-ignore format: short
  return { ...attrs, rows, width };
}

export const layerNormGradGeometry = (node: Node): LayerNormGradGeometry =>
  geometryOf(node.inputs, node.attrs as unknown as LayerNormGradAttrs); // the operator's

/** x (…, C), scale (C), the result's gradient, and what is added to the first result → gradients of x, of scale and of bias (parts, C). */
export const LayerNormGrad: Op = defineOp<LayerNormGradAttrs>({
  name: "LayerNormGrad",
  kind: "opaque",
  own: true,
  attrs: ATTRS,
  infer(inputs, attrs) {
    const { parts, width } = geometryOf(inputs, attrs);
    const { dtype, shape } = inputs[0]!.type; // geometryOf has seen it
    const copy = FLOATS.filter((d) => DTYPES[d].onnx === attrs.copy).map((d) => ({ dtype: d, shape }));
    return [{ dtype, shape }, { dtype, shape: [parts, width] }, { dtype, shape: [parts, width] }, ...copy];
  },
  expand(inputs, attrs, node) {
    const { parts, rows, width, epsilon } = geometryOf(inputs, attrs);
    const [x, scale, given, added] = inputs as readonly [Value, Value, Value, Value?]; // geometryOf has seen them
    const { dtype, shape } = x.type;
    const build = builder(node.from);
    const f = formula(build, dtype);
    const dy = f.cast(given);
    const axes = [shape.length - 1];
    const { centered, inverse } = normalStatistics(build, f, x, axes, epsilon);
    const normal = f.mul(centered, inverse);
    const average = (v: Value) => build.op("ReduceMean", [v, build.ints(...axes)]);
    const scaled = f.mul(dy, f.cast(scale));
    const inner = f.sub(f.sub(scaled, average(scaled)), f.mul(normal, average(f.mul(scaled, normal))));
    const own = f.mul(inner, inverse);
    const dx = added ? f.add(own, added) : own;
    const inParts = (v: Value) => build.reshape(sumOver(build, build.reshape(v, [parts, rows / parts, width]), [1]), [parts, width]);
    const copies = node.outputs.slice(3).map((o) => build.cast(dx, o.type.dtype));
    return [dx, inParts(f.mul(dy, normal)), inParts(dy), ...copies];
  },
  flops: ({ inputs }) => 16 * elementCount(inputs[0]!.type.shape),
  samples: [
    { inputs: [f32(2, 3, 8), f32(8), f32(2, 3, 8)] },
    { inputs: [f32(12, 128), f32(128), f32(12, 128), f32(12, 128)], attrs: { parts: 3, epsilon: 1e-3 } },
    { inputs: [f32(20, 70), f32(70), f32(20, 70)], attrs: { parts: 2, copy: DTYPES.f16.onnx } },
  ],
});

export const layerNormGradOps: readonly Op[] = [LayerNormGrad];
