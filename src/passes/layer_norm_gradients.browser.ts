// Browsers do not train: no gradients of layer normalization.
import type { Pass } from "../ir/graph.ts";

export const layerNormGradients = (): Pass => ({ name: "layer norm gradients", run: (graph) => graph });
