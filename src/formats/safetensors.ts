// safetensors bytes ↔ named tensors and text metadata; a file is written whole or not at all, and read whole or tensor by tensor.
import { open } from "node:fs/promises";
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { bytesOf, elementCount, type TensorData, unalignedTensor } from "../ir/tensor.ts";
import { writeFileAtomic } from "./write_file.ts";

export type Tensors = Readonly<Record<string, TensorData>>;
export type Metadata = Readonly<Record<string, string>>;

export interface Safetensors {
  readonly tensors: Tensors;
  readonly metadata: Metadata;
}

/** A file whose tensors are read one by one, so that a large one need not fit into memory. */
export interface OpenSafetensors extends AsyncDisposable {
  readonly metadata: Metadata;
  readonly names: readonly string[];
  /** What is known without reading the elements; undefined for a name that the file does not have. */
  typeOf(name: string): { readonly dtype: DType; readonly shape: readonly number[] } | undefined;
  read(name: string): Promise<TensorData>;
  close(): Promise<void>;
}

const CODES: Readonly<Record<DType, string>> = {
  f64: "F64", f32: "F32", f16: "F16", bf16: "BF16", i64: "I64", u64: "U64", i32: "I32", u32: "U32", i16: "I16", u16: "U16", i8: "I8",
  u8: "U8", bool: "BOOL", f8e4m3fn: "F8_E4M3", f8e4m3fnuz: "F8_E4M3FNUZ", f8e5m2: "F8_E5M2", f8e5m2fnuz: "F8_E5M2FNUZ",
}; // biome-ignore format: a table

const DTYPE_OF: ReadonlyMap<string, DType> = new Map((Object.keys(CODES) as DType[]).map((dtype) => [CODES[dtype], dtype]));

/** As the reference implementation: no honest header is longer. */
const MAX_HEADER_BYTES = 100e6;
const MAX_RANK = 64;
/** Where the header's length ends and its JSON starts. */
const PREFIX_BYTES = 8;

interface Entry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** From the end of the header. */
  readonly start: number;
  readonly end: number;
}

interface Header {
  readonly entries: readonly Entry[];
  readonly metadata: Metadata;
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);
const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** How long the header is that follows these 8 bytes, in a file of `fileBytes`. */
function headerLength(prefix: Uint8Array, fileBytes: number, what: string): number {
  if (prefix.length < PREFIX_BYTES) throw new HeddleError("bad-input", `${what}: not a safetensors file (${fileBytes} bytes)`);
  const length = Number(new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES) throw new HeddleError("limit", `${what}: not a safetensors file, or a header of ${length} bytes`);
  if (length > fileBytes - PREFIX_BYTES) throw new HeddleError("bad-input", `${what}: cut short inside its header`);
  return length;
}

function parseHeader(json: Uint8Array, dataBytes: number, what: string): Header {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));
  } catch (cause) {
    throw new HeddleError("bad-input", `${what}: its safetensors header is not JSON`, { cause });
  }
  if (!isRecord(parsed)) throw new HeddleError("bad-input", `${what}: its safetensors header is not an object`);
  const { __metadata__: texts = {}, ...rest } = parsed;
  if (!isRecord(texts) || !Object.values(texts).every((text) => typeof text === "string"))
    throw new HeddleError("bad-input", `${what}: __metadata__ may hold texts only`);
  const entries = Object.entries(rest).map(([name, row]) => parseEntry(name, row, what));
  checkCover(entries, dataBytes, what);
  return { entries, metadata: texts as Metadata }; // checked above
}

function parseEntry(name: string, row: unknown, what: string): Entry {
  const bad = (why: string) => new HeddleError("bad-input", `${what}: tensor ${JSON.stringify(name)}: ${why}`);
  if (!isRecord(row)) throw bad("its description is not an object");
  const { dtype: code, shape, data_offsets: offsets } = row;
  const dtype = DTYPE_OF.get(code as string);
  if (!dtype)
    throw new HeddleError(
      "unsupported",
      `${what}: tensor ${JSON.stringify(name)}: type ${String(code)} (supported: ${[...DTYPE_OF.keys()]})`,
    );
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isSize)) throw bad("its shape is not a list of sizes");
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) throw bad("its data_offsets are not two numbers");
  const [start, end] = offsets;
  const bytes = elementCount(shape) * DTYPES[dtype].bytes;
  if (end - start !== bytes) throw bad(`${end - start} bytes of data, ${dtype}[${shape}] has ${bytes}`);
  return { name, dtype, shape, start, end };
}

/** Tensors must lie side by side and fill the file: no overlaps, no places to hide other data. */
function checkCover(entries: readonly Entry[], dataBytes: number, what: string): void {
  let at = 0;
  for (const { name, start, end } of entries.toSorted((a, b) => a.start - b.start || a.end - b.end)) {
    if (start !== at) throw new HeddleError("bad-input", `${what}: tensor ${JSON.stringify(name)} starts at byte ${start}, not at ${at}`);
    at = end;
  }
  if (at !== dataBytes) throw new HeddleError("bad-input", `${what}: ${dataBytes} bytes of data, its tensors have ${at}`);
}

