// What of a walk and its dense operand the kernel of a sparse product is generated for.
import type { Groups } from "./sparse_groups.ts";
import type { DenseShape } from "./sparse_side.ts";
import type { Spread, SpreadGroups } from "./sparse_spread.ts";

/** Two matrices of equal sizes and numbers of nonzeros share a kernel. */
export interface SparseProductShape extends DenseShape {
  /** Block rows of a strip. */
  readonly strip: number;
  /** Rows of the dense operand in a panel, and panels. */
  readonly panel: number;
  readonly panels: number;
  /** Entries, and bundles of rows side by side. */
  readonly length: number;
  readonly visits: number;
  readonly abreast: number;
  readonly shares: boolean;
  readonly broad: boolean;
  /** Where values lie in the order of blocks and are brought into this one for a strip and panel at a time. */
  readonly spread?: Spread;
}

export const sparseProductShape = (
  { rows, depth, block, strip, panel, panels, length, abreast, shares, broad, visits }: Groups,
  n: number,
): SparseProductShape => ({
  rows,
  depth,
  n,
  block,
  strip,
  panel,
  panels,
  length,
  abreast,
  shares,
  broad,
  visits: visits.length / (2 * abreast),
});

/** Over values in the order of blocks. */
export const spreadProductShape = ({ groups, spread }: SpreadGroups, n: number): SparseProductShape => ({
  ...sparseProductShape(groups, n),
  spread: spread.shape,
});
