// Turns a vitest run into a file of counts, failures and skips with their reasons: HEDDLE_TEST_REPORT names it.
import { writeFileSync } from "node:fs";
import { relative } from "node:path";
import { root } from "./command.mjs";

/** `file > describe`: where the tests that share a reason stand. */
function suiteOf(test) {
  const names = [];
  for (let at = test.parent; at.type === "suite"; at = at.parent) names.unshift(at.name);
  return [relative(root, test.module.moduleId), ...names].join(" > ");
}

export default class CountingReporter {
  onTestRunEnd(modules, unhandled) {
    const report = { passed: 0, failed: 0, skipped: 0, failures: [], skips: [] };
    const fail = (name) => {
      report.failed++;
      report.failures.push(name);
    };
    for (const module of modules) {
      const file = relative(root, module.moduleId);
      if (module.errors().length > 0) fail(`${file} (did not load)`);
      for (const suite of module.children.allSuites()) if (suite.errors().length > 0) fail(`${file} > ${suite.fullName} (hook)`);
      for (const test of module.children.allTests()) {
        const { state, note } = test.result();
        if (state === "passed") report.passed++;
        else if (state === "failed") fail(`${file} > ${test.fullName}`);
        else {
          report.skipped++;
          report.skips.push({ suite: suiteOf(test), note });
        }
      }
    }
    for (const error of unhandled) fail(`outside all tests: ${String(error.message).split("\n")[0]}`);
    writeFileSync(process.env.HEDDLE_TEST_REPORT, JSON.stringify(report));
  }
}
