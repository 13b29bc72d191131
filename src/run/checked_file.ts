// Plain data and bytes ↔ a file that is read back as it was written, by its owner alone, or not at all.
import { createHash, randomBytes } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { assertOurs, UNFINISHED, Unusable } from "../devices/cache_folder.ts";

/** 64 bytes: the magic number with the format's version, a hash of the head, and the head's length. The head is JSON; parts follow it. */
const MAGIC = "heddle cache 1\n\0";
const PRELUDE_BYTES = 64;
const HASH_AT = MAGIC.length;
const LENGTH_AT = HASH_AT + 32;
/** Small enough to be in the processor's cache still when it is hashed. */
const PIECE_BYTES = 512 << 10;

interface Part {
  readonly bytes: number;
  readonly sha256: string;
}
interface Head {
  readonly data: unknown;
  readonly parts: readonly Part[];
}

const hashOf = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();

function readFully(fd: number, into: Uint8Array): void {
  for (let at = 0; at < into.length; ) {
    const count = readSync(fd, into, at, into.length - at, null);
    if (count === 0) throw new Unusable("it is cut short");
    at += count;
  }
}

/** A file being read. Throws Unusable. */
export class CheckedFile {
  private next = 0;

  private constructor(
    private readonly fd: number,
    private readonly head: Head,
  ) {}

  /** Null: there is none. */
  static open(path: string): CheckedFile | null {
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0));
    } catch (e) {
      const { code } = e as NodeJS.ErrnoException; // openSync throws nothing else
      if (code === "ENOENT") return null;
      throw new Unusable(`it cannot be opened (${code})`);
    }
    try {
      return new CheckedFile(fd, readHead(fd));
    } catch (e) {
      closeSync(fd);
      throw e;
    }
  }

  get data(): unknown {
    return this.head.data;
  }
  /** Bytes of each part. */
  get parts(): readonly number[] {
    return this.head.parts.map((p) => p.bytes);
  }

  /** Reads the next part: `into` has its length. */
  read(into: Uint8Array): void {
    const part = this.head.parts[this.next++];
    if (part?.bytes !== into.length) throw new Unusable("a part of it has another length");
    const hash = createHash("sha256");
    for (let at = 0; at < into.length; at += PIECE_BYTES) {
      const piece = into.subarray(at, at + PIECE_BYTES);
      readFully(this.fd, piece);
      hash.update(piece);
    }
    if (hash.digest("hex") !== part.sha256) throw new Unusable("it is damaged");
  }

  close(): void {
    closeSync(this.fd);
  }
}

function readHead(fd: number): Head {
  const stats = fstatSync(fd);
  if (!stats.isFile()) throw new Unusable("it is not a file");
  assertOurs(stats);
  const prelude = Buffer.alloc(PRELUDE_BYTES);
  readFully(fd, prelude);
  if (prelude.toString("latin1", 0, HASH_AT) !== MAGIC) throw new Unusable("it is no cache file of this format");
  const length = prelude.readUInt32LE(LENGTH_AT);
  if (PRELUDE_BYTES + length > stats.size) throw new Unusable("it is cut short");
  const text = Buffer.alloc(length);
  readFully(fd, text);
  if (!hashOf(text).equals(prelude.subarray(HASH_AT, LENGTH_AT))) throw new Unusable("it is damaged");
  const head = JSON.parse(text.toString()) as Head; // what writeChecked wrote, by its hash
  const bytes = head.parts.reduce((n, p) => n + p.bytes, PRELUDE_BYTES + length);
  if (bytes !== stats.size) throw new Unusable("it is cut short");
  return head;
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Pieces as copies: parts may lie in memory that the system's file functions do not take. */
function* piecesOf(part: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < part.length; at += PIECE_BYTES) yield part.slice(at, at + PIECE_BYTES);
}

/** Piece by piece, so that the event loop turns. */
async function hashInTurns(part: Uint8Array): Promise<string> {
  const hash = createHash("sha256");
  for (const piece of piecesOf(part)) {
    hash.update(piece);
    await nextTurn();
  }
  return hash.digest("hex");
}

async function writeFully(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at)).bytesWritten;
}

/** Writes the file under a name of its own, then renames it: readers see all of it or nothing. Parts must not change meanwhile. Rejects with what the system says. */
export async function writeChecked(path: string, data: unknown, parts: readonly Uint8Array[]): Promise<void> {
  const described: Part[] = [];
  for (const part of parts) described.push({ bytes: part.length, sha256: await hashInTurns(part) });
  const head = Buffer.from(JSON.stringify({ data, parts: described } satisfies Head));
  const prelude = Buffer.alloc(PRELUDE_BYTES);
  prelude.write(MAGIC, "latin1");
  hashOf(head).copy(prelude, HASH_AT);
  prelude.writeUInt32LE(head.length, LENGTH_AT);
  const temporary = `${path}.${process.pid}-${randomBytes(4).toString("hex")}${UNFINISHED}`;
  try {
    const file = await open(temporary, "wx", 0o600);
    try {
      await writeFully(file, Buffer.concat([prelude, head]));
      for (const part of parts) for (const piece of piecesOf(part)) await writeFully(file, piece);
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (e) {
    await rm(temporary, { force: true }).catch(() => {});
    throw e;
  }
}
