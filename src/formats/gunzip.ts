// Bytes of a file that may be gzipped → the bytes inside.
import { gunzipSync } from "node:zlib";
import { HeddleError } from "../ir/error.ts";

/** Unpacked; a small gzip file can claim to hold any amount. */
const MAX_BYTES = 2 ** 31 - 1;

/** Unpacks what starts as gzip does, and returns anything else as it is; `what` names the file in errors. Throws HeddleError ("bad-input", "limit"). */
export function gunzip(bytes: Uint8Array, what: string): Uint8Array {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    return gunzipSync(bytes, { maxOutputLength: MAX_BYTES });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE")
      throw new HeddleError("limit", `${what}: unpacks to more than ${MAX_BYTES} bytes`, { cause });
    throw new HeddleError("bad-input", `${what}: not a valid gzip file (${(cause as Error).message})`, { cause });
  }
}
