// What all ways to compute a product cost alike: tiles of a multiprocessor, parts of the depth that are joined; and the schedule that costs least.
import type { SimtTarget } from "../../ir/simt.ts";
import type { Product } from "./product.ts";

export type Operands = Pick<Product, "left" | "right" | "batch">;

/** Cycles of a kernel more, and bytes of memory in a cycle. */
const LAUNCH = 3000;
const BYTES = 1700;
const MULTIPROCESSORS = 16;
/** Tiles of a multiprocessor, where all have about as many. */
export function tilesOf(
  { left, right, batch }: Operands,
  { bm, bn }: { bm: number; bn: number },
  splits: number,
  target: SimtTarget,
): number {
  return Math.ceil((Math.ceil(left.rows / bm) * Math.ceil(right.rows / bn) * batch * splits) / (target.units ?? MULTIPROCESSORS));
}

/** Cycles of the kernel that sums parts. */
export const joining = ({ left, right, batch }: Operands, splits: number): number =>
  splits === 1 ? 0 : LAUNCH + (8 * splits * batch * left.rows * right.rows) / BYTES;

/** The schedule and the number of parts that cost least. */
export function cheapest<S>(p: Operands, all: readonly S[], leastDepth: number, cost: (schedule: S, splits: number) => number) {
  const options = all.flatMap((schedule) =>
    [1, 2, 4, 8, 16, 32].flatMap((splits) =>
      splits > 1 && p.left.depth / splits < leastDepth ? [] : [{ schedule, splits, cost: cost(schedule, splits) }],
    ),
  );
  return options.reduce((best, o) => (o.cost < best.cost ? o : best));
}
