// Where a tensor's data lies outside the model file → its bytes, never from outside the model's directory.
import { closeSync, openSync, readSync, realpathSync, type Stats, statSync } from "node:fs";
import { isAbsolute, join, sep } from "node:path";
import { HeddleError } from "../../ir/error.ts";

interface Entry {
  readonly key: string;
  readonly value: string;
}

/** Reads `wanted` bytes. Throws HeddleError: missing file, path outside `directory`, or a place outside the file. */
export function readExternal(entries: readonly Entry[], wanted: number, what: string, directory: string | undefined): Uint8Array {
  const field = (key: string) => entries.find((e) => e.key === key)?.value;
  const location = field("location");
  if (!location) throw new HeddleError("bad-model", `${what}: external data without a location`);
  const { path, stats } = locate(location, what, directory);
  const offset = wholeNumber(field("offset"), 0, "offset", what);
  const length = wholeNumber(field("length"), stats.size - offset, "length", what);
  if (length < 0 || offset + length > stats.size)
    throw new HeddleError(
      "bad-model",
      `${what}: bytes ${offset} to ${offset + length} are outside of ${location}, which has ${stats.size}`,
    );
  if (length !== wanted)
    throw new HeddleError("bad-model", `${what}: ${length} bytes of external data in ${location}, the shape wants ${wanted}`);
  return readPart(path, offset, length, what);
}

function wholeNumber(text: string | undefined, otherwise: number, key: string, what: string): number {
  if (text === undefined || text === "") return otherwise;
  const n = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(n))
    throw new HeddleError("bad-model", `${what}: external data has ${key} ${JSON.stringify(text.slice(0, 40))}, wanted a whole number`);
  return n;
}

/** The file, with links resolved, so that neither `..` nor a link leads out of the directory. */
function locate(location: string, what: string, directory: string | undefined): { path: string; stats: Stats } {
  const shown = JSON.stringify(location.slice(0, 200));
  if (directory === undefined)
    throw new HeddleError("missing", `${what}: its data is in the file ${shown}; give the model's directory to read it`);
  if (isAbsolute(location) || location.includes("\0") || location.split(/[/\\]/).includes(".."))
    throw new HeddleError("bad-model", `${what}: external data at ${shown} is outside of the model's directory`);
  let path: string;
  let stats: Stats;
  let root: string;
  try {
    root = realpathSync(directory);
    path = realpathSync(join(root, location));
    stats = statSync(path);
  } catch (cause) {
    throw new HeddleError("missing", `${what}: external data file ${shown} is not in the model's directory`, { cause });
  }
  if (!path.startsWith(root.endsWith(sep) ? root : root + sep))
    throw new HeddleError("bad-model", `${what}: external data at ${shown} leads outside of the model's directory`);
  if (!stats.isFile()) throw new HeddleError("bad-model", `${what}: external data at ${shown} is not a file`);
  return { path, stats };
}

function readPart(path: string, offset: number, length: number, what: string): Uint8Array {
  const out = new Uint8Array(length);
  try {
    const fd = openSync(path, "r");
    try {
      for (let done = 0; done < length; ) {
        const n = readSync(fd, out, done, Math.min(length - done, 1 << 30), offset + done);
        if (n === 0) throw new Error("the file ends early");
        done += n;
      }
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    throw new HeddleError("io", `${what}: cannot read external data: ${(cause as Error).message}`, { cause });
  }
  return out;
}
