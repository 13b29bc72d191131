// The gradient of a convolution's weights: none, nothing in browsers makes it.
const none = undefined as never;

export { none as adjointAttrs, none as ConvWeightGrad, none as convolutionAttrs, none as convWeightGradGeometry };
export const convWeightGradOps: typeof import("./conv_weight_grad.ts").convWeightGradOps = [];
