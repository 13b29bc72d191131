// Attention as one operator of files is younger than what browsers have room for: exporters write the products that it is made of as well.
import type { Op } from "../ir/graph.ts";

export const attentionOps: readonly Op[] = [];
