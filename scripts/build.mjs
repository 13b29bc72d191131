// Turns src into the package in dist: bundled JavaScript, type declarations, and the licences of what was bundled. Skips what is up to date.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { bundlePackage } from "./bundle.mjs";
import { bundleForBrowsers } from "./bundle_web.mjs";
import { Failure, isMain, main, root, run, say } from "./command.mjs";
import { setup } from "./setup.mjs";

const DIST = join(root, "dist");
const ENTRIES = {
  index: "src/index.ts",
  cli: "src/cli/main.ts",
  train: "src/train/index.ts",
  sparse: "src/sparse.ts",
  data_worker: "src/data/worker.ts",
};

/** One hash of all that goes into dist: sources, package versions, and how it is built. */
function fingerprint() {
  const hash = createHash("sha256");
  const sources = readdirSync(join(root, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath ?? entry.path, entry.name)));
  for (const file of [
    "package-lock.json",
    "tsconfig.json",
    "tsconfig.build.json",
    "scripts/build.mjs",
    "scripts/bundle.mjs",
    "scripts/bundle_web.mjs",
    "scripts/shorten.mjs",
    "scripts/unread.mjs",
    ...sources.sort(),
  ]) {
    const text = readFileSync(join(root, file));
    hash.update(`${file} ${text.length}\n`).update(text);
  }
  return hash.digest("hex");
}

/** Runs `make` unless its last good run saw the same sources. */
async function unlessFresh(name, proof, stamp, make) {
  const file = join(root, "build", `${name}.stamp`);
  if (existsSync(join(DIST, proof)) && existsSync(file) && readFileSync(file, "utf8") === stamp) return;
  const start = performance.now();
  rmSync(file, { force: true });
  await make();
  writeFileSync(file, stamp);
  say(`build: ${name} in ${((performance.now() - start) / 1000).toFixed(1)} s`);
}

/** heddle/web: all that a browser loads, beside the package for Node. */
export const WEB = join(DIST, "web");
const WEB_ENTRIES = { index: "src/web/index.ts" };

const APACHE = join(root, "node_modules/typescript/LICENSE.txt");

/** The licence of one bundled package: its file, or else the notices at the heads of the files used, and Apache's text where they only refer to it. */
function licenceOf(name, files) {
  const folder = join(root, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const heads = files.map((path) => /^(?:\/\/.*\n)+|^\/\*[\s\S]*?\*\//.exec(readFileSync(join(root, path), "utf8"))?.[0] ?? "");
  const notices = file ? readFileSync(join(folder, file), "utf8") : [...new Set(heads)].join("\n");
  const apache = !file && license.includes("Apache-2.0") ? `\n${readFileSync(APACHE, "utf8")}` : "";
  return `${name} ${version} (${license})\n\n${notices.trim()}\n${apache}`;
}

function writeLicences(inputs) {
  const packages = new Map();
  for (const path of inputs) {
    const name = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
    if (name) packages.set(name, [...(packages.get(name) ?? []), path]);
  }
  const texts = [...packages].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, files]) => licenceOf(name, files));
  writeFileSync(join(DIST, "THIRD-PARTY.txt"), texts.join(`\n${"=".repeat(80)}\n\n`));
}

/** The declarations that those of the package's entries refer to, these with them. */
function reachableTypes() {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const found = new Set(Object.values(exports).map(({ types }) => join(root, types)));
  // a Set grows while it is walked
  for (const file of found) {
    const paths = readFileSync(file, "utf8").matchAll(/\b(?:from |import\()"(\.{1,2}\/[^"]+)\.ts"/g);
    for (const [, path] of paths) found.add(join(dirname(file), `${path}.d.ts`));
  }
  return found;
}

function emitTypes() {
  const folder = join(DIST, "types");
  rmSync(folder, { recursive: true, force: true });
  const status = run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json"], { minutes: 5 });
  if (status !== 0) throw new Failure("build: type declarations: tsc found errors (above)");
  const reachable = reachableTypes();
  for (const name of readdirSync(folder, { recursive: true })) {
    const file = join(folder, name);
    if (name.endsWith(".d.ts") && !reachable.has(file)) rmSync(file); // four of five, a fifth of the package
  }
}

/** Fills dist; without `types` and `web`, only what running needs. */
export async function build({ types = true, web = types } = {}) {
  for (const folder of [DIST, join(root, "build")]) mkdirSync(folder, { recursive: true });
  const stamp = fingerprint();
  await unlessFresh("javascript", "index.js", stamp, async () => {
    try {
      writeLicences(await bundlePackage(ENTRIES, DIST, stamp));
    } catch (error) {
      throw error.errors ? new Failure("build: esbuild found errors (above)") : error;
    }
  });
  if (web) await unlessFresh("browser bundle", "web/index.js", stamp, () => bundleForBrowsers(WEB_ENTRIES, WEB));
  if (types) await unlessFresh("types", "types/index.d.ts", stamp, emitTypes);
}

if (isMain(import.meta.url)) {
  await main(async () => {
    setup();
    await build();
    say("build: dist is up to date");
  });
}
