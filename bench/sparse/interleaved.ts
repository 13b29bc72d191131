// Times contestants in turns, so that what disturbs one disturbs all.
import { type Spread, spreadOf } from "../../src/cli/statistics.ts";
import type { Contestant } from "./contestants.ts";

export interface Rounds {
  /** At least so many turns, and at least so long. */
  readonly turns: number;
  readonly seconds: number;
  /** Products of one turn, with a copy of the matrix each where there are as many: one call of a list of launches, as a program makes for its layers. Default 1. */
  readonly batch?: number;
  /** All of a turn with one copy, which was just used. */
  readonly isHot?: boolean;
}

/** Milliseconds of one product; the first round warms up. */
export function interleaved(contestants: readonly Contestant[], { turns, seconds, batch = 1, isHot = false }: Rounds): Spread[] {
  const times = contestants.map((): number[] => []);
  const start = performance.now();
  for (let turn = 0; turn <= turns || performance.now() - start < seconds * 1000; turn++)
    for (const [i, contestant] of contestants.entries()) {
      if (isHot) contestant.again(1);
      const from = performance.now();
      if (isHot) contestant.again(batch);
      else contestant.run((turn * batch) % contestant.copies, batch);
      if (turn > 0) times[i].push((performance.now() - from) / batch);
    }
  return times.map(spreadOf);
}
