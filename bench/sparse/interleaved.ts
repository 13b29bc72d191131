// Times contestants in turns, so that what disturbs one disturbs all.
import { type Spread, spreadOf } from "../../src/cli/statistics.ts";
import type { Contestant } from "./contestants.ts";

export interface Rounds {
  /** At least so many turns, and at least so long. */
  readonly turns: number;
  readonly seconds: number;
  /** Cold: copies of the matrix that take turns. Default 1. */
  readonly copies?: number;
  /** Each timed run follows another of the same contestant. */
  readonly isHot?: boolean;
}

/** Milliseconds; the first round warms up. */
export function interleaved(contestants: readonly Contestant[], { turns, seconds, copies = 1, isHot = false }: Rounds): Spread[] {
  const times = contestants.map((): number[] => []);
  const start = performance.now();
  for (let turn = 0; turn <= turns || performance.now() - start < seconds * 1000; turn++)
    for (const [i, contestant] of contestants.entries()) {
      if (isHot) contestant.run(turn % copies);
      const from = performance.now();
      contestant.run(turn % copies);
      if (turn > 0) times[i].push(performance.now() - from);
    }
  return times.map(spreadOf);
}
