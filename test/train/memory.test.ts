// Ten thousand steps take no more memory than the first ones: resident set, heap and tensors stay as they are.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { type LeakCheck, leakCheck } from "../../src/tensor/index.ts";
import { tiny } from "./tiny.ts";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void; // what the flag defines

/** Steps at which memory is looked at: the first when everything is compiled and warm. */
const [FIRST, LAST] = [2000, 10_000];
/** Steps that leakCheck() watches: naming the lines that make tensors takes time. */
const WATCHED = 200;

test("10,000 steps", { timeout: 120_000 }, async () => {
  const looks: { rss: number; heap: number }[] = [];
  let leaks: LeakCheck | undefined;
  const { arenaBytes } = await tiny.run({
    epochs: 2,
    options: { examples: (16 * LAST) / 2 },
    device: { threads: 1 },
    report(event) {
      if (event.kind !== "step") return;
      if (event.step === LAST - WATCHED) leaks = leakCheck();
      if (event.step !== FIRST && event.step !== LAST) return;
      gc();
      const { rss, heapUsed, external } = process.memoryUsage();
      looks.push({ rss, heap: heapUsed + external });
      if (leaks) expect(leaks.report().reduce((n, leak) => n + leak.count, 0)).toBeLessThanOrEqual(2); // not one for each step
    },
  });
  leaks?.stop();
  const [first, last] = looks;
  expect(looks).toHaveLength(2);
  expect(leaks).toBeDefined();
  expect(arenaBytes).toBeLessThan(1 << 20);
  expect(last.heap - first.heap).toBeLessThan(4 << 20); // the curve takes a little for each step, a tensor left behind would take a kilobyte
  expect(last.rss - first.rss).toBeLessThan(64 << 20); // V8's young generation alone comes and goes by half of that
});
