// Chooses how a product is computed: by which kernel, with which tiles, and whether its depth is cut into parts that a second kernel sums.
import type { SimtKernel, SimtTarget } from "../../ir/simt.ts";
import { planOnFragments } from "./choose_fragments.ts";
import { FEW_ROWS, fewRowsProduct } from "./few_rows.ts";
import { type FragmentSchedule, fragmentProduct } from "./fragment_product.ts";
import { PLAIN_SCHEDULES, type PlainSchedule, plainBytes, plainProduct } from "./plain_product.ts";
import type { Product } from "./product.ts";
import { cheapest, joining, type Operands, tilesOf } from "./product_cost.ts";

export type ProductPlan =
  | { readonly k: "few"; readonly splits: 1 }
  | { readonly k: "plain"; readonly schedule: PlainSchedule; readonly splits: number }
  | { readonly k: "fragments"; readonly schedule: FragmentSchedule; readonly splits: number };

/** Cycles of a plain product's start and end, which its cost leaves out. */
const PLAIN_START = 2500;
/** Parts of the depth are as deep as this at least. */
const LEAST_DEPTH = 48;
/** Shorter depths are over before more threads have begun to hide anything. */
const LEAST_SLICED = 96;

/** Cycles: for 12 sizes on an H200, 8 % off on average; what is chosen takes 7 % longer than the fastest schedule on average, and 35 % at most (npm run bench -- gpu/matmul). */
function plainCost(p: Operands, schedule: PlainSchedule, splits: number, target: SimtTarget): number {
  const { bk, slices, cycles } = schedule;
  const { depth } = p.left;
  if (slices > 1 && depth / splits < LEAST_SLICED) return Number.POSITIVE_INFINITY;
  const steps = Math.ceil(Math.ceil(depth / splits) / (bk * slices));
  return (steps * Math.max(cycles.alone, tilesOf(p, schedule, splits, target) * cycles.shared) * bk) / 16 + joining(p, splits);
}

/** As large a variant of a schedule as the target's shared memory takes. */
function fitting(schedule: PlainSchedule, { sharedBytes }: SimtTarget): PlainSchedule | undefined {
  const variants: PlainSchedule[] = [schedule, { ...schedule, slots: 1 }, { ...schedule, bk: 8, slots: 1 }];
  return variants.find((v) => isShared(v) && plainBytes(v) <= Math.min(sharedBytes, 48 << 10));
}

/** Whether all threads have as many vectors of a tile to load. */
const isShared = ({ bm, bn, bk, tm, tn }: PlainSchedule): boolean =>
  [bm, bn].every((rows) => Number.isInteger((rows * bk) / 4 / ((bm / tm) * (bn / tn))));

export function planProduct(p: Operands, target: SimtTarget): ProductPlan {
  if (p.left.rows <= FEW_ROWS) return { k: "few", splits: 1 };
  const fragments = planOnFragments(p, target);
  if (fragments && p.left.dtype !== "f32") return { k: "fragments", ...fragments };
  const fit = PLAIN_SCHEDULES.flatMap((s) => fitting(s, target) ?? []);
  const plain = cheapest(p, fit, LEAST_DEPTH, (s, splits) => plainCost(p, s, splits, target));
  return fragments && fragments.cost < plain.cost + PLAIN_START ? { k: "fragments", ...fragments } : { k: "plain", ...plain };
}

export function productKernel(name: string, product: Product, plan: ProductPlan, target: SimtTarget): SimtKernel {
  switch (plan.k) {
    case "few":
      return fewRowsProduct(name, product, target);
    case "plain":
      return plainProduct(name, product, plan.schedule, target);
    case "fragments":
      return fragmentProduct(name, product, plan.schedule, target);
    default:
      return plan satisfies never;
  }
}

/** Turned around, so that few columns are few rows. */
export function withFewRows(p: Product): Product {
  const { left, right, place } = p;
  if (left.rows <= FEW_ROWS || right.rows > FEW_ROWS) return p;
  return { ...p, left: right, right: left, place: (batch, row, column) => place(batch, column, row) };
}
