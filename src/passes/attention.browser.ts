// Attention as one operator is for matrix units, which browsers do not have.
import type { Pass } from "../ir/graph.ts";

export const attention = (): Pass => ({ name: "attention", run: (graph) => graph });
