// Weights of attention are an operator of layers only, which browsers do not have: models say them otherwise.
import type { Op } from "../ir/graph.ts";

export const scoreWeightsOps: readonly Op[] = [];
