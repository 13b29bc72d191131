// Products of float8 numbers are for libraries, which browsers do not have.
import type { Op } from "../ir/graph.ts";

export const narrowProductOps: readonly Op[] = [];
