// Weights' gradients behind pools: none, nothing in browsers makes them.
export const pooledConvWeightGradOps: typeof import("./pooled_conv_weight_grad.ts").pooledConvWeightGradOps = [];
