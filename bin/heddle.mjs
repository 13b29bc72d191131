#!/usr/bin/env node
// The command `heddle`: starts the compiled program.
import { existsSync } from "node:fs";
import * as nodeModule from "node:module";

const program = new URL("../dist/cli.js", import.meta.url);
if (existsSync(program)) {
  nodeModule.enableCompileCache?.(); // from Node 22 on: later starts skip compiling
  await import(program.href);
} else {
  process.stderr.write("heddle: dist/cli.js is not built yet; run: npm run build\n");
  process.exitCode = 1;
}
