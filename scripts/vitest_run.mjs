// Runs vitest and sums up: what did not run and why, what failed, and one line of counts.
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { root, run, say } from "./command.mjs";
import { targets } from "./targets.mjs";

const REPORT = join(root, "build/test-report.json");

/** Runs vitest; without a report, one failure. */
export function runTests(args, env = {}) {
  mkdirSync(join(root, "build"), { recursive: true });
  rmSync(REPORT, { force: true });
  const reporters = ["--reporter=default", `--reporter=${join(root, "scripts/vitest_reporter.mjs")}`];
  const status = run(process.execPath, [join(root, "node_modules/vitest/vitest.mjs"), "run", ...reporters, ...args], {
    minutes: 60,
    env: { HEDDLE_TEST_REPORT: REPORT, ...env },
  });
  try {
    return { status, ...JSON.parse(readFileSync(REPORT, "utf8")) };
  } catch {
    return { status, passed: 0, failed: 1, skipped: 0, failures: [`vitest ended with status ${status} and no report`], skips: [] };
  }
}

/** The skipped tests, a line for each suite and reason. */
function skipLines(skips) {
  const counts = new Map();
  for (const { suite, note } of skips) {
    const line = note ? `${suite}: ${note}` : suite;
    counts.set(line, (counts.get(line) ?? 0) + 1);
  }
  return [...counts].map(([line, count]) => `  ${count} skipped in ${line}`);
}

/** What did not run and why, what failed, and a line of counts. `wanted`: targets that matter here. */
export function summarize(report, broken, wanted = targets()) {
  const absent = wanted.filter((target) => target.absent);
  const lines = [
    ...absent.map(({ name, absent }) => `  not run: ${name}: ${absent}`),
    ...skipLines(report.skips),
    ...(absent.length + report.skips.length === 0 ? ["  nothing was left out: all targets are on this machine"] : []),
    ...broken.map((name) => `  failed: ${name}`),
    ...report.failures.map((name) => `  failed: ${name}`),
  ];
  say(`\nSummary\n${lines.join("\n")}\n`);
  process.stdout.write(`${report.passed} passed, ${report.failed + broken.length} failed, ${report.skipped} skipped\n`);
}
