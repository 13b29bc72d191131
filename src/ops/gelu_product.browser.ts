// Browsers have no library for products, and do not train.
import type { Op } from "../ir/graph.ts";

export const geluProductOps: readonly Op[] = [];
