// How long work holds the event loop: the duration of each of its turns.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** Time that the main thread had a core, milliseconds; where the system does not say, of the clock. */
export function threadMs(): number {
  if (process.platform !== "linux") return performance.now();
  return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
}

/** Durations of the event loop's turns during the work, in time of this thread, so that a busy machine does not count. */
export async function turnsDuring(work: () => Promise<unknown>): Promise<number[]> {
  const turns: number[] = [];
  let isOver = false;
  let last = threadMs();
  const tick = (): void => {
    const now = threadMs();
    turns.push(now - last);
    last = now;
    if (!isOver) setImmediate(tick);
  };
  setImmediate(tick);
  await work();
  isOver = true;
  await sleep(5); // the turn in which the work ended is one too
  return turns;
}
