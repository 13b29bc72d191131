// PooledConvWeightGrad: the gradient of a convolution's weights from that of the pool behind it, so that the large gradient between them is never stored.
import { apply, defineOp, type Node, type Op, type Value } from "../ir/graph.ts";
import type { ConvAttrs, ConvGeometry } from "./conv.ts";
import { ConvWeightGrad, convWeightGradGeometry } from "./conv_weight_grad.ts";
import { f32, tensorOf } from "./define.ts";
import { permutedLayout } from "./spatial.ts";
import { TiledMaxPoolGrad } from "./tiled_max_pool.ts";

export interface PooledAttrs extends ConvAttrs {
  /** Elements of a window of the pool on each axis. */
  readonly pool: readonly number[];
}

/** The same as two operators. */
function asTwo([x, dy, places]: readonly (Value | null)[], { pool, ...attrs }: PooledAttrs, from: string): Value {
  const spread = apply(TiledMaxPoolGrad, [dy, places], { kernel_shape: pool, layout: attrs.layout }, from);
  return apply(ConvWeightGrad, [x, ...spread], attrs as unknown as Node["attrs"], from)[0];
}

/** Geometry of the convolution whose weights' gradient a node gives. */
export const pooledGeometry = (node: Node): ConvGeometry =>
  convWeightGradGeometry(asTwo(node.inputs, node.attrs as unknown as PooledAttrs, node.from).node);

/** Inputs: what the convolution read, gradients of the maxima, and which elements these were. */
export const PooledConvWeightGrad: Op = defineOp<PooledAttrs>({
  name: "PooledConvWeightGrad",
  kind: "opaque",
  own: true,
  attrs: { ...ConvWeightGrad.attrs, pool: { type: "ints" } },
  infer: (inputs, attrs) => [asTwo(inputs, attrs, "").type],
  expand: (inputs, attrs, node) => [asTwo(inputs, attrs, node.from)],
  permute({ order, permuted }, node) {
    const layout = permutedLayout(order, node.attrs.layout);
    const inputs = node.inputs.map((_, i) => permuted(i));
    return layout && apply(PooledConvWeightGrad, inputs, { ...node.attrs, layout }, node.from);
  },
  prefersChannelsLast: true,
  keepsOutputs: true,
  flops: (node) => ConvWeightGrad.flops!(asTwo(node.inputs, node.attrs, node.from).node),
  samples: [
    {
      inputs: [f32(2, 1, 6, 4), f32(2, 3, 3, 2), tensorOf("u8", [...Array(36).keys()].map((i) => (i * 3) % 4), [2, 3, 3, 2])], // biome-ignore format: short
      attrs: { kernel_shape: [3, 3], pads: [1, 1, 1, 1], pool: [2, 2] },
    },
    {
      inputs: [f32(2, 5, 5, 2), f32(2, 2, 1, 3), tensorOf("u8", [5, 0, 1, 2, 4, 3, 3, 2, 5, 0, 0, 1], [2, 2, 1, 3])],
      attrs: { kernel_shape: [2, 3], pool: [2, 3], layout: "NHWC" },
    },
  ],
});

/** Channels from which on sums over stored gradients may take another way. */
const MANY = 16;

/** Whether spreading gradients in the cache pays: few channels, so that there are few sums for each of them. */
export function isSpreadInBands(node: Node): boolean {
  const { input, group, inChannels } = pooledGeometry(node);
  return input.length === 2 && group === 1 && inChannels < MANY && node.inputs[0]!.type.dtype === "f32";
}

export const pooledConvWeightGradOps: readonly Op[] = [PooledConvWeightGrad];
