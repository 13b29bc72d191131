// All algorithms for sparse times dense that are compared on one matrix.
import type { Algorithm } from "./algorithm.ts";
import { bsr } from "./bsr.ts";
import { bfloat16, int8 } from "./narrow.ts";
import { pattern } from "./pattern.ts";
import { merge, swizzle } from "./rows.ts";
import { twoFour } from "./two_four.ts";

export const ALGORITHMS: readonly Algorithm[] = [swizzle, merge, pattern, bsr(8), bsr(16), bsr(32), twoFour, bfloat16, int8];
