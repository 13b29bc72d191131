// Runs the tests of GPU programs on this machine's NVIDIA GPU; ends with counts, and with status 1 where one failed or there is no such GPU. Arguments select tests.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Failure, main, root } from "./command.mjs";
import { setup } from "./setup.mjs";
import { hasNvidiaGpu } from "./targets.mjs";
import { runTests, summarize } from "./vitest_run.mjs";

/** Test files of GPU programs and of the CUDA device, by their names. */
const FILES = ["test/run/gpu_", "test/devices/cuda"];

await main((args) => {
  if (!hasNvidiaGpu) throw new Failure("test:cuda: this machine has no NVIDIA GPU (/dev/nvidiactl is not there)");
  if (!existsSync(join(root, "node_modules/vitest"))) setup(); // packages may have been carried here
  const report = runTests(args.length > 0 ? args : FILES, { HEDDLE_TEST_GPU: "cuda" });
  summarize(report, [], []);
  return report.failed > 0 || report.passed === 0 || report.status !== 0 ? 1 : 0;
});
