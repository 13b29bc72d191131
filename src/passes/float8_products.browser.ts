// Products of 8-bit numbers are for libraries, which browsers do not have.
import type { Pass } from "../ir/graph.ts";

export const narrowProducts = (): readonly Pass[] => [];
export const float8Weights = (): Pass => ({ name: "float8Weights", run: (graph) => graph });
