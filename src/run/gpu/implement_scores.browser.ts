// Weights of attention by subgroups: none, browsers tell no size of theirs that kernels could rely on.
import type { GpuImplementation } from "./product_calls.ts";

export const implementScoreWeights: GpuImplementation = () => null;
export const implementScoreWeightsGrad: GpuImplementation = () => null;
