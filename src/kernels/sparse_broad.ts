// Few rows times many columns: what a panel is copied for is hardly read again there, so that one row at a time meets the whole operand where it lies, many columns at once.
import type { SimdTarget } from "../ir/kernel.ts";

/** What of a walk by panels decides whether it is worth its copies. */
export interface Panels {
  /** Rows of the dense operand, panels of them, and rows of the result that meet each. */
  readonly depth: number;
  readonly panels: number;
  readonly rows: number;
  readonly density: number;
}

/** Vectors of a row's sums, which half of the registers hold: what goes with a nonzero is loaded once for all of them. */
export const broadVectors = ({ registers }: SimdTarget): number => registers / 2;

/** Rows of the dense operand that a coordinate of two bytes can name. */
const TOLD = 2 ** 16;
/** Entries of a row that go in turns, as a visit's word has bits for them. */
export const MOST_IN_TURNS = 511;

/** The operand stays in the second-level cache beside the matrix. */
const SHARE_OF_CACHE = 2 / 3;

/** Nanoseconds for as many columns as a panel has, on Zen 5: a row of a panel is copied; a row of the result visits a panel; its sums come and go between panels. */
const COPIED = 2.7;
const VISITED = 1.4;
const SUMMED = 2.8;
/** What a nonzero takes longer where it meets lines of the second-level cache. */
const BEYOND = 0.4;

/** Whether a walk row by row is faster for n columns that lie side by side. */
export function isBroad({ depth, panels, rows, density }: Panels, n: number, target: SimdTarget): boolean {
  const { lanes, l2, loadsFirst } = target;
  if (loadsFirst || n < (broadVectors(target) / 2) * lanes || depth > TOLD || 4 * depth * n > SHARE_OF_CACHE * l2) return false;
  const ofVisit = (density * depth) / panels;
  return COPIED / (density * rows) + (VISITED + SUMMED * (1 - 1 / panels)) / ofVisit > BEYOND;
}
