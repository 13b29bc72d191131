// Which heddle this is: programs kept on disk belong to the code that compiled them.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** A hash of all sources, put in when the package is built. */
declare const HEDDLE_BUILD: string | undefined;

let known: string | undefined;

/** The same for the same code. */
export function buildId(): string {
  known ??= typeof HEDDLE_BUILD === "string" ? HEDDLE_BUILD : hashOwnCode();
  return known;
}

/** Run from sources: all of them; from a single bundled file: that file. */
function hashOwnCode(): string {
  const file = fileURLToPath(import.meta.url);
  const hash = createHash("sha256");
  if (!file.endsWith(".ts")) return hash.update(readFileSync(file)).digest("hex");
  const folder = fileURLToPath(new URL("..", import.meta.url));
  const sources = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  for (const name of sources.sort()) hash.update(name).update(readFileSync(join(folder, name)));
  return hash.digest("hex");
}
