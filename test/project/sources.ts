// The repository's source files as text, and which files of src each one imports.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));

export interface Source {
  /** From the root of the repository: `src/ir/graph.ts`. */
  readonly path: string;
  readonly text: string;
}

/** All TypeScript files under these folders, sorted. */
export function readSources(...folders: readonly string[]): Source[] {
  const paths = folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).map((name) => join(folder, name)),
  );
  return paths
    .filter((path) => path.endsWith(".ts"))
    .sort()
    .map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
}

/** Static and dynamic imports and re-exports. */
const IMPORT = /(?:^|[\s;}])(?:from|import)\s*\(?\s*"(\.[^"]+)"/g;
const TYPE_ONLY = /^(?:import|export) type [^;]*;/gm;

const targets = (path: string, text: string): string[] =>
  [...text.matchAll(IMPORT)].map(([, to]) => relative(root, join(root, dirname(path), to)));

/** Paths of the repository's files that a file imports; for their types alone too, since a reader follows those all the same. */
export const importsOf = ({ path, text }: Source): string[] => targets(path, text);

/** Those that are loaded with it when it runs. */
export const loadsOf = ({ path, text }: Source): string[] => targets(path, text.replace(TYPE_ONLY, ""));
