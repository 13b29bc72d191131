// Attention of files as one operator is for kernels that browsers do not load.
import type { Op } from "../ir/graph.ts";

export const maskedAttentionOps: readonly Op[] = [];
