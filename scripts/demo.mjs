// Sets up, builds, and runs the example: reads the text in a picture. Arguments go to the example.
import { build } from "./build.mjs";
import { bundleProgram } from "./bundle.mjs";
import { main, run } from "./command.mjs";
import { setup } from "./setup.mjs";

await main(async (args) => {
  setup();
  await build({ types: false });
  const program = await bundleProgram("examples/ocr/main.ts");
  return run(process.execPath, ["--enable-source-maps", program, ...args], { minutes: 10 });
});
