// Ten thousand steps take no more memory than the first ones: resident set, heap and tensors stay as they are.
import { execFile } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle, root } from "../bundle.ts";
import type { ManySteps } from "./many_steps.ts";

/** Below the repository, so that the program finds packages. */
const folder = join(root, "build", `many-steps-${process.pid}`);
beforeAll(async () => {
  await bundle(folder, { many_steps: "test/train/many_steps.ts" });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** V8's young generation has one size, and it collects and compiles on the program's own thread: else the resident set follows when these get their turn. */
const FLAGS = ["--expose-gc", "--single-threaded", "--min-semi-space-size=1", "--max-semi-space-size=1"];

test("10,000 steps", { timeout: 120_000 }, async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [...FLAGS, join(folder, "many_steps.js")]);
  const { looks, arenaBytes, leaked } = JSON.parse(stdout) as ManySteps; // as it writes them
  const [first, last] = [looks[0], looks[looks.length - 1]];
  expect(looks).toHaveLength(9);
  expect(leaked).toBeLessThanOrEqual(2); // not one for each step
  expect(arenaBytes).toBeLessThan(1 << 20);
  expect(last.heap - first.heap).toBeLessThan(2 << 20); // the curve takes a little for each step, a tensor left behind would take a kilobyte
  expect(last.rss - first.rss).toBeLessThan(16 << 20); // pages that the allocator keeps
});
