// Writes a whole file or nothing: under a temporary name first, then renamed.
import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { access, constants, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { HeddleError } from "../ir/error.ts";

/** In the same folder, because a rename is only atomic within one file system. */
const temporaryName = (path: string): string => `${path}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`;

function ioError(path: string, cause: unknown): HeddleError {
  const code = (cause as NodeJS.ErrnoException).code;
  const why = code === "ENOENT" ? "its folder does not exist" : cause instanceof Error ? cause.message : String(cause);
  return new HeddleError("io", `${path}: cannot be written: ${why}`, { cause });
}

/** Whether a file can be made there is better known before what it is to hold takes an hour. Throws HeddleError ("io"). */
export async function checkWritable(path: string): Promise<void> {
  await access(dirname(path), constants.W_OK).catch((cause) => {
    throw ioError(path, cause);
  });
}

/** Readers see the old content or the new one, never a part, also where the process ends meanwhile; `data` may come in parts. Throws HeddleError ("io"). */
export async function writeFileAtomic(path: string, data: Uint8Array | string | readonly Uint8Array[]): Promise<void> {
  const temporary = temporaryName(path);
  const removeNow = (): void => rmSync(temporary, { force: true });
  process.once("exit", removeNow);
  try {
    const file = await open(temporary, "wx");
    try {
      for (const part of Array.isArray(data) ? data : [data]) await file.writeFile(part); // each goes on where the last one ended
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw ioError(path, cause);
  } finally {
    process.off("exit", removeNow);
  }
}

/** As writeFileAtomic, at once. */
export function writeFileAtomicSync(path: string, data: Uint8Array | string): void {
  const temporary = temporaryName(path);
  try {
    const fd = openSync(temporary, "wx");
    try {
      writeFileSync(fd, data);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw ioError(path, cause);
  }
}
