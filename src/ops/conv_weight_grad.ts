// ConvWeightGrad: the gradient of a convolution's weights, sums over all positions of what the window saw times the output's gradient.
import { HeddleError } from "../ir/error.ts";
import { apply, defineOp, type Node, type Op, type Value, type VjpContext } from "../ir/graph.ts";
import { dataSteps } from "../ir/slide.ts";
import { elementCount, fromNumbers, toNumbers } from "../ir/tensor.ts";
import type { ConvAttrs, ConvGeometry } from "./conv.ts";
import { FLOATS, f32, inputType, sameDType } from "./define.ts";
import { perAxis, permutedLayout, SLIDE_ATTRS, slide, splitAxes, visitWindows } from "./spatial.ts";

const OP = "ConvWeightGrad";

/** x and dy are what the convolution read and the gradient of what it gave, both in its layout; kernel_shape is not optional here. */
function geometryOf(inputs: readonly (Value | null)[], attrs: ConvAttrs): ConvGeometry {
  const x = splitAxes(OP, inputType(OP, inputs, 0).shape, attrs.layout);
  const dy = splitAxes(OP, inputType(OP, inputs, 1).shape, attrs.layout);
  const { group, layout } = attrs;
  if (!attrs.kernel_shape) throw new HeddleError("bad-model", `${OP}: attribute kernel_shape is missing`);
  const kernel = perAxis(OP, "kernel_shape", attrs.kernel_shape, x.spatial.length, 1);
  const window = slide(OP, x.spatial, kernel, attrs);
  if (window.output.join() !== dy.spatial.join() || x.batch !== dy.batch)
    throw new HeddleError("bad-model", `${OP}: gradients (${dy.spatial}) of batch ${dy.batch} for ${x.batch} × (${window.output})`);
  if (!Number.isInteger(group) || group < 1 || x.channels % group !== 0 || dy.channels % group !== 0)
    throw new HeddleError("bad-model", `${OP}: ${x.channels} and ${dy.channels} channels do not divide into ${group} groups`);
  return { ...window, layout, batch: x.batch, inChannels: x.channels, outChannels: dy.channels, group };
}

/** Geometry of the convolution whose weights' gradient a node gives. */
export const convWeightGradGeometry = (node: Node): ConvGeometry => geometryOf(node.inputs, node.attrs as unknown as ConvAttrs);

const weightShape = (g: ConvGeometry): number[] => [g.outChannels, g.inChannels / g.group, ...g.kernel];

function correlate(x: Float64Array, dy: Float64Array, g: ConvGeometry): Float64Array {
  const taps = elementCount(g.kernel);
  const [channels, perGroup] = [g.inChannels / g.group, g.outChannels / g.group];
  const from = dataSteps({ batch: g.batch, channels: g.inChannels, spatial: g.input }, g.layout);
  const to = dataSteps({ batch: g.batch, channels: g.outChannels, spatial: g.output }, g.layout);
  const dw = new Float64Array(g.outChannels * channels * taps);
  visitWindows(g, (position, { count, kernel, input }) => {
    for (let n = 0; n < g.batch; n++)
      for (let m = 0; m < g.outChannels; m++) {
        const v = dy[n * to.batch + m * to.channel + position * to.position];
        const first = n * from.batch + Math.floor(m / perGroup) * channels * from.channel;
        for (let t = 0; t < count; t++)
          for (let c = 0; c < channels; c++)
            dw[(m * channels + c) * taps + kernel[t]] += v * x[first + c * from.channel + input[t] * from.position];
      }
  });
  return dw;
}

/** The result is linear in both: it is what the convolution itself and its adjoint give. */
function vjp({ build, grad, wants }: VjpContext, node: Node<ConvAttrs>): readonly (Value | null)[] {
  const [x, dy] = node.inputs as readonly Value[]; // checked by infer
  const g = geometryOf(node.inputs, node.attrs);
  const dw = grad(0)!; // the only output
  return [
    wants(0) ? build.op("ConvTranspose", [dy, dw], adjointAttrs(g)) : null,
    wants(1) ? build.op("Conv", [x, dw], convolutionAttrs(g)) : null,
  ];
}

