// What a page calls a model (an address, a dropped file, bytes) → its bytes.
import { HeddleError } from "../ir/error.ts";

/** A string is an address, as fetch() takes it. */
export type WebSource = string | URL | Blob | ArrayBuffer | Uint8Array;

/** Throws HeddleError("missing") where nothing can be read. */
export async function readBytes(source: WebSource): Promise<Uint8Array> {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Blob) return readBlob(source);
  return fetchBytes(source);
}

async function readBlob(blob: Blob): Promise<Uint8Array> {
  const name = "name" in blob ? String(blob.name) : "the blob";
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch (cause) {
    throw new HeddleError("missing", `model ${name}: the browser cannot read it (${messageOf(cause)})`, { cause });
  }
}

async function fetchBytes(address: string | URL): Promise<Uint8Array> {
  const refuse = (why: string, cause?: unknown): HeddleError => new HeddleError("missing", `model ${address}: ${why}`, { cause });
  let response: Response;
  try {
    response = await fetch(address);
  } catch (cause) {
    throw refuse(`it cannot be fetched (${messageOf(cause)})`, cause);
  }
  if (!response.ok) throw refuse(`the server answers ${response.status} ${response.statusText}`.trim());
  try {
    return new Uint8Array(await response.arrayBuffer());
  } catch (cause) {
    throw refuse(`the connection ended early (${messageOf(cause)})`, cause);
  }
}

const messageOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));
