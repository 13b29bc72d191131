// Browsers do not train: no gradient of layer normalization.
import type { Op } from "../ir/graph.ts";

export const layerNormGradOps: readonly Op[] = [];
