// Sets up and runs ONNX's conformance cases (bench/conformance.ts); arguments go to it: --device, --filter, --json.
import { bundleProgram } from "./bundle.mjs";
import { Failure, main, run } from "./command.mjs";
import { setup } from "./setup.mjs";
import { gpuEnvironment, gpuPackages } from "./targets.mjs";

await main(async (args) => {
  const isGpu = args.some((arg) => /^(--device=)?webgpu$/.test(arg));
  const missing = setup({ debian: ["libonnx-testdata", ...(isGpu ? gpuPackages : [])] });
  if (missing.includes("libonnx-testdata") && !args.includes("--data"))
    throw new Failure("conformance: no cases to run; install libonnx-testdata, or name a folder of cases with --data");
  return run(process.execPath, ["--enable-source-maps", await bundleProgram("bench/conformance.ts"), ...args], {
    minutes: 60,
    env: isGpu ? gpuEnvironment() : {},
  });
});
