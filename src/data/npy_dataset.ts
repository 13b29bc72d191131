// .npy files, one row for each example → dataset that reads rows from disk when they are asked for.
import { type FileHandle, open } from "node:fs/promises";
import { type NpyLayout, readNpyLayout } from "../formats/npy.ts";
import { DTYPES } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import { builtIn, type Dataset, type Example, type Recipe } from "./dataset.ts";

interface Column {
  readonly path: string;
  readonly file: FileHandle;
  readonly layout: NpyLayout;
}

/** Headers are read from this many bytes; longer ones are not written by NumPy. */
const HEAD_BYTES = 65536 + 12;

async function openColumn(path: string): Promise<Column> {
  const file = await open(path).catch((cause) => {
    throw new HeddleError("missing", `${path}: cannot be opened: ${(cause as Error).message}`, { cause });
  });
  try {
    const head = new Uint8Array(HEAD_BYTES);
    const { bytesRead } = await file.read(head, 0, HEAD_BYTES, 0);
    const { size } = await file.stat();
    const layout = readNpyLayout(head.subarray(0, bytesRead), size, path);
    const { shape, isBig, isFortran } = layout;
    if (shape.length === 0) throw new HeddleError("bad-input", `${path}: a scalar; wanted a first axis of examples`);
    if (isBig || (isFortran && shape.length > 1))
      throw new HeddleError(
        "unsupported",
        `${path}: big-endian or column-major; write it with numpy.ascontiguousarray(x, "<f4") or the like`,
      );
    return { path, file, layout };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** One field for each file, with its type. Files may be larger than memory. */
export class NpyDataset<F extends string = string> implements Dataset<F> {
  readonly length: number;
  private readonly columns: ReadonlyMap<F, Column>;

  private constructor(columns: ReadonlyMap<F, Column>) {
    this.columns = columns;
    const [first, ...others] = columns.values();
    this.length = first.layout.shape[0];
    const odd = others.find(({ layout }) => layout.shape[0] !== this.length);
    if (odd) throw new HeddleError("bad-argument", `${odd.path}: ${odd.layout.shape[0]} rows, ${first.path} has ${this.length}`);
  }

  /** Opens field → path. Throws HeddleError ("missing", "bad-input", "unsupported"). */
  static async open<F extends string>(files: Readonly<Record<F, string>>): Promise<NpyDataset<F>> {
    const fields = Object.keys(files) as F[]; // exactly those of a record
    if (fields.length === 0) throw new HeddleError("bad-argument", "NpyDataset: wants one file at least");
    const opened = await Promise.allSettled(fields.map(async (field) => [field, await openColumn(files[field])] as const));
    const columns = new Map(opened.flatMap((result) => (result.status === "fulfilled" ? [result.value] : [])));
    try {
      for (const result of opened) if (result.status === "rejected") throw result.reason;
      return new NpyDataset(columns);
    } catch (error) {
      for (const { file } of columns.values()) await file.close();
      throw error;
    }
  }

  async get(index: number): Promise<Example<F>> {
    const rows = [...this.columns].map(async ([field, column]) => [field, await readRow(column, index)] as const);
    return Object.fromEntries(await Promise.all(rows)) as Example<F>; // of all fields
  }

  async close(): Promise<void> {
    for (const { file } of this.columns.values()) await file.close();
  }

  recipe(): Recipe {
    return builtIn("openNpyDataset", Object.fromEntries([...this.columns].map(([field, { path }]) => [field, path])));
  }
}

async function readRow({ path, file, layout }: Column, index: number): Promise<TensorData> {
  const { dtype, start } = layout;
  const shape = layout.shape.slice(1);
  const data = new DTYPES[dtype].array(elementCount(shape));
  const length = data.byteLength;
  const { bytesRead } = await file.read(data, 0, length, start + index * length);
  if (bytesRead !== length) throw new HeddleError("bad-input", `${path}: became shorter while it was read`);
  return { dtype, shape, data };
}
