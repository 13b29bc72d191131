// Gradients of convolutions: of the data by the adjoint convolution, of the weights by ConvWeightGrad, of the bias by a sum.
import type { Builder, Node, Value, VjpContext } from "../ir/graph.ts";
import type { ConvGeometry } from "./conv.ts";
import { adjointAttrs, convolutionAttrs } from "./conv_weight_grad.ts";

/** Σ of the gradient over all but the channels. */
function biasGradient(build: Builder, dy: Value, layout: ConvGeometry["layout"]): Value {
  const channels = layout === "NCHW" ? 1 : dy.type.shape.length - 1;
  const axes = dy.type.shape.map((_, i) => i).filter((i) => i !== channels);
  return build.op("ReduceSum", [dy, build.ints(...axes)], { keepdims: 0 });
}

/** Of a convolution with geometry g, for x, weights and bias. */
export function convGradient({ build, grad, wants }: VjpContext, node: Node<object>, g: ConvGeometry): readonly (Value | null)[] {
  const [x, w] = node.inputs as readonly Value[]; // checked by infer
  const dy = grad(0)!; // the only output
  return [
    wants(0) ? build.op("ConvTranspose", [dy, w], adjointAttrs(g)) : null,
    wants(1) ? build.op("ConvWeightGrad", [x, dy], convolutionAttrs(g)) : null,
    wants(2) ? biasGradient(build, dy, g.layout) : null,
  ];
}

/** Of a transposed convolution: what it spreads is gathered again by the convolution whose adjoint it is. */
export function convTransposeGradient({ build, grad, wants }: VjpContext, node: Node<object>, g: ConvGeometry): readonly (Value | null)[] {
  const [x, w] = node.inputs as readonly Value[]; // checked by infer
  const dy = grad(0)!; // the only output
  const reach = g.kernel.map((k, i) => (k - 1) * g.dilations[i] + 1);
  const missing = g.input.map((d, i) => (d - 1) * g.strides[i] + reach[i] - g.padsBegin[i] - g.output[i]);
  // What no window reaches has the bias only.
  const seen = cropped(build, dy, g, missing);
  const adjoint: ConvGeometry = {
    ...g,
    input: g.output.map((d, i) => d + Math.min(0, missing[i])),
    output: g.input,
    padsEnd: missing.map((n) => Math.max(0, n)),
    inChannels: g.outChannels,
    outChannels: g.inChannels,
  };
  return [
    wants(0) ? build.op("Conv", [seen, w], convolutionAttrs(adjoint)) : null,
    wants(1) ? build.op("ConvWeightGrad", [seen, x], convolutionAttrs(adjoint)) : null,
    wants(2) ? biasGradient(build, dy, g.layout) : null,
  ];
}

/** Without as many of the last elements of each spatial axis as `missing` is negative. */
function cropped(build: Builder, dy: Value, { layout }: ConvGeometry, missing: readonly number[]): Value {
  const axes = missing.flatMap((n, i) => (n < 0 ? [i] : []));
  if (axes.length === 0) return dy;
  const first = layout === "NCHW" ? 2 : 1;
  const lists = [axes.map(() => 0), axes.map((i) => missing[i]), axes.map((i) => first + i)];
  return build.op("Slice", [dy, ...lists.map((list) => build.ints(...list))]);
}
