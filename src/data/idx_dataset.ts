// Two IDX files (MNIST, Fashion-MNIST), images and labels → dataset in memory.
import { readFile } from "node:fs/promises";
import { readIdx } from "../formats/idx.ts";
import { HeddleError } from "../ir/error.ts";
import type { TensorData } from "../ir/tensor.ts";
import { TensorDataset } from "./tensor_dataset.ts";

export interface IdxFiles {
  /** (examples, height, width); gzipped or not. */
  readonly images: string;
  /** (examples). */
  readonly labels: string;
}

async function read(path: string): Promise<TensorData> {
  const bytes = await readFile(path).catch((cause) => {
    throw new HeddleError("missing", `${path}: cannot be read: ${(cause as Error).message}`, { cause });
  });
  return readIdx(bytes, path);
}

/** `image` u8 (1, height, width), `label` i32 (). Throws HeddleError ("missing", "bad-input"). */
export class IdxDataset extends TensorDataset<"image" | "label"> {
  static async open({ images, labels }: IdxFiles): Promise<IdxDataset> {
    const [image, label] = await Promise.all([read(images), read(labels)]);
    if (image.shape.length !== 3)
      throw new HeddleError("bad-input", `${images}: images of shape (${image.shape}), wanted (examples, height, width)`);
    if (label.shape.length !== 1) throw new HeddleError("bad-input", `${labels}: labels of shape (${label.shape}), wanted (examples)`);
    const [count, height, width] = image.shape;
    return new IdxDataset({
      image: { ...image, shape: [count, 1, height, width] },
      label: { dtype: "i32", shape: label.shape, data: Int32Array.from(label.data as Uint8Array) }, // IDX has no 64-bit integers
    });
  }
}
