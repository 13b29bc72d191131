// Rows are scattered by gradients only, which pages do not compute.
import type { Op } from "../ir/graph.ts";

export const scatterRowsOps: readonly Op[] = [];
