// Browsers' kernel takes one row after the other: pairs share nothing.
import { pairsByCount } from "./sparse_pairs.ts";

export const LEAST_SHARING = 2;
export const pairsByColumns = pairsByCount;
export const sharedFirst = (): readonly number[] => [];
