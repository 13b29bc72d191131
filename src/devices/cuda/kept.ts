// What took long to find out about a GPU, kept in files of the cache's folder by what it was found for.
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, renameSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chooseFolder, folderOf, type Kind, MOST_BYTES, makeOurs, removeOldest, UNFINISHED } from "../cache_folder.ts";

type OfGpus = Exclude<Kind, "heddle">;

/** Null: nothing is to be kept, or nowhere that only the user may write to. */
function ownFolder(kind: OfGpus): { readonly root: string; readonly folder: string } | null {
  const root = chooseFolder();
  if (!root) return null;
  try {
    const folder = folderOf(root, kind);
    makeOurs(folder);
    return { root, folder };
  } catch {
    return null; // a cache that cannot be is none
  }
}

const digest = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");
const nameOf = (kind: OfGpus, key: string): string => `${digest(key)}.${kind}`;

/** A file holds its hash and itself. Null: there is none, or one that is damaged. */
export function readKept(kind: OfGpus, key: string): Uint8Array | null {
  const own = ownFolder(kind);
  if (!own) return null;
  const path = join(own.folder, nameOf(kind, key));
  try {
    const bytes = readFileSync(path);
    const content = bytes.subarray(64);
    if (bytes.toString("latin1", 0, 64) !== digest(content)) return null;
    const now = new Date();
    utimesSync(path, now, now); // used now: others go first
    return content;
  } catch {
    return null; // not there yet
  }
}

/** Bytes between two looks at how much there is. */
const LOOK_BYTES = MOST_BYTES / 64;
/** Written by this process since it looked; it looks at its first file. */
let unseen = LOOK_BYTES;

export function keep(kind: OfGpus, key: string, content: Uint8Array): void {
  const own = ownFolder(kind);
  if (!own) return;
  const path = join(own.folder, nameOf(kind, key));
  const temporary = `${path}.${randomBytes(6).toString("hex")}${UNFINISHED}`;
  try {
    writeFileSync(temporary, Buffer.concat([Buffer.from(digest(content), "latin1"), content]), { mode: 0o600 });
    renameSync(temporary, path);
  } catch {
    return; // a full disk: found out again the next time
  }
  unseen += content.length;
  if (unseen < LOOK_BYTES) return;
  unseen = 0;
  removeOldest(own.root).catch(() => {}); // what cannot be removed stays
}
