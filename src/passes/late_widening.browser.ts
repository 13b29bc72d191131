// 16-bit products are CUDA's and training's: none in browsers.
import type { Pass } from "../ir/graph.ts";

export const lateWidening: Pass = { name: "lateWidening", run: (graph) => graph };
