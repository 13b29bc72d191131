// Products that end in Gelu are for CUDA's library: none in browsers.
import type { Pass } from "../ir/graph.ts";

export const geluProducts = (): Pass => ({ name: "gelu products", run: (graph) => graph });
