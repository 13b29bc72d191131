// Chooses the tiles of a product on matrix units, and into how many parts its depth is cut.
import type { SimtTarget } from "../../ir/simt.ts";
import { type FragmentSchedule, fragmentSchedules } from "./fragment_product.ts";
import { cheapest, joining, type Operands, tilesOf } from "./product_cost.ts";

/** Multiply-adds of a multiprocessor's matrix units in a cycle, with tiles large enough. */
const RATE = 1200;
/** What is left of that with smaller tiles, by rows times columns: they read more from shared memory. */
const efficiency = (area: number): number => Math.min(1, 0.25 + 0.75 * Math.sqrt(area / (128 * 128)));
/** Parts of the depth are as deep as this at least. */
const LEAST_DEPTH = 128;

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

/** Whether matrix units multiply these operands. */
export function usesFragments({ left, right }: Operands, target: SimtTarget): boolean {
  const { dtype } = left;
  const isMultiplied = dtype === "f16" || dtype === "bf16" || (dtype === "f32" && left.run > 1);
  return isMultiplied && dtype === right.dtype && target.fragments.includes(dtype) && left.depth >= 16;
}

/** The cheapest schedule on matrix units; null: these have none. */
export function planOnFragments(p: Operands, target: SimtTarget) {
  if (!usesFragments(p, target)) return null;
  const all = fragmentSchedules(p, target);
  return all.length > 0 ? cheapest(p, all, LEAST_DEPTH, (s, splits) => fragmentCost(p, s, splits, target)) : null;
}
