// Sets up, builds, and runs a training script with `heddle train`; further arguments go to it.
import { join } from "node:path";
import { build } from "./build.mjs";
import { main, root, run } from "./command.mjs";
import { setup } from "./setup.mjs";

await main(async ([script, ...args]) => {
  setup({ debian: ["dataset-fashion-mnist"] });
  await build({ types: false });
  return run(process.execPath, [join(root, "bin/heddle.mjs"), "train", script, ...args], { minutes: 60 });
});
