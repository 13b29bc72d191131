// A model's path or bytes → its inputs and outputs, from the cache where they are known, and its content when something needs it.
import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { dirname } from "node:path";
import { nextTurn } from "./devices/turns.ts";
import type { OnnxModel } from "./formats/onnx/read.ts";
import { HeddleError } from "./ir/error.ts";
import type { ModelValue } from "./model_inputs.ts";
import { type CacheOptions, openCache, type ProgramCache } from "./run/cache.ts";

export interface Signature {
  readonly inputs: readonly ModelValue[];
  readonly outputs: readonly ModelValue[];
}

export interface SourceOptions extends CacheOptions {
  /** Where external data lies, for models given as bytes. Default: the file's folder. */
  readonly directory?: string;
}

/** A cache, and what it knows this model by. */
export interface CachedAs {
  readonly cache: ProgramCache;
  /** Hash of the file's content. */
  readonly hash: string;
}

const PIECE_BYTES = 512 << 10;

/** A model that was found and, where nothing was known of it, read. */
export class ModelSource implements Signature {
  private content: OnnxModel | undefined;

  private constructor(
    private readonly source: string | Uint8Array,
    private readonly directory: string | undefined,
    readonly cached: CachedAs | null,
    private signature: Signature | null,
  ) {}

  /** Throws HeddleError: "missing", and where the model has to be read all that reading throws. */
  static async open(source: string | Uint8Array, options: SourceOptions): Promise<ModelSource> {
    const directory = options.directory ?? (typeof source === "string" ? dirname(source) : undefined);
    const cache = openCache(options);
    if (!cache) return ModelSource.read(new ModelSource(source, directory, null, null));
    const hash = typeof source === "string" ? hashFile(source) : createHash("sha256").update(source).digest("hex");
    const signature = await cache.readFacts<Signature>(hash);
    const found = new ModelSource(source, directory, { cache, hash }, signature);
    return signature ? found : ModelSource.read(found);
  }

  private static async read(model: ModelSource): Promise<ModelSource> {
    const { inputs, outputs } = await model.onnx();
    const plain = ({ name, dtype, shape }: ModelValue): ModelValue => ({ name, dtype, shape });
    model.signature = { inputs: inputs.map(plain), outputs: outputs.map(plain) };
    return model;
  }

  private get known(): Signature {
    return this.signature!; // open() fills it before anyone has the object
  }
  get inputs(): readonly ModelValue[] {
    return this.known.inputs;
  }
  get outputs(): readonly ModelValue[] {
    return this.known.outputs;
  }

  /** The parsed model. Throws HeddleError: "bad-model", "unsupported", "limit". */
  async onnx(): Promise<OnnxModel> {
    if (this.content) return this.content;
    const { parseModel } = await import("./compile_model.ts");
    await nextTurn(); // starting the compiler, reading the file and parsing it take a turn each
    const bytes = this.bytes();
    await nextTurn();
    this.content ??= parseModel(bytes, this.directory);
    return this.content;
  }

  /** Lets go of the content where it can be read again: it is as large as all weights. */
  release(): void {
    if (this.cached) this.content = undefined;
  }

  private bytes(): Uint8Array {
    if (typeof this.source !== "string") return this.source;
    const path = this.source;
    const bytes = orMissing(path, () => readFileSync(path));
    if (this.cached && createHash("sha256").update(bytes).digest("hex") !== this.cached.hash)
      throw new HeddleError("bad-model", `model ${path}: the file has changed since it was loaded`);
    return bytes;
  }
}

/** Reads through a small buffer: a model from the cache is never whole in memory. */
function hashFile(path: string): string {
  return orMissing(path, () => {
    const fd = openSync(path, "r");
    try {
      const hash = createHash("sha256");
      const piece = new Uint8Array(PIECE_BYTES);
      for (let count = -1; count !== 0; ) {
        count = readSync(fd, piece, 0, PIECE_BYTES, null);
        hash.update(piece.subarray(0, count));
      }
      return hash.digest("hex");
    } finally {
      closeSync(fd);
    }
  });
}

function orMissing<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException; // the file functions throw nothing else
    const why = code === "ENOENT" ? "there is no such file" : code === "EISDIR" ? "it is a folder" : `it cannot be read (${code})`;
    throw new HeddleError("missing", `model ${path}: ${why}`, { cause });
  }
}
