// Attention as one operator is for layers and matrix units, which browsers do not have.
import type { Op } from "../ir/graph.ts";

export const headAttentionOps: readonly Op[] = [];
