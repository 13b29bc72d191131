// Chooses how a product is computed: by which kernel, with which tiles, and whether its depth is cut into parts that a second kernel sums.
import type { SimtKernel, SimtTarget } from "../../ir/simt.ts";
import { FEW_ROWS, fewRowsProduct } from "./few_rows.ts";
import { type FragmentSchedule, fragmentProduct, fragmentSchedules } from "./fragment_product.ts";
import { PLAIN_SCHEDULES, type PlainSchedule, plainBytes, plainProduct } from "./plain_product.ts";
import type { Product } from "./product.ts";

export type ProductPlan =
  | { readonly k: "few"; readonly splits: 1 }
  | { readonly k: "plain"; readonly schedule: PlainSchedule; readonly splits: number }
  | { readonly k: "fragments"; readonly schedule: FragmentSchedule; readonly splits: number };

type Operands = Pick<Product, "left" | "right" | "batch">;

/** Multiply-adds of a multiprocessor's matrix units in a cycle, with tiles large enough. */
const RATE = 1200;
/** What is left of that with smaller tiles, by rows times columns: they read more from shared memory. */
const efficiency = (area: number): number => Math.min(1, 0.25 + 0.75 * Math.sqrt(area / (128 * 128)));
/** Cycles of a kernel more, and bytes of memory in a cycle. */
const LAUNCH = 3000;
const BYTES = 1700;
const MULTIPROCESSORS = 16;
/** Cycles of a plain product's start and end, which its cost leaves out. */
const PLAIN_START = 2500;
/** Parts of the depth are as deep as this at least. */
const LEAST_DEPTH = { plain: 48, fragments: 128 };
/** Shorter depths are over before more threads have begun to hide anything. */
const LEAST_SLICED = 96;

/** Tiles of a multiprocessor, where all have about as many. */
function tilesOf({ left, right, batch }: Operands, { bm, bn }: { bm: number; bn: number }, splits: number, target: SimtTarget): number {
  return Math.ceil((Math.ceil(left.rows / bm) * Math.ceil(right.rows / bn) * batch * splits) / (target.units ?? MULTIPROCESSORS));
}

/** Cycles of the kernel that sums parts. */
const joining = ({ left, right, batch }: Operands, splits: number): number =>
  splits === 1 ? 0 : LAUNCH + (8 * splits * batch * left.rows * right.rows) / BYTES;

/** Cycles of float32 by three products of tf32: for 81 sizes on an H200, of the schedules of both kinds the chosen one takes 2 % longer than the fastest, 20 % at most. */
function f32Cost(p: Operands, { bm, bn, bk, slices = 1, cycles }: FragmentSchedule, splits: number, target: SimtTarget): number {
  if (!cycles) return Number.POSITIVE_INFINITY;
  const steps = (Math.ceil(Math.ceil(p.left.depth / splits) / bk) * bk) / 16 / slices;
  return cycles.start + steps * Math.max(cycles.alone, tilesOf(p, { bm, bn }, splits, target) * cycles.shared) + joining(p, splits);
}

/** Cycles, roughly. */
function fragmentCost(p: Operands, schedule: FragmentSchedule, splits: number, target: SimtTarget): number {
  if (p.left.dtype === "f32") return f32Cost(p, schedule, splits, target);
  const { bm, bn } = schedule;
  const depth = Math.ceil(p.left.depth / splits);
  return (tilesOf(p, schedule, splits, target) * bm * bn * depth) / (RATE * efficiency(bm * bn)) + joining(p, splits);
}

/** Cycles: for 12 sizes on an H200, 8 % off on average; what is chosen takes 7 % longer than the fastest schedule on average, and 35 % at most (npm run bench -- gpu/matmul). */
function plainCost(p: Operands, schedule: PlainSchedule, splits: number, target: SimtTarget): number {
  const { bk, slices, cycles } = schedule;
  const { depth } = p.left;
  if (slices > 1 && depth / splits < LEAST_SLICED) return Number.POSITIVE_INFINITY;
  const steps = Math.ceil(Math.ceil(depth / splits) / (bk * slices));
  return (steps * Math.max(cycles.alone, tilesOf(p, schedule, splits, target) * cycles.shared) * bk) / 16 + joining(p, splits);
}

/** The schedule and the number of parts that cost least. */
function cheapest<S>(p: Operands, all: readonly S[], leastDepth: number, cost: (schedule: S, splits: number) => number) {
  const options = all.flatMap((schedule) =>
    [1, 2, 4, 8, 16, 32].flatMap((splits) =>
      splits > 1 && p.left.depth / splits < leastDepth ? [] : [{ schedule, splits, cost: cost(schedule, splits) }],
    ),
  );
  return options.reduce((best, o) => (o.cost < best.cost ? o : best));
}

/** As large a variant of a schedule as the target's shared memory takes. */
function fitting(schedule: PlainSchedule, { sharedBytes }: SimtTarget): PlainSchedule | undefined {
  const variants: PlainSchedule[] = [schedule, { ...schedule, slots: 1 }, { ...schedule, bk: 8, slots: 1 }];
  return variants.find((v) => isShared(v) && plainBytes(v) <= Math.min(sharedBytes, 48 << 10));
}

/** Whether all threads have as many vectors of a tile to load. */
const isShared = ({ bm, bn, bk, tm, tn }: PlainSchedule): boolean =>
  [bm, bn].every((rows) => Number.isInteger((rows * bk) / 4 / ((bm / tm) * (bn / tn))));

/** Whether matrix units multiply these operands. */
export function usesFragments({ left, right }: Operands, target: SimtTarget): boolean {
  const { dtype } = left;
  const isMultiplied = dtype === "f16" || dtype === "bf16" || (dtype === "f32" && left.run > 1);
  return isMultiplied && dtype === right.dtype && target.fragments.includes(dtype) && left.depth >= 16;
}

export function planProduct(p: Operands, target: SimtTarget): ProductPlan {
  if (p.left.rows <= FEW_ROWS) return { k: "few", splits: 1 };
  const onFragments = usesFragments(p, target) ? fragmentSchedules(p, target) : [];
  const fragments = onFragments.length > 0 && cheapest(p, onFragments, LEAST_DEPTH.fragments, (s, splits) => fragmentCost(p, s, splits, target)); // biome-ignore format: one idea
  if (fragments && p.left.dtype !== "f32") return { k: "fragments", ...fragments };
  const fit = PLAIN_SCHEDULES.flatMap((s) => fitting(s, target) ?? []);
  const plain = cheapest(p, fit, LEAST_DEPTH.plain, (s, splits) => plainCost(p, s, splits, target));
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
