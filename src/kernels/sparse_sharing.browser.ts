// Browsers' kernel takes one row after the other: none share anything.
import { bundlesByCount } from "./sparse_pairs.ts";

export const LEAST_SHARING = 2;
export const bundlesByColumns = bundlesByCount;
export class ColumnBits {}
export const sharedFirst = (): void => {};
