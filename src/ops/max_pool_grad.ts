// MaxPoolGrad: gives each window's gradient to the first element that is its maximum.
import { apply, defineOp, type Op } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { FLOATS, inputType, sameDType, tensorOf } from "./define.ts";
import { checkWindow, PoolPlaces, SpreadWindows, WINDOW_ATTRS, type WindowAttrs } from "./pool_windows.ts";
import { permutedLayout, splitAxes } from "./spatial.ts";

/** Inputs: what the pool read, what it gave, and the gradient of that. */
export const MaxPoolGrad: Op = defineOp<WindowAttrs>({
  name: "MaxPoolGrad",
  kind: "opaque",
  own: true,
  attrs: WINDOW_ATTRS,
  infer(inputs, attrs) {
    const types = [0, 1, 2].map((i) => inputType("MaxPoolGrad", inputs, i, FLOATS));
    checkWindow("MaxPoolGrad", splitAxes("MaxPoolGrad", types[0].shape, attrs.layout).spatial.length, attrs);
    return [{ dtype: sameDType("MaxPoolGrad", types), shape: types[0].shape }];
  },
  expand([x, y, dy], attrs, node) {
    const build = builder(node.from);
    const { spatial } = splitAxes("MaxPoolGrad", x!.type.shape, attrs.layout); // checked by infer
    return [build.op(SpreadWindows, [dy!, build.op(PoolPlaces, [x!, y!], { ...attrs })], { ...attrs, size: spatial })];
  },
  permute({ order, permuted }, node) {
    const layout = permutedLayout(order, node.attrs.layout);
    return layout && apply(MaxPoolGrad, [permuted(0), permuted(1), permuted(2)], { ...node.attrs, layout }, node.from);
  },
  prefersChannelsLast: true,
  flops: (node) => 2 * elementCount(node.outputs[0].type.shape),
  samples: [
    {
      inputs: [
        tensorOf("f32", [1, 3, 3, 2, 2, 2, 0, 5], [1, 1, 2, 4]),
        tensorOf("f32", [3, 5], [1, 1, 1, 2]),
        tensorOf("f32", [0.5, -2], [1, 1, 1, 2]),
      ],
      attrs: { kernel_shape: [2, 2], strides: [2, 2], dilations: [1, 1], pads: [0, 0] },
    },
    {
      inputs: [
        tensorOf("f32", [1, 3, 3, 2, 2, 2, 0, 5], [1, 1, 8]),
        tensorOf("f32", [3, 3, 3, 2, 2, 5], [1, 1, 6]),
        tensorOf("f32", [1, 2, 3, 4, 5, 6], [1, 1, 6]),
      ],
      attrs: { kernel_shape: [3], strides: [1], dilations: [1], pads: [0] },
    },
  ],
});

export const maxPoolGradOps: readonly Op[] = [MaxPoolGrad];
