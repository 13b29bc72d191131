// Files that a command line names → input tensors: NumPy arrays, pictures, raw numbers.
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { readImage } from "../formats/image.ts";
import { readNpy } from "../formats/npy.ts";
import { readNpz } from "../formats/npz.ts";
import type { OnnxValueInfo } from "../formats/onnx/read.ts";
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import { UsageError } from "./command.ts";
import { parseSizes } from "./options.ts";
import { type PictureOptions, pictureTensor } from "./picture.ts";

/** `NAME=FILE` or `FILE`. */
export interface FileText {
  readonly name: string | null;
  readonly file: string;
}

/** A name of an input or output goes before "="; without one, a file's name may hold "=" itself. */
export function parseFile(text: string, names: readonly string[], option: string): FileText {
  const name = names.find((n) => text.startsWith(`${n}=`));
  if (name !== undefined) return { name, file: text.slice(name.length + 1) };
  const [before, ...after] = text.split("=");
  if (after.length > 0 && !/^\.|[/\\]/.test(before))
    throw new UsageError(`${option}: the model has no ${before}, only ${names.join(", ")}`);
  return { name: null, file: text };
}

async function readBytes(file: string, name: string): Promise<Uint8Array> {
  try {
    return await readFile(file);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException; // readFile rejects with nothing else
    throw new HeddleError(
      "missing",
      `input ${name}: ${file}: ${code === "ENOENT" ? "there is no such file" : `cannot be read (${code})`}`,
      { cause },
    );
  }
}

/** `raw.bin:f32[1,3,48,320]` → parts; null: some other file. */
function rawParts(file: string): { path: string; dtype: DType; shape: number[] } | null {
  const match = /^(.+):(\w+)\[([\d,x]*)\]$/.exec(file);
  if (!match) return null;
  const [, path, dtype, sizes] = match;
  const shape = parseSizes(sizes);
  if (!Object.hasOwn(DTYPES, dtype) || !shape)
    throw new UsageError(`--input: ${file}: wanted FILE:TYPE[SIZES] with a type of ${Object.keys(DTYPES).join(", ")}`);
  return { path, dtype: dtype as DType, shape }; // checked above
}

function rawTensor(bytes: Uint8Array, name: string, { path, dtype, shape }: { path: string; dtype: DType; shape: number[] }): TensorData {
  const { array, bytes: size } = DTYPES[dtype];
  const count = elementCount(shape);
  if (bytes.length !== count * size)
    throw new HeddleError("bad-input", `input ${name}: ${path} has ${bytes.length} bytes, ${dtype}[${shape}] has ${count * size}`);
  return { dtype, shape, data: new array(bytes.slice().buffer, 0, count) };
}

const IMAGES = new Set([".jpg", ".jpeg", ".png"]);

/** One input from one file. */
async function readOne(file: string, input: OnnxValueInfo, picture: PictureOptions): Promise<TensorData> {
  const raw = rawParts(file);
  if (raw) return rawTensor(await readBytes(raw.path, input.name), input.name, raw);
  const kind = extname(file).toLowerCase();
  if (kind !== ".npy" && kind !== ".npz" && !IMAGES.has(kind))
    throw new UsageError(`--input: ${file}: wanted .npy, .npz, .jpg, .png, or FILE:TYPE[SIZES] for raw numbers`);
  const bytes = await readBytes(file, input.name);
  if (kind === ".npy") return readNpy(bytes, file);
  if (IMAGES.has(kind)) return pictureTensor(await readImage(bytes, file), input, picture);
  const arrays = readNpz(bytes);
  const found = arrays[input.name] ?? (Object.keys(arrays).length === 1 ? Object.values(arrays)[0] : undefined);
  if (!found)
    throw new HeddleError("bad-input", `input ${input.name}: ${file} has no array of that name, only ${Object.keys(arrays).join(", ")}`);
  return found;
}

/**
 * Tensors by input name. `inputs`: the model's, with the shapes that the command line gives. An .npz without a name may give several.
 * Throws UsageError, HeddleError ("missing", "bad-input").
 */
export async function readInputs(
  texts: readonly string[],
  inputs: readonly OnnxValueInfo[],
  picture: PictureOptions,
): Promise<Record<string, TensorData>> {
  const names = inputs.map((i) => i.name);
  const tensors: Record<string, TensorData> = {};
  for (const { name, file } of texts.map((text) => parseFile(text, names, "--input"))) {
    const targets = name !== null ? [name] : await unnamedTargets(file, names);
    for (const target of targets) {
      if (Object.hasOwn(tensors, target)) throw new UsageError(`--input: ${target} is given twice`);
      tensors[target] = await readOne(file, inputs[names.indexOf(target)], picture);
    }
  }
  return tensors;
}

/** Which inputs a file without a name is for. */
async function unnamedTargets(file: string, names: readonly string[]): Promise<readonly string[]> {
  if (names.length === 1) return names;
  if (extname(file).toLowerCase() !== ".npz")
    throw new UsageError(`--input: ${file}: the model has ${names.length} inputs (${names.join(", ")}); say which, NAME=${file}`);
  const arrays = readNpz(await readBytes(file, names.join(", ")));
  const found = names.filter((name) => Object.hasOwn(arrays, name));
  if (found.length === 0)
    throw new HeddleError("bad-input", `--input: ${file} has ${Object.keys(arrays).join(", ")}; the model wants ${names.join(", ")}`);
  return found;
}
