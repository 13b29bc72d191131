// What took long to find out about a GPU, kept in files of the user's folder for caches by what it was found for.
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** Machine code of kernels; what libraries' calls were found to be fastest with. */
type Kind = "cubin" | "plan";

/** In HEDDLE_CACHE (off: nowhere) or the user's folder for caches; null: there is none that only the user may write to. */
function folderOf(kind: Kind): string | null {
  const given = process.env.HEDDLE_CACHE;
  if (given === "off") return null;
  const folder = join(given ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "heddle"), kind);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { uid, mode } = statSync(folder);
    return (process.getuid && uid !== process.getuid()) || mode & 0o022 ? null : folder;
  } catch {
    return null; // a cache that cannot be is none
  }
}

const digest = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");

function pathOf(kind: Kind, key: string): string | null {
  const folder = folderOf(kind);
  return folder && join(folder, `${digest(key)}.${kind}`);
}

/** A file holds its hash and itself. Null: there is none, or one that is damaged. */
export function readKept(kind: Kind, key: string): Uint8Array | null {
  const path = pathOf(kind, key);
  if (!path) return null;
  try {
    const bytes = readFileSync(path);
    const content = bytes.subarray(64);
    return bytes.toString("latin1", 0, 64) === digest(content) ? content : null;
  } catch {
    return null; // not there yet
  }
}

export function keep(kind: Kind, key: string, content: Uint8Array): void {
  const path = pathOf(kind, key);
  if (!path) return;
  const temporary = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    writeFileSync(temporary, Buffer.concat([Buffer.from(digest(content), "latin1"), content]), { mode: 0o600 });
    renameSync(temporary, path);
  } catch {} // a full disk: found out again the next time
}
