// Pages load operators that few networks have where a network has one (web/operators.ts).
import type { Op } from "../ir/graph.ts";

export const RARE_AT_ONCE: readonly Op[] = [];
