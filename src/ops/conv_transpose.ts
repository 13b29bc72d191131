// ConvTranspose: spreads every input element over a window of the output, weighted; the adjoint of Conv.
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Node, type Op, type Value } from "../ir/graph.ts";
import { dataSteps, type Slide } from "../ir/slide.ts";
import { elementCount, fromNumbers, toNumbers } from "../ir/tensor.ts";
import { type ConvAttrs, type ConvGeometry, checkBias, convOutputShape } from "./conv.ts";
import { convTransposeGradient } from "./conv_gradient.ts";
import { emittable, FLOATS, f32, inputType, sameDType } from "./define.ts";
import { AUTO_PADS, perAxis, permuteLayout, SLIDE_ATTRS, slideAttrs, splitAxes, visitWindows } from "./spatial.ts";

interface ConvTransposeAttrs extends ConvAttrs {
  readonly output_padding?: readonly number[];
  readonly output_shape?: readonly number[];
}

const OP = "ConvTranspose";

/** Output sizes and the pads that are cut off it. */
function spread(input: readonly number[], kernel: readonly number[], attrs: ConvTransposeAttrs): Slide {
  const rank = input.length;
  const strides = perAxis(OP, "strides", attrs.strides, rank, 1);
  const dilations = perAxis(OP, "dilations", attrs.dilations, rank, 1);
  const pads = perAxis(OP, "pads", attrs.pads, 2 * rank, 0);
  const extra = perAxis(OP, "output_padding", attrs.output_padding, rank, 0);
  if (!AUTO_PADS.includes(attrs.auto_pad))
    throw new HeddleError("bad-model", `${OP}: auto_pad is ${attrs.auto_pad}, wanted ${AUTO_PADS.join(", ")}`);
  const isSame = attrs.auto_pad.startsWith("SAME");
  // Some exporters write batch and channels too.
  const asked = attrs.output_shape?.length ? attrs.output_shape.slice(-rank) : isSame ? input.map((d, i) => d * strides[i]) : undefined;
  const full = input.map((d, i) => strides[i] * (d - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1);
  if (!asked) {
    const isValid = attrs.auto_pad === "VALID";
    const padsBegin = input.map((_, i) => (isValid ? 0 : pads[i]));
    const padsEnd = input.map((_, i) => (isValid ? 0 : pads[rank + i]));
    const output = full.map((d, i) => (input[i] === 0 ? 0 : d - padsBegin[i] - padsEnd[i]));
    if (output.some((d, i) => d < 1 && input[i] > 0)) throw new HeddleError("bad-model", `${OP}: pads (${pads}) cut off all of (${full})`);
    return { input, output, kernel, strides, dilations, padsBegin, padsEnd };
  }
  const output = perAxis(OP, "output_shape", asked, rank, 0);
  const total = full.map((d, i) => Math.max(0, d - output[i]));
  const padsBegin = total.map((t) => (attrs.auto_pad === "SAME_UPPER" ? Math.floor(t / 2) : Math.ceil(t / 2)));
  return { input, output, kernel, strides, dilations, padsBegin, padsEnd: total.map((t, i) => t - padsBegin[i]) };
}

/** x (N, C, spatial…) or (N, spatial…, C) · weights (C, M/group, kernel…). */
function geometryOf(inputs: readonly (Value | null)[], attrs: ConvTransposeAttrs): ConvGeometry {
  const x = inputType(OP, inputs, 0).shape;
  const w = inputType(OP, inputs, 1).shape;
  const { batch, channels, spatial } = splitAxes(OP, x, attrs.layout);
  const { group } = attrs;
  if (w.length !== x.length) throw new HeddleError("bad-model", `${OP}: weights (${w}) want ${x.length} axes as the input (${x}) has`);
  if (!Number.isInteger(group) || group < 1 || channels !== w[0] || channels % group !== 0)
    throw new HeddleError("bad-model", `${OP}: ${channels} channels in ${group} groups do not fit weights (${w})`);
  const kernel = w.slice(2);
  if (kernel.includes(0)) throw new HeddleError("bad-model", `${OP}: weights (${w}) have an empty window`);
  if (attrs.kernel_shape && perAxis(OP, "kernel_shape", attrs.kernel_shape, kernel.length, 1).join() !== kernel.join())
    throw new HeddleError("bad-model", `${OP}: kernel_shape (${attrs.kernel_shape}) differs from the weights (${w})`);
  return { ...spread(spatial, kernel, attrs), layout: attrs.layout, batch, inChannels: channels, outChannels: w[1] * group, group };
}

/** Geometry of a node of ConvTranspose: output = stride · (input − 1) + window − pads. */
export const convTransposeGeometry = (node: Node): ConvGeometry => geometryOf(node.inputs, node.attrs as unknown as ConvTransposeAttrs);

/** Adds x · w to every output element that a window over it would read x from. */
function spreadOver(x: Float64Array, w: Float64Array, bias: Float64Array | null, g: ConvGeometry): Float64Array {
  const taps = elementCount(g.kernel);
  const [channels, perGroup] = [g.inChannels / g.group, g.outChannels / g.group];
  const from = dataSteps({ batch: g.batch, channels: g.inChannels, spatial: g.input }, g.layout);
  const to = dataSteps({ batch: g.batch, channels: g.outChannels, spatial: g.output }, g.layout);
  const y = new Float64Array(g.batch * to.batch);
  const positions = elementCount(g.output);
  if (bias)
    for (let n = 0; n < g.batch; n++)
      for (let m = 0; m < g.outChannels; m++)
        for (let p = 0; p < positions; p++) y[n * to.batch + m * to.channel + p * to.position] = bias[m];
  const adjoint: Slide = { ...g, input: g.output, output: g.input };
  visitWindows(adjoint, (position, { count, kernel, input: target }) => {
    for (let n = 0; n < g.batch; n++)
      for (let c = 0; c < g.inChannels; c++) {
        const v = x[n * from.batch + c * from.channel + position * from.position];
        const group = Math.floor(c / channels);
        for (let m = 0; m < perGroup; m++) {
          const start = n * to.batch + (group * perGroup + m) * to.channel;
          for (let t = 0; t < count; t++) y[start + target[t] * to.position] += v * w[(c * perGroup + m) * taps + kernel[t]];
        }
      }
  });
  return y;
}

export const ConvTranspose: Op = defineOp<ConvTransposeAttrs>({
  name: OP,
  kind: "contract",
  attrs: {
    ...SLIDE_ATTRS,
    group: { type: "int", default: 1 },
    output_padding: { type: "ints", optional: true },
    output_shape: { type: "ints", optional: true },
  },
  infer(inputs, attrs) {
    const types = inputs.slice(0, 3).flatMap((v, i) => (v || i < 2 ? [inputType(OP, inputs, i, FLOATS)] : []));
    const g = geometryOf(inputs, attrs);
    checkBias(OP, inputs, 2, g.outChannels);
    return [{ dtype: sameDType(OP, types), shape: convOutputShape(g) }];
  },
  evaluate([x, w, bias], node) {
    const g = geometryOf(node.inputs, node.attrs);
    const y = spreadOver(toNumbers(x!), toNumbers(w!), bias ? toNumbers(bias) : null, g); // x and w were checked by infer
    return [fromNumbers(x!.dtype, convOutputShape(g), y)];
  },
  vjp: (context, node) => convTransposeGradient(context, node, geometryOf(node.inputs, node.attrs)),
  importOnnx: ({ emit, inputs, attrs }) => emit(emittable(ConvTranspose), inputs, slideAttrs("ConvTranspose", attrs)),
  permute: permuteLayout<ConvTransposeAttrs>(() => ConvTranspose),
  prefersChannelsLast: true,
  flops(node) {
    const g = geometryOf(node.inputs, node.attrs);
    return 2 * g.batch * elementCount(g.input) * g.inChannels * (g.outChannels / g.group) * elementCount(g.kernel);
  },
  samples: [
    { inputs: [f32(1, 3, 4, 5), f32(3, 2, 2, 2), f32(2)], attrs: { strides: [2, 2] } },
    { inputs: [f32(2, 4, 3, 3), f32(4, 3, 3, 3)], attrs: { group: 2, strides: [2, 1], pads: [1, 0, 1, 1], output_padding: [1, 0] } },
    { inputs: [f32(1, 4, 5, 3), f32(3, 2, 2, 2), f32(2)], attrs: { layout: "NHWC", strides: [2, 2] } },
    { inputs: [f32(1, 2, 3, 3), f32(2, 2, 3, 3)], attrs: { auto_pad: "SAME_UPPER", strides: [2, 2] } },
    { inputs: [f32(1, 2, 5), f32(2, 3, 3)], attrs: { dilations: [2] } },
    { inputs: [f32(1, 2, 3), f32(2, 3, 2), f32(3)], attrs: { strides: [2], output_shape: [9] } },
  ],
});

export const convTransposeOps: readonly Op[] = [ConvTranspose];
