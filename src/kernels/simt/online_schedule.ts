// Chooses how attention on plain cores is cut: queries and keys of a workgroup, and parts of the keys where there are few queries.
import type { SimtTarget } from "../../ir/simt.ts";
import { fitsOnline, type OnlineSchedule, type OnlineShape } from "./online_attention.ts";

type Cut = Omit<OnlineSchedule, "parts">;

const cut = (rows: number, own: Cut["own"], tile: number, across: number): Cut => ({ rows, own, tile, across });

/** From many queries to one; smaller tiles where shared memory is short. */
const CUTS: readonly Cut[] = [
  cut(64, 8, 64, 16),
  cut(64, 4, 64, 16),
  cut(32, 4, 64, 16),
  cut(32, 4, 32, 16),
  cut(16, 2, 64, 16),
  cut(16, 2, 16, 16),
  cut(8, 4, 64, 64),
  cut(8, 4, 32, 32),
  cut(4, 4, 64, 64),
  cut(4, 2, 32, 32),
  cut(1, 1, 64, 64),
  cut(1, 1, 32, 32),
];

/** Workgroups that a multiprocessor should have, and multiprocessors where the driver does not tell. */
const RESIDENTS = 2;
const UNITS = 16;

/** Null: no cut fits the target. */
export function onlineSchedule(shape: OnlineShape, target: SimtTarget): OnlineSchedule | null {
  const rows = shape.queries * shape.group;
  const wanted = RESIDENTS * (target.units ?? UNITS);
  const blocksOf = (c: Cut): number => Math.ceil(rows / c.rows) * shape.batch * shape.heads;
  const fits = CUTS.filter((c) => fitsOnline(shape, { ...c, parts: 1 }, target));
  // No more rows than there are, and as many as leave all multiprocessors work.
  const near = fits.filter((c) => c.rows < 2 * rows);
  const chosen = near.find((c) => blocksOf(c) >= wanted || c.rows <= 16) ?? near.at(-1);
  if (!chosen) return null;
  const most = Math.floor(shape.keys / (2 * chosen.tile));
  const parts = Math.max(1, Math.min(most, Math.floor(wanted / blocksOf(chosen))));
  return { ...chosen, parts };
}