function tensorOf({ name, dtype, shape, start, end }: Entry, data: Uint8Array, what: string): TensorData {
  const { array, bytes: size } = DTYPES[dtype];
  const bytes = data.subarray(start, end);
  if (dtype === "bool" && bytes.some((b) => b > 1))
    throw new HeddleError("bad-input", `${what}: tensor ${JSON.stringify(name)}: a BOOL is neither 0 nor 1`);
  if (bytes.byteOffset % size !== 0) return unalignedTensor(dtype, shape, bytes);
  return { dtype, shape, data: new array(bytes.buffer, bytes.byteOffset, bytes.length / size) };
}

/** The tensors of a file's bytes, as views of them: nothing is copied. `what` names the file in errors. Throws HeddleError ("bad-input", "unsupported", "limit"). */
export function readSafetensors(bytes: Uint8Array, what = "safetensors"): Safetensors {
  const start = PREFIX_BYTES + headerLength(bytes, bytes.length, what);
  const { entries, metadata } = parseHeader(bytes.subarray(PREFIX_BYTES, start), bytes.length - start, what);
  const data = bytes.subarray(start);
  return { tensors: Object.fromEntries(entries.map((entry) => [entry.name, tensorOf(entry, data, what)])), metadata };
}

/** Opens a file and reads its header. Throws HeddleError ("missing", and as readSafetensors). */
export async function openSafetensors(path: string): Promise<OpenSafetensors> {
  const file = await open(path).catch((cause) => {
    throw new HeddleError("missing", `${path}: cannot be opened: ${(cause as Error).message}`, { cause });
  });
  /** Reads in pieces: one read call ends at 2 GiB. */
  const readAt = async (position: number, length: number): Promise<Uint8Array> => {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await file.read(bytes, done, Math.min(length - done, 1 << 30), position + done);
      if (bytesRead === 0) throw new HeddleError("bad-input", `${path}: became shorter while it was read`);
      done += bytesRead;
    }
    return bytes;
  };
  try {
    const { size } = await file.stat();
    const length = headerLength(await readAt(0, Math.min(size, PREFIX_BYTES)), size, path);
    const start = PREFIX_BYTES + length;
    const { entries, metadata } = parseHeader(await readAt(PREFIX_BYTES, length), size - start, path);
    const byName = new Map(entries.map((entry) => [entry.name, entry]));
    const close = () => file.close();
    return {
      metadata,
      names: entries.map(({ name }) => name),
      typeOf: (name) => byName.get(name),
      async read(name) {
        const entry = byName.get(name);
        if (!entry) throw new HeddleError("missing", `${path}: has no tensor ${JSON.stringify(name)}`);
        const bytes = await readAt(start + entry.start, entry.end - entry.start);
        return tensorOf({ ...entry, start: 0, end: bytes.length }, bytes, path);
      },
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The parts of a file, in order; the tensors' bytes are not copied. Same tensors, same bytes, whatever order they come in. */
function partsOf(tensors: Tensors, metadata: Metadata): Uint8Array[] {
  const named = Object.entries(tensors).toSorted(
    ([a, x], [b, y]) => DTYPES[y.dtype].bytes - DTYPES[x.dtype].bytes || (a < b ? -1 : 1), // large elements first: all are aligned without gaps
  );
  let at = 0;
  const rows = named.map(([name, tensor]): [string, unknown] => {
    const bytes = elementCount(tensor.shape) * DTYPES[tensor.dtype].bytes;
    if (name === "__metadata__") throw new HeddleError("bad-argument", "safetensors: a tensor cannot be called __metadata__");
    if (bytesOf(tensor).length !== bytes)
      throw new HeddleError(
        "bad-input",
        `safetensors: ${name}: ${bytesOf(tensor).length} bytes, ${tensor.dtype}[${tensor.shape}] has ${bytes}`,
      );
    const start = at;
    at += bytes;
    return [name, { dtype: CODES[tensor.dtype], shape: tensor.shape, data_offsets: [start, at] }];
  });
  const texts = Object.keys(metadata).length > 0 ? [["__metadata__", metadata] as [string, unknown]] : [];
  const json = Buffer.from(JSON.stringify(Object.fromEntries([...texts, ...rows])));
  const length = Math.ceil(json.length / 8) * 8;
  const head = Buffer.alloc(PREFIX_BYTES + length, " ");
  head.writeBigUInt64LE(BigInt(length));
  head.set(json, PREFIX_BYTES);
  return [head, ...named.map(([, tensor]) => bytesOf(tensor))];
}

/** The bytes of a file. */
export const writeSafetensors = (tensors: Tensors, metadata: Metadata = {}): Uint8Array => {
  const joined = Buffer.concat(partsOf(tensors, metadata));
  return new Uint8Array(joined.buffer, joined.byteOffset, joined.length);
};

/** Writes a file, or leaves the one that is there: a process that is killed meanwhile leaves no broken file. Throws HeddleError ("io"). */
export const saveSafetensors = (path: string, tensors: Tensors, metadata: Metadata = {}): Promise<void> =>
  writeFileAtomic(path, partsOf(tensors, metadata));

/** Reads a whole file. */
export async function loadSafetensors(path: string): Promise<Safetensors> {
  await using file = await openSafetensors(path);
  const tensors: [string, TensorData][] = [];
  for (const name of file.names) tensors.push([name, await file.read(name)]);
  return { tensors: Object.fromEntries(tensors), metadata: file.metadata };
}
