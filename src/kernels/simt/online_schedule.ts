// Chooses how attention on plain cores is cut: queries and keys of a workgroup, and parts of the keys where there are few queries.
import type { SimtTarget } from "../../ir/simt.ts";
import { columnsOf, fitsOnline, linesOf, type OnlineSchedule, type OnlineShape } from "./online_attention.ts";

interface Cut extends Omit<OnlineSchedule, "parts"> {
  /** Microseconds of a tile on an H200, and of each column of keys and values: of a workgroup that is alone on its multiprocessor, and of each of many. */
  readonly alone: readonly [number, number];
  readonly shared: readonly [number, number];
}

const cut = (rows: number, own: Cut["own"], tile: number, across: number, alone: Cut["alone"], shared: Cut["shared"]): Cut => ({ rows, own, tile, across, alone, shared }); // biome-ignore format: short

/** The last three are for targets with little shared memory; their times are guessed from their neighbours'. */
export const CUTS: readonly Cut[] = [
  cut(128, 8, 64, 16, [0.18, 0.0022], [1.13, 0.0524]),
  cut(64, 8, 64, 16, [1.44, 0.0274], [0.055, 0.0318]),
  cut(64, 8, 32, 16, [1.04, 0.0138], [0, 0.0165]),
  cut(64, 4, 64, 16, [1.48, 0.0037], [0.763, 0.0299]),
  cut(32, 4, 64, 16, [0.71, 0.0169], [0.007, 0.0182]),
  cut(32, 4, 32, 16, [0.38, 0.0109], [0.11, 0.0088]),
  cut(16, 4, 64, 32, [0.083, 0.015], [0.062, 0.0113]),
  cut(16, 2, 64, 16, [0.43, 0.0116], [0.3, 0.0098]),
  cut(8, 4, 64, 64, [0.279, 0.0083], [0.106, 0.0084]),
  cut(4, 4, 64, 64, [0.9, 0.0117], [0.2, 0.0087]),
  cut(4, 2, 64, 64, [0.61, 0.0043], [0.197, 0.0074]),
  cut(1, 1, 128, 128, [0.2, 0.0091], [0, 0.0111]),
  cut(1, 1, 64, 64, [0.16, 0.0076], [0.03, 0.0055]),
  cut(16, 2, 16, 16, [0.3, 0.0058], [0.3, 0.0024]),
  cut(4, 2, 32, 32, [0.5, 0.003], [0.15, 0.004]),
  cut(1, 1, 32, 32, [0.13, 0.005], [0.03, 0.004]),
];

/** Microseconds of a launch, of a second one, and for each element that it reads. */
const START = 2;
const JOIN = 1.5;
const JOIN_ELEMENT = 2.7e-6;
/** Multiprocessors where the driver does not tell. */
const UNITS = 16;
const MOST_PARTS = 64;
/** Keys are cut where workgroups are fewer than so many a multiprocessor. */
const FEW = 2;
/** From so many workgroups a multiprocessor on the last of them are as good as filled. */
const MANY = 8;

/** Of 12 shapes on an H200 what is chosen takes 3 % longer than the fastest on average, and 12 % at most (npm run bench -- gpu/attention --schedules). */
function microseconds(shape: OnlineShape, c: Cut, parts: number, { units = UNITS }: SimtTarget): number {
  const { batch, heads, group, queries, keys, depth, width, before } = shape;
  const blocks = Math.ceil((queries * group) / c.rows);
  const { lanes, blocks: wide } = columnsOf(width, c.across);
  const columns = Math.ceil(depth / 4) * 4 + c.across * lanes * wide;
  const tiles = Math.ceil(Math.ceil(keys / c.tile) / parts);
  const groups = (blocks * batch * heads * parts) / units;
  const waves = groups < MANY ? Math.ceil(groups) : groups;
  const [alone, shared] = [c.alone, c.shared].map(([each, column]) => each + column * columns);
  // Of causal rows half of the keys are seen, where many workgroups take turns.
  const seen = before !== null && groups > 1 ? 0.5 + 0.5 / blocks : 1;
  const joined = parts > 1 ? JOIN + JOIN_ELEMENT * parts * linesOf(shape) * width : 0;
  return START + tiles * seen * Math.max(alone, waves * shared) + joined;
}

/** What takes least; null: nothing fits the target. */
export function onlineSchedule(shape: OnlineShape, target: SimtTarget): OnlineSchedule | null {
  const all = CUTS.flatMap((c) => {
    const isFew = Math.ceil((shape.queries * shape.group) / c.rows) * shape.batch * shape.heads < FEW * (target.units ?? UNITS);
    const most = isFew ? Math.min(MOST_PARTS, Math.floor(shape.keys / c.tile)) : 1;
    const counts = [1, 2, 4, 8, 16, 32, 64].filter((parts) => parts === 1 || parts <= most);
    return counts.map((parts) => ({ schedule: { ...c, parts }, cost: microseconds(shape, c, parts, target) }));
  });
  const best = all
    .filter(({ schedule }) => fitsOnline(shape, schedule, target))
    .reduce<(typeof all)[number] | null>((a, b) => (a && a.cost <= b.cost ? a : b), null);
  return best?.schedule ?? null;
}
