// Classes are picked where networks are trained: not in browsers.
import type { Pass } from "../ir/graph.ts";

export const pickedClasses: Pass = { name: "pickedClasses", run: (graph) => graph };
