// Packs heddle, installs the archive as a user would, runs it there, and fails when it, or the bundle for browsers, takes more room than promised.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build, WEB } from "./build.mjs";
import { capture, Failure, isMain, main, root, say } from "./command.mjs";
import { setup } from "./setup.mjs";

/** Installed, with everything it brings, on one platform. */
const LIMIT_MB = 10;

/** heddle/web as servers send it, models apart: what a page loads until its first result, on either device. */
const WEB_LIMIT_KB = 135;
/** All its files, with the operators that few networks have. */
const WEB_FILES_LIMIT_KB = 150;

/** What `du` counts: whole blocks. */
function bytesOnDisk(folder) {
  const entries = readdirSync(folder, { withFileTypes: true, recursive: true });
  return entries.reduce(
    (sum, entry) => sum + (entry.isSymbolicLink() ? 0 : statSync(join(entry.parentPath ?? entry.path, entry.name)).blocks * 512),
    0,
  );
}

function demand(what, { status, output }) {
  if (status !== 0) throw new Failure(`${output.trim()}\n\npackage: ${what} failed`);
  return output.trim();
}

/** Compiled with the strictest reading of our declarations: a user's compiler must take them. */
const CONSUMER = `import { HeddleError, loadModel } from "heddle";
import { type Csr, spgemm, toCsr } from "heddle/sparse";
import { defineTraining } from "heddle/train";
import { loadModel as loadInPage } from "heddle/web";
export const load: typeof loadModel = loadModel;
export const errors: typeof HeddleError = HeddleError;
export const square = (m: Csr): Csr => spgemm(m, toCsr(m));
export const train: typeof defineTraining = defineTraining;
export const page: typeof loadInPage = loadInPage;
`;

/** The files of a bundle that `name` imports, it among them, but for what is loaded for few networks. */
function loadedWith(name, found = new Set()) {
  if (found.has(name) || name.startsWith("rare-")) return found;
  found.add(name);
  for (const [, next] of readFileSync(join(WEB, name), "utf8").matchAll(/"\.\/([\w-]+\.js)"/g)) loadedWith(next, found);
  return found;
}

/** Throws Failure unless the bundle for browsers fits. */
export function checkWeb() {
  const kilobytes = (names) =>
    [...names].reduce((sum, name) => sum + gzipSync(readFileSync(join(WEB, name)), { level: 9 }).length, 0) / 1e3;
  const files = readdirSync(WEB).filter((name) => name.endsWith(".js"));
  const parts = [
    ["heddle/web until the first result", kilobytes(loadedWith("index.js")), WEB_LIMIT_KB],
    ["heddle/web, all files", kilobytes(files), WEB_FILES_LIMIT_KB],
  ];
  for (const [what, size, limit] of parts) {
    const text = `${what}: ${size.toFixed(1)} kB gzipped of at most ${limit} kB`;
    if (size > limit) throw new Failure(text);
    say(text);
  }
}

/** Throws Failure unless the package installs, loads, type-checks and fits. */
export function checkPackage() {
  checkWeb();
  const folder = mkdtempSync(join(tmpdir(), "heddle-package-"));
  try {
    demand("npm pack", capture("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", folder], { minutes: 2 }));
    const archive = readdirSync(folder).find((name) => name.endsWith(".tgz"));
    writeFileSync(join(folder, "package.json"), '{ "private": true, "type": "module" }\n');
    const options = [
      "--ignore-scripts",
      "--omit=dev",
      "--prefer-offline",
      "--no-audit",
      "--no-fund",
      "--fetch-timeout=60000",
      "--loglevel=error",
    ];
    demand("installing it", capture("npm", ["install", ...options, `./${archive}`], { minutes: 5, cwd: folder }));
    const megabytes = bytesOnDisk(join(folder, "node_modules")) / 1e6;
    demand("heddle --version", capture(join(folder, "node_modules/.bin/heddle"), ["--version"], { minutes: 1, cwd: folder }));
    for (const [entry, name] of [
      ["heddle", "loadModel"],
      ["heddle/sparse", "toCsr"],
    ]) {
      const script = `const { ${name} } = await import("${entry}"); if (typeof ${name} !== "function") process.exit(1);`;
      demand(`import("${entry}")`, capture(process.execPath, ["--input-type=module", "-e", script], { minutes: 1, cwd: folder }));
    }
    writeFileSync(join(folder, "consumer.ts"), CONSUMER);
    const strict = [
      "--noEmit",
      "--strict",
      "--module",
      "nodenext",
      "--target",
      "es2023",
      "--types",
      "node",
      "--typeRoots",
      join(root, "node_modules/@types"),
    ];
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    demand("compiling against its types", capture(process.execPath, [tsc, ...strict, "consumer.ts"], { minutes: 2, cwd: folder }));
    if (megabytes > LIMIT_MB) throw new Failure(`package: installed it takes ${megabytes.toFixed(1)} MB, the limit is ${LIMIT_MB} MB`);
    say(`package: installs, loads, type-checks; ${megabytes.toFixed(1)} MB of at most ${LIMIT_MB} MB`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (isMain(import.meta.url)) {
  await main(async () => {
    setup();
    await build();
    checkPackage();
  });
}
