// Sets up, builds, lints, type-checks and tests; ends with what did not run and why, and one line of counts. Arguments select tests, and then only they run.
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "./build.mjs";
import { Failure, main, root, run, say, step } from "./command.mjs";
import { setup } from "./setup.mjs";
import { checkPackage } from "./size.mjs";
import { targets } from "./targets.mjs";

const REPORT = join(root, "build/test-report.json");

const tool = (path, ...args) => run(process.execPath, [join(root, "node_modules", path), ...args], { minutes: 10 });

/** Runs vitest; null when it ended without a report. */
function runTests(args) {
  mkdirSync(join(root, "build"), { recursive: true });
  rmSync(REPORT, { force: true });
  const reporters = ["--reporter=default", `--reporter=${join(root, "scripts/vitest_reporter.mjs")}`];
  const status = run(process.execPath, [join(root, "node_modules/vitest/vitest.mjs"), "run", ...reporters, ...args], {
    minutes: 60,
    env: { HEDDLE_TEST_REPORT: REPORT },
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

function summarize(report, broken) {
  const absent = targets().filter((target) => target.absent);
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

await main(async (args) => {
  await step("setup", () => setup({ debian: ["libonnx-testdata"] }));
  const broken = [];
  /** A failing check does not keep the others from telling. */
  const check = (name, action) =>
    step(name, async () => {
      try {
        if ((await action()) > 0) broken.push(name);
      } catch (error) {
        say(error instanceof Failure ? error.message : error.stack);
        broken.push(name);
      }
    });
  if (args.length === 0) {
    await check("build", () => build());
    await check("lint", () => tool("@biomejs/biome/bin/biome", "check", "--error-on-warnings", "."));
    await check("typecheck", () => tool("typescript/bin/tsc", "--noEmit"));
    if (broken.includes("build")) say("── package: not run, the build failed");
    else await check("package", checkPackage);
  }
  const report = await step("test", () => runTests(args));
  summarize(report, broken);
  return report.failed + broken.length > 0 || report.status !== 0 ? 1 : 0;
});
