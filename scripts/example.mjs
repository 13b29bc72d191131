// Sets up and runs one program of examples/ by its folder's name; further arguments go to it.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { bundleProgram } from "./bundle.mjs";
import { Failure, main, root, run } from "./command.mjs";
import { setup } from "./setup.mjs";

await main(async ([name, ...args]) => {
  const programOf = (folder) => `examples/${folder}/main.ts`;
  const names = readdirSync(join(root, "examples")).filter((folder) => existsSync(join(root, programOf(folder))));
  if (!names.includes(name)) throw new Failure(`example: wanted one of: ${names.join(", ")}; got ${name}`);
  setup();
  return run(process.execPath, ["--enable-source-maps", await bundleProgram(programOf(name)), ...args], { minutes: 120 });
});
