// What package.json promises: commands that exist, exact versions, little to install, and a lock file that is complete on every platform.
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, test } from "vitest";
import { root } from "./sources.ts";

type Versions = Readonly<Record<string, string>>;
interface Locked {
  readonly dependencies?: Versions;
  readonly optionalDependencies?: Versions;
  readonly devDependencies?: Versions;
}
interface Manifest extends Locked {
  readonly scripts: Versions;
  readonly bin: Versions;
  readonly exports: Readonly<Record<string, { readonly types: string; readonly default: string }>>;
}

const readJson = (path: string): unknown => JSON.parse(readFileSync(join(root, path), "utf8"));
const manifest = readJson("package.json") as Manifest; // ours
const rivals = readJson("bench/package.json") as Locked; // ours
const lock = (readJson("package-lock.json") as { packages: Record<string, Locked> }).packages; // npm's

test("every command leads to a file", () => {
  const files = Object.values(manifest.scripts).flatMap((command) => /^node (\S+)/.exec(command)?.[1] ?? []);
  const benches = Object.values(manifest.scripts).flatMap((command) => /bench\.mjs (\w+)/.exec(command)?.[1] ?? []);
  const wanted = [...files, ...benches.map((name) => `bench/${name}.ts`), ...Object.values(manifest.bin)];
  expect(wanted.filter((path) => !existsSync(join(root, path)))).toEqual([]);
});

test("every entry is built from a source and has that source's types", () => {
  const build = readFileSync(join(root, "scripts/build.mjs"), "utf8");
  for (const { types, default: code } of Object.values(manifest.exports)) {
    const source = types.replace("./dist/types", "src").replace(".d.ts", ".ts");
    const name = basename(code, ".js");
    expect(existsSync(join(root, source)), source).toBe(true);
    expect(build, source).toContain(`${name}: "${source}"`);
  }
});

test("what is started directly is executable", () => {
  for (const path of [".ci/run", "bin/heddle.mjs"]) accessSync(join(root, path), constants.X_OK);
});

test("users install koffi and nothing else", () => {
  expect(Object.keys(manifest.dependencies ?? {})).toEqual(["koffi"]);
  expect(manifest.optionalDependencies).toBeUndefined();
});

test("versions are exact", () => {
  const versions = { ...manifest.dependencies, ...manifest.devDependencies, ...rivals.optionalDependencies };
  expect(Object.entries(versions).filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
});

/** npm leaves out of the lock file what it could not look up, and `npm ci` then refuses. */
test("the lock file has every package that any platform needs", () => {
  const has = (from: string, name: string): boolean => {
    for (let at = from; ; at = at.slice(0, at.lastIndexOf("/node_modules/"))) {
      if (`${at}/node_modules/${name}` in lock) return true;
      if (!at.includes("/node_modules/")) return `node_modules/${name}` in lock;
    }
  };
  const missing = Object.entries(lock).flatMap(([path, { dependencies, optionalDependencies }]) =>
    Object.keys({ ...dependencies, ...optionalDependencies })
      .filter((name) => !has(path, name))
      .map((name) => `${path} needs ${name}`),
  );
  expect(missing).toEqual([]);
});
