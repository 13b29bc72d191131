// Conv: sums of products of a sliding window with weights, on any number of spatial axes, in groups of channels.
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Node, type Op, type Value } from "../ir/graph.ts";
import { type Axes, dataSteps, type Layout, type Slide } from "../ir/slide.ts";
import { elementCount, fromNumbers, toNumbers } from "../ir/tensor.ts";
import { convGradient } from "./conv_gradient.ts";
import { emittable, FLOATS, f32, inputType, sameDType } from "./define.ts";
import { joinAxes, perAxis, permuteLayout, SLIDE_ATTRS, type SlideAttrs, slide, slideAttrs, splitAxes, visitWindows } from "./spatial.ts";

export interface ConvAttrs extends SlideAttrs {
  readonly group: number;
}

/** All sizes of a convolution, with auto_pad and defaults resolved. */
export interface ConvGeometry extends Slide {
  readonly layout: Layout;
  readonly batch: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly group: number;
}

type Inputs = readonly (Value | null)[];

/** x (N, C, spatial…) or (N, spatial…, C) · weights (M, C/group, kernel…). Throws HeddleError where they do not fit. */
function geometryOf(op: string, inputs: Inputs, attrs: ConvAttrs): ConvGeometry {
  const x = inputType(op, inputs, 0).shape;
  const w = inputType(op, inputs, 1).shape;
  const { batch, channels, spatial } = splitAxes(op, x, attrs.layout);
  if (w.length !== x.length) throw new HeddleError("bad-model", `${op}: weights (${w}) want ${x.length} axes as the input (${x}) has`);
  const { group } = attrs;
  if (!Number.isInteger(group) || group < 1 || channels !== w[1] * group || w[0] % group !== 0)
    throw new HeddleError("bad-model", `${op}: ${channels} channels in ${group} groups do not fit weights (${w})`);
  const kernel = w.slice(2);
  if (attrs.kernel_shape && perAxis(op, "kernel_shape", attrs.kernel_shape, kernel.length, 1).join() !== kernel.join())
    throw new HeddleError("bad-model", `${op}: kernel_shape (${attrs.kernel_shape}) differs from the weights (${w})`);
  if (kernel.includes(0)) throw new HeddleError("bad-model", `${op}: weights (${w}) have an empty window`);
  const window = slide(op, spatial, kernel, attrs);
  return { ...window, layout: attrs.layout, batch, inChannels: channels, outChannels: w[0], group };
}

/** Geometry of a node of Conv. */
export const convGeometry = (node: Node): ConvGeometry => geometryOf(node.op.name, node.inputs, node.attrs as unknown as ConvAttrs);

export const convOutputShape = (g: ConvGeometry): number[] =>
  joinAxes({ batch: g.batch, channels: g.outChannels, spatial: g.output }, g.layout);

/** Weights (M, C/group, kernel…) → (M, kernel…, C/group): the order in which a gathered window is multiplied. */
function channelsInnermost(w: Float64Array, outer: number, channels: number, taps: number): Float64Array {
  const out = new Float64Array(w.length);
  for (let m = 0; m < outer; m++)
    for (let c = 0; c < channels; c++) for (let k = 0; k < taps; k++) out[(m * taps + k) * channels + c] = w[(m * channels + c) * taps + k];
  return out;
}

