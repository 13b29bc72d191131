// Finds packages that may be installed beside heddle or in the user's project, and heddle's own files.
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { HeddleError } from "../ir/error.ts";

/** Where to look: from heddle itself, then from the current folder, for a heddle that is installed globally. */
const starts = (): string[] => [import.meta.url, pathToFileURL(join(process.cwd(), "any.js")).href];

/** The file that `require(name)` loads, or undefined where the package is not installed. */
export function findPackage(name: string): string | undefined {
  for (const start of starts()) {
    try {
      return createRequire(start).resolve(name);
    } catch {
      // look elsewhere
    }
  }
  return undefined;
}

/** Version in the package.json that belongs to a file of the package. */
function versionAt(file: string, name: string): string {
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    const manifest = join(folder, "package.json");
    if (existsSync(manifest)) {
      const read = JSON.parse(readFileSync(manifest, "utf8")) as { name?: string; version?: string }; // npm's format
      if (read.name === name) return read.version ?? "unknown";
    }
    if (folder === dirname(folder)) return "unknown";
  }
}

/** Version of an installed package, or null. */
export function packageVersion(name: string): string | null {
  const file = findPackage(name);
  return file === undefined ? null : versionAt(file, name);
}

/** heddle's own version; this file lies in src/cli, in dist, or in a bundled benchmark. */
export const heddleVersion = (): string => versionAt(fileURLToPath(import.meta.url), "heddle");

/** Loads an installed package. Throws HeddleError("missing"). */
export async function importPackage<T>(name: string): Promise<T> {
  const file = findPackage(name);
  if (!file) throw new HeddleError("missing", `${name} is not installed; npm install ${name}`);
  try {
    const loaded = (await import(pathToFileURL(file).href)) as T & { readonly default?: T }; // the caller names the package's own type
    return loaded.default ?? loaded;
  } catch (cause) {
    throw new HeddleError("missing", `${name} is installed but does not load: ${String(cause).split("\n")[0]}`, { cause });
  }
}

/** The built package, which fresh processes import: beside this file, or in the repository that it was started from. */
export function builtPackage(): string | undefined {
  const here = dirname(fileURLToPath(import.meta.url));
  return ["index.js", "../../dist/index.js", "../../../dist/index.js"].map((at) => join(here, at)).find((file) => existsSync(file));
}
