// Sets up, builds, lints, type-checks and tests; ends with what did not run and why, and one line of counts. Arguments select tests, and then only they run.
import { join } from "node:path";
import { build } from "./build.mjs";
import { Failure, main, root, run, say, step } from "./command.mjs";
import { setup } from "./setup.mjs";
import { checkPackage } from "./size.mjs";
import { gpuPackages } from "./targets.mjs";
import { runTests, summarize } from "./vitest_run.mjs";

const tool = (path, ...args) => run(process.execPath, [join(root, "node_modules", path), ...args], { minutes: 10 });

await main(async (args) => {
  await step("setup", () => setup({ debian: ["libonnx-testdata", ...gpuPackages] }));
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
