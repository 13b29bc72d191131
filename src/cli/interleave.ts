// Times several engines on one machine in turns, so that a slow moment of the machine meets all of them.
import { setTimeout as pause } from "node:timers/promises";

export interface Contender {
  run(): Promise<unknown>;
}

export interface InterleaveOptions {
  /** Time for the timed runs of each contender. Default 3. */
  readonly seconds?: number;
  /** Called before each turn with the share that is done. */
  readonly onTurn?: (share: number) => void;
}

/** Idle worker threads spin for a while after a run, in every engine: wait until they sleep, so that none takes another's cores. */
const SETTLE_MS = 20;
/** Enough for warm caches; short against the machine's slow moments. */
const MAX_TURN_MS = 400;
const MIN_TURN_RUNS = 3;
const MIN_TURNS = 5;

/** Milliseconds of every timed run, in the contenders' order. Each turn begins with a run that is not timed. */
export async function interleave(contenders: readonly Contender[], options: InterleaveOptions = {}): Promise<number[][]> {
  const { seconds = 3, onTurn } = options;
  const times = contenders.map((): number[] => []);
  const turnMs = Math.min(MAX_TURN_MS, (seconds * 1000) / MIN_TURNS);
  for (const { run } of contenders) await run();
  let spent = 0;
  for (let turn = 0; turn === 0 || spent < seconds * 1000 * contenders.length; turn++) {
    onTurn?.(spent / (seconds * 1000 * contenders.length));
    for (const i of turnOrder(contenders.length, turn)) spent += await takeTurn(contenders[i], turnMs, times[i]);
  }
  return times;
}

/** Every other turn backwards: nobody always follows the same neighbour. */
function turnOrder(count: number, turn: number): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  return turn % 2 === 0 ? order : order.reverse();
}

/** Returns the milliseconds that timed runs took. */
async function takeTurn(contender: Contender, turnMs: number, times: number[]): Promise<number> {
  await pause(SETTLE_MS);
  await contender.run();
  let spent = 0;
  for (let runs = 0; runs < MIN_TURN_RUNS || spent < turnMs; runs++) {
    const start = performance.now();
    await contender.run();
    const ms = performance.now() - start;
    times.push(ms);
    spent += ms;
  }
  return spent;
}
