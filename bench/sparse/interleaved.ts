// Times contestants in turns, so that what disturbs one disturbs all.
import { type Spread, spreadOf } from "../../src/cli/statistics.ts";
import type { Contestant } from "./contestants.ts";

/** Milliseconds of at least `turns` rounds, and of at least `seconds`; the first round warms up. */
export function interleaved(contestants: readonly Contestant[], { turns, seconds }: { turns: number; seconds: number }): Spread[] {
  const times = contestants.map((): number[] => []);
  const start = performance.now();
  for (let turn = 0; turn < turns || performance.now() - start < seconds * 1000; turn++)
    for (const [i, contestant] of contestants.entries()) {
      const from = performance.now();
      contestant.run();
      if (turn > 0) times[i].push(performance.now() - from);
    }
  return times.map(spreadOf);
}