/** Attributes of a convolution with everything written out. */
export const convolutionAttrs = (g: ConvGeometry): Partial<ConvAttrs> => ({
  kernel_shape: g.kernel,
  strides: g.strides,
  dilations: g.dilations,
  pads: [...g.padsBegin, ...g.padsEnd],
  group: g.group,
  layout: g.layout,
});

/** Attributes of the ConvTranspose that takes the convolution's output back to its input's size. */
export function adjointAttrs(g: ConvGeometry): Partial<ConvAttrs> & { output_padding: readonly number[] } {
  const reached = g.output.map((d, i) => (d - 1) * g.strides[i] + (g.kernel[i] - 1) * g.dilations[i] + 1 - g.padsBegin[i] - g.padsEnd[i]);
  return { ...convolutionAttrs(g), output_padding: g.input.map((d, i) => d - reached[i]) };
}

export const ConvWeightGrad: Op = defineOp<ConvAttrs>({
  name: OP,
  kind: "contract",
  own: true,
  attrs: { ...SLIDE_ATTRS, group: { type: "int", default: 1 } },
  infer(inputs, attrs) {
    const types = [0, 1].map((i) => inputType(OP, inputs, i, FLOATS));
    return [{ dtype: sameDType(OP, types), shape: weightShape(geometryOf(inputs, attrs)) }];
  },
  evaluate([x, dy], node) {
    const g = geometryOf(node.inputs, node.attrs);
    return [fromNumbers(x!.dtype, weightShape(g), correlate(toNumbers(x!), toNumbers(dy!), g))]; // both were checked by infer
  },
  vjp,
  permute(context, node) {
    const layout = permutedLayout(context.order, node.attrs.layout);
    return layout && apply(ConvWeightGrad, [context.permuted(0), context.permuted(1)], { ...node.attrs, layout }, node.from);
  },
  prefersChannelsLast: true,
  keepsOutputs: true,
  flops(node) {
    const g = geometryOf(node.inputs, node.attrs);
    return 2 * g.batch * elementCount(g.output) * g.outChannels * (g.inChannels / g.group) * elementCount(g.kernel);
  },
  samples: [
    { inputs: [f32(2, 3, 5, 7), f32(2, 4, 5, 7)], attrs: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] } },
    { inputs: [f32(2, 4, 6, 5), f32(2, 8, 6, 5)], attrs: { kernel_shape: [1, 1] } },
    { inputs: [f32(1, 8, 9, 9), f32(1, 8, 5, 5)], attrs: { kernel_shape: [3, 3], group: 8, strides: [2, 2], pads: [1, 1, 1, 1] } },
    { inputs: [f32(2, 6, 7, 5), f32(2, 4, 7, 5)], attrs: { kernel_shape: [3, 2], group: 2, dilations: [2, 1], auto_pad: "SAME_UPPER" } },
    { inputs: [f32(2, 5, 7, 6), f32(2, 2, 6, 4)], attrs: { layout: "NHWC", kernel_shape: [3, 3], strides: [2, 1], pads: [1, 0, 0, 1] } },
    { inputs: [f32(1, 5, 7, 6), f32(1, 5, 7, 6)], attrs: { layout: "NHWC", kernel_shape: [5, 3], group: 6, pads: [2, 1, 2, 1] } },
    { inputs: [f32(3, 2, 11), f32(3, 3, 3)], attrs: { kernel_shape: [4], strides: [3] } },
    { inputs: [f32(1, 2, 3, 4, 5), f32(1, 3, 3, 4, 5)], attrs: { kernel_shape: [2, 2, 3], auto_pad: "SAME_LOWER" } },
  ],
});

export const convWeightGradOps: readonly Op[] = [ConvWeightGrad];
