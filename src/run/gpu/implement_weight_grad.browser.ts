// Gradients of a convolution's weights: browsers do not train, and their expression is left.

export const implementConvWeightGrad: typeof import("./implement_weight_grad.ts").implementConvWeightGrad = () => null;
