// All algorithms for sparse times dense that are compared on one matrix.
import type { Algorithm } from "./algorithm.ts";
import { pattern } from "./pattern.ts";

export const ALGORITHMS: readonly Algorithm[] = [pattern];
