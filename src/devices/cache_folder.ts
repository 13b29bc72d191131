// The folder of all that outlives a process: where it is, whether only the user may write to it, what it holds, and that it stays below one bound.
import { mkdirSync, type Stats, statSync } from "node:fs";
import { readdir, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";

/** Programs lie in the folder itself; machine code of kernels (cubin), and what libraries' calls were found to be fastest with (plan), in folders of their own. */
export const KINDS = ["heddle", "cubin", "plan"] as const;
export type Kind = (typeof KINDS)[number];

/** Of all kinds together. */
export const MOST_BYTES = 1 << 30;
/** Ends the name of a file that is being written. */
export const UNFINISHED = ".tmp";
/** One that is older than this was left behind by a process that ended. */
const ABANDONED_MS = 3_600_000;

/** Why something that is kept is not used. */
export class Unusable extends Error {}

/** Throws where another user could have written it: what is in the cache is executed. */
export function assertOurs({ uid, mode }: Stats): void {
  if (!process.getuid) return; // Windows: the user's folders are the user's
  if (uid !== process.getuid()) throw new Unusable("it belongs to another user");
  if (mode & 0o022) throw new Unusable("others may write to it");
}

/** What was asked for (false: nowhere), or what HEDDLE_CACHE says ("off", or a folder), or the system's folder for caches. Null: nowhere. */
export function chooseFolder(option?: false | string): string | null {
  const wanted = option ?? process.env.HEDDLE_CACHE;
  if (wanted === false || wanted === "off") return null;
  return wanted ? resolve(wanted) : systemFolder();
}

function systemFolder(): string {
  const { XDG_CACHE_HOME, LOCALAPPDATA } = process.env;
  if (process.platform === "win32") return join(LOCALAPPDATA || join(homedir(), "AppData", "Local"), "heddle", "cache");
  if (process.platform === "darwin") return join(homedir(), "Library", "Caches", "heddle");
  return join(XDG_CACHE_HOME && isAbsolute(XDG_CACHE_HOME) ? XDG_CACHE_HOME : join(homedir(), ".cache"), "heddle");
}

export const folderOf = (root: string, kind: Kind): string => (kind === "heddle" ? root : join(root, kind));

/** Makes a folder that is not there yet. Throws where there can be none, or not only the user may write to it. */
export function makeOurs(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  assertOurs(statSync(folder));
}

export interface KeptFile {
  readonly kind: Kind;
  readonly path: string;
  readonly bytes: number;
  /** When it was used last. */
  readonly time: number;
}

/** Of all kinds, and unfinished ones. */
export async function keptFiles(root: string): Promise<readonly KeptFile[]> {
  const all = await Promise.all(
    KINDS.map(async (kind) => {
      const folder = folderOf(root, kind);
      const names = await readdir(folder).catch(() => []); // nothing of this kind yet
      const own = names.filter((name) => name.endsWith(`.${kind}`) || name.endsWith(UNFINISHED));
      return Promise.all(
        own.map(async (name) => {
          const path = join(folder, name);
          const stats = await stat(path).catch(() => null); // another process may have removed it
          return { kind, path, bytes: stats?.size ?? 0, time: stats?.mtimeMs ?? 0 };
        }),
      );
    }),
  );
  return all.flat();
}

/** Removes what was used longest ago, of whatever kind, until the rest fits. */
export async function removeOldest(root: string, mostBytes = MOST_BYTES): Promise<void> {
  let total = 0;
  for (const { path, bytes, time } of [...(await keptFiles(root))].sort((a, b) => b.time - a.time)) {
    const isAbandoned = path.endsWith(UNFINISHED) && Date.now() - time > ABANDONED_MS;
    total += bytes;
    if (total > mostBytes || isAbandoned) await rm(path, { force: true });
  }
}

/** Removes all of it, and returns how many bytes that were. */
export async function clearFolder(root: string): Promise<number> {
  const files = await keptFiles(root);
  for (const { path } of files) await rm(path, { force: true });
  return files.reduce((n, { bytes }) => n + bytes, 0);
}
