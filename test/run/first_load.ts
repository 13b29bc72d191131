// A program that loads a model, compiles it, and prints how long each turn of the event loop took: in a fresh process all code is slow at first.
import { type LoadOptions, loadModel } from "../../src/model.ts";
import { turnsDuring } from "./turns.ts";

const [path, given] = process.argv.slice(2);
const options = JSON.parse(given) as LoadOptions; // the test's
const turns = await turnsDuring(async () => {
  const model = await loadModel(path, { ...options, cache: false });
  model.dispose();
});
process.stdout.write(JSON.stringify(turns));
