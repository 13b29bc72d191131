// Sets up and runs one benchmark of bench/ by its name; further arguments go to it.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { bundleProgram } from "./bundle.mjs";
import { Failure, main, root, run } from "./command.mjs";
import { setup } from "./setup.mjs";

await main(async ([name, ...args]) => {
  const programs = (folder) => readdirSync(join(root, "bench", folder)).flatMap((file) => /^(\w+)\.ts$/.exec(file)?.[1] ?? []);
  const names = [
    ...programs(""),
    "gpu/matmul",
    "gpu/conv",
    "gpu/networks",
    "gpu/gpt2",
    "gpu/curves",
    "gpu/cpu_gpu",
    "gpu/lines",
    "gpu/attention",
  ];
  if (name === undefined || !existsSync(join(root, `bench/${name}.ts`)))
    throw new Failure(`bench: wanted one of: ${names.join(", ")}; got ${name}`);
  setup();
  return run(process.execPath, ["--enable-source-maps", await bundleProgram(`bench/${name}.ts`), ...args], { minutes: 60 });
});
