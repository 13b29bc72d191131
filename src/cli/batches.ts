// Files and folders that a command line names, or random numbers → batches of inputs.
import { readdir, readFile, stat } from "node:fs/promises";
import { extname, join } from "node:path";
import { readImage } from "../formats/image.ts";
import { readNpy } from "../formats/npy.ts";
import { readNpz } from "../formats/npz.ts";
import { DTYPES } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import type { InputType } from "./open_model.ts";
import { type PictureOptions, pictureTensor } from "./picture.ts";
import { randomInputs } from "./random.ts";

export type Inputs = Readonly<Record<string, TensorData>>;

/** Examples along the first axis of each input. */
export interface BatchOptions {
  /** With the shapes of one batch. */
  readonly inputs: readonly InputType[];
  readonly picture: PictureOptions;
  /** Examples to take at most. */
  readonly samples: number;
}

const PICTURES = new Set([".jpg", ".jpeg", ".png"]);

/** Batches of the inputs' first size; examples that do not fill one are left out. Throws HeddleError ("missing", "bad-input"). */
export async function readBatches(paths: readonly string[], options: BatchOptions): Promise<Inputs[]> {
  const size = options.inputs[0].shape[0];
  const batches: Inputs[] = [];
  let pending: Inputs[] = [];
  for await (const example of examplesOf(paths, options)) {
    pending.push(example);
    if (pending.length === size) batches.push(joined(pending, options.inputs));
    if (pending.length === size) pending = [];
    if (batches.length * size + pending.length >= options.samples) break;
  }
  return batches;
}

async function* examplesOf(paths: readonly string[], options: BatchOptions): AsyncGenerator<Inputs> {
  for (const path of paths) {
    const found = await stat(path).catch((cause) => {
      throw new HeddleError("missing", `--data: there is no ${path}`, { cause });
    });
    const files = found.isDirectory() ? (await readdir(path)).sort().map((name) => join(path, name)) : [path];
    const known = files.filter((file) => PICTURES.has(kindOf(file)) || [".npy", ".npz"].includes(kindOf(file)));
    if (known.length === 0) throw new HeddleError("bad-input", `--data: ${path} holds no .npy, .npz, .jpg or .png`);
    for (const file of known) yield* examplesOfFile(file, options);
  }
}

const kindOf = (file: string): string => extname(file).toLowerCase();

async function* examplesOfFile(file: string, { inputs, picture }: BatchOptions): AsyncGenerator<Inputs> {
  const bytes = await readFile(file);
  const kind = kindOf(file);
  if (kind === ".npz") {
    yield* cut(file, readNpz(bytes), inputs);
    return;
  }
  if (inputs.length !== 1)
    throw new HeddleError(
      "bad-input",
      `--data: ${file}: the model has ${inputs.length} inputs (${inputs.map((i) => i.name).join(", ")}); wanted .npz with all of them`,
    );
  const [input] = inputs;
  const one = { ...input, shape: [1, ...input.shape.slice(1)] };
  const tensor = kind === ".npy" ? readNpy(bytes, file) : pictureTensor(await readImage(bytes, file), one, picture);
  yield* cut(file, { [input.name]: tensor }, inputs);
}

/** Examples one by one, with a first size of 1. */
function* cut(file: string, arrays: Readonly<Record<string, TensorData>>, inputs: readonly InputType[]): Generator<Inputs> {
  for (const { name, dtype, shape } of inputs) {
    const wanted = `${dtype}[N,${shape.slice(1)}]`;
    const given = Object.hasOwn(arrays, name) ? arrays[name] : undefined;
    if (!given) throw new HeddleError("bad-input", `--data: ${file} has no array ${name}, wanted ${wanted}`);
    if (given.dtype !== dtype || given.shape.slice(1).join() !== shape.slice(1).join() || given.shape.length !== shape.length)
      throw new HeddleError("bad-input", `--data: ${file}: ${name} is ${given.dtype}[${given.shape}], wanted ${wanted}; see --shape`);
  }
  const count = Math.min(...inputs.map(({ name }) => arrays[name].shape[0]));
  for (let i = 0; i < count; i++)
    yield Object.fromEntries(
      inputs.map(({ name, dtype, shape }) => {
        const length = elementCount(shape.slice(1));
        return [name, { dtype, shape: [1, ...shape.slice(1)], data: arrays[name].data.subarray(i * length, (i + 1) * length) }];
      }),
    );
}

function joined(examples: readonly Inputs[], inputs: readonly InputType[]): Inputs {
  return Object.fromEntries(
    inputs.map(({ name, dtype, shape }) => {
      const data = new DTYPES[dtype].array(elementCount(shape));
      const length = data.length / examples.length;
      for (const [i, example] of examples.entries()) for (let k = 0; k < length; k++) data[i * length + k] = example[name].data[k];
      return [name, { dtype, shape, data }];
    }),
  );
}

/** As many batches of random numbers. */
export const generatedBatches = (inputs: readonly InputType[], samples: number, seed: number): Inputs[] =>
  Array.from({ length: Math.max(1, Math.floor(samples / inputs[0].shape[0])) }, (_, i) => randomInputs(inputs, seed + i));
