// Operators that few networks have are in the table from the start where nothing has to be sent over a network first.
import type { Op } from "../ir/graph.ts";
import { RARE_OPS } from "./rare.ts";

export const RARE_AT_ONCE: readonly Op[] = RARE_OPS;
