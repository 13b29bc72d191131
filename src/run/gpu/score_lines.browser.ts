// Weights of attention: none, browsers do not have the operator.
import type { ExpressionOf } from "./contractions.ts";

export const scoreWeights: ExpressionOf = () => [];
export const scoreWeightsGrad: ExpressionOf = () => [];
