// A program that makes ten thousand steps and prints how much memory was taken all the way; node runs it with --expose-gc.
import { type LeakCheck, leakCheck } from "../../src/tensor/index.ts";
import { tiny } from "./tiny.ts";

/** Bytes at a step: the resident set, and V8's heap with the arrays outside of it. */
export interface Look {
  readonly rss: number;
  readonly heap: number;
}

export interface ManySteps {
  /** From the first that is warm to the last step. */
  readonly looks: readonly Look[];
  readonly arenaBytes: number;
  /** Tensors of the last steps that nobody freed. */
  readonly leaked: number;
}

/** Steps between looks, each after a full collection: V8 alone lets garbage grow old. At the first all is compiled and warm. */
const EVERY = 1000;
const [FIRST, LAST] = [2000, 10_000];
/** Steps that leakCheck() watches: naming the lines that make tensors takes time. */
const WATCHED = 200;

const collect = globalThis.gc as () => void; // the flag defines it
const looks: Look[] = [];
const found: { check?: LeakCheck; leaked?: number } = {};
const { arenaBytes } = await tiny.run({
  epochs: 2,
  options: { examples: (16 * LAST) / 2 },
  device: { threads: 1 },
  report(event) {
    if (event.kind !== "step") return;
    if (event.step === LAST - WATCHED) found.check = leakCheck();
    if (event.step < FIRST || event.step % EVERY !== 0) return;
    collect();
    const { rss, heapUsed, external } = process.memoryUsage();
    looks.push({ rss, heap: heapUsed + external });
    if (found.check) found.leaked = found.check.report().reduce((n, leak) => n + leak.count, 0);
  },
});
found.check?.stop();
process.stdout.write(JSON.stringify({ looks, arenaBytes, leaked: found.leaked ?? Number.NaN } satisfies ManySteps));
process.exit(); // threads that wait for work do not hold it