/** Convolution in float64. */
export function convolve(x: Float64Array, weights: Float64Array, bias: Float64Array | null, g: ConvGeometry): Float64Array {
  const taps = elementCount(g.kernel);
  const channels = g.inChannels / g.group;
  const perGroup = g.outChannels / g.group;
  const w = channelsInnermost(weights, g.outChannels, channels, taps);
  const from = dataSteps({ batch: g.batch, channels: g.inChannels, spatial: g.input }, g.layout);
  const out: Axes = { batch: g.batch, channels: g.outChannels, spatial: g.output };
  const to = dataSteps(out, g.layout);
  const y = new Float64Array(g.batch * to.batch);
  const size = taps * channels;
  const patch = new Float64Array(size);
  visitWindows(g, (position, { count, kernel, input }) => {
    for (let n = 0; n < g.batch; n++) {
      for (let group = 0; group < g.group; group++) {
        const first = n * from.batch + group * channels * from.channel;
        for (let t = 0; t < count; t++)
          for (let c = 0; c < channels; c++) patch[t * channels + c] = x[first + c * from.channel + input[t] * from.position];
        const end = (group + 1) * perGroup;
        for (let m = group * perGroup; m < end; m += 4) {
          // Four channels at a time, whose sums need not wait for one another; behind the last one it is there again.
          const [m1, m2, m3] = [Math.min(m + 1, end - 1), Math.min(m + 2, end - 1), Math.min(m + 3, end - 1)];
          let s0 = bias ? bias[m] : 0;
          let s1 = bias ? bias[m1] : 0;
          let s2 = bias ? bias[m2] : 0;
          let s3 = bias ? bias[m3] : 0;
          for (let t = 0; t < count; t++) {
            const at = kernel[t] * channels;
            const [a0, a1, a2, a3] = [m * size + at, m1 * size + at, m2 * size + at, m3 * size + at];
            for (let c = 0; c < channels; c++) {
              const v = patch[t * channels + c];
              s0 += v * w[a0 + c];
              s1 += v * w[a1 + c];
              s2 += v * w[a2 + c];
              s3 += v * w[a3 + c];
            }
          }
          const at = n * to.batch + position * to.position;
          y[at + m * to.channel] = s0;
          y[at + m1 * to.channel] = s1;
          y[at + m2 * to.channel] = s2;
          y[at + m3 * to.channel] = s3;
        }
      }
    }
  });
  return y;
}

/** The bias, where there is one, has one number an output channel. */
export function checkBias(op: string, inputs: Inputs, i: number, channels: number): void {
  const bias = inputs[i]?.type;
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== channels))
    throw new HeddleError("bad-model", `${op}: bias (${bias.shape}) does not fit ${channels} output channels`);
}

export const Conv: Op = defineOp<ConvAttrs>({
  name: "Conv",
  kind: "contract",
  attrs: { ...SLIDE_ATTRS, group: { type: "int", default: 1 } },
  infer(inputs, attrs) {
    const types = inputs.slice(0, 3).flatMap((v, i) => (v || i < 2 ? [inputType("Conv", inputs, i, FLOATS)] : []));
    const g = geometryOf("Conv", inputs, attrs);
    checkBias("Conv", inputs, 2, g.outChannels);
    return [{ dtype: sameDType("Conv", types), shape: convOutputShape(g) }];
  },
  evaluate([x, w, bias], node) {
    const g = geometryOf("Conv", node.inputs, node.attrs);
    const y = convolve(toNumbers(x!), toNumbers(w!), bias ? toNumbers(bias) : null, g); // x and w were checked by infer
    return [fromNumbers(x!.dtype, convOutputShape(g), y)];
  },
  vjp: (context, node) => convGradient(context, node, geometryOf("Conv", node.inputs, node.attrs)),
  importOnnx: ({ emit, inputs, attrs }) => emit(emittable(Conv), inputs, slideAttrs("Conv", attrs)),
  permute: permuteLayout<ConvAttrs>(() => Conv),
  prefersChannelsLast: true,
  flops(node) {
    const g = geometryOf("Conv", node.inputs, node.attrs);
    return 2 * g.batch * elementCount(g.output) * g.outChannels * (g.inChannels / g.group) * elementCount(g.kernel);
  },
  samples: [
    { inputs: [f32(1, 3, 5, 7), f32(4, 3, 3, 3), f32(4)], attrs: { pads: [1, 1, 1, 1] } },
    { inputs: [f32(2, 4, 6, 5), f32(8, 4, 1, 1)] },
    { inputs: [f32(1, 8, 9, 9), f32(8, 1, 3, 3), f32(8)], attrs: { group: 8, strides: [2, 2], pads: [1, 1, 1, 1] } },
    { inputs: [f32(1, 6, 7, 5), f32(4, 3, 3, 2)], attrs: { group: 2, dilations: [2, 1], auto_pad: "SAME_UPPER" } },
    { inputs: [f32(1, 5, 7, 6), f32(4, 6, 3, 3), f32(4)], attrs: { layout: "NHWC", strides: [2, 1], pads: [1, 0, 0, 1] } },
    { inputs: [f32(1, 5, 7, 6), f32(6, 1, 5, 3)], attrs: { layout: "NHWC", group: 6, pads: [2, 1, 2, 1] } },
    { inputs: [f32(1, 2, 11), f32(3, 2, 4), f32(3)], attrs: { strides: [3] } },
    { inputs: [f32(1, 2, 3, 4, 5), f32(3, 2, 2, 2, 3)], attrs: { auto_pad: "SAME_LOWER" } },
  ],
});

export const convOps: readonly Op[] = [Conv];
