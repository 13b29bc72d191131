// A folder of pictures, one sub-folder for each class → dataset that reads and decodes them when they are asked for.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { readImage } from "../formats/image.ts";
import { HeddleError } from "../ir/error.ts";
import { builtIn, type Dataset, type Example, type Recipe } from "./dataset.ts";
import { cover } from "./resize.ts";

export interface ImageFolderOptions {
  /** Height and width that pictures are scaled to cover and cut to, around their middle. Without it they keep their sizes. */
  readonly size?: number | readonly [height: number, width: number];
}

interface Listed {
  readonly path: string;
  readonly label: number;
}

const PICTURE = /\.(?:jpe?g|png)$/i;

async function list(folder: string): Promise<{ classes: string[]; files: Listed[] }> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause) => {
    throw new HeddleError("missing", `${folder}: cannot be read: ${(cause as Error).message}`, { cause });
  });
  const classes = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  classes.sort();
  const files = await Promise.all(
    classes.map(async (name, label) => {
      const names = await readdir(join(folder, name), { recursive: true });
      return names
        .filter((file) => PICTURE.test(file))
        .sort()
        .map((file) => ({ path: join(folder, name, file), label }));
    }),
  );
  return { classes, files: files.flat() };
}

/** `image` u8 (3, height, width), red first, and `label` i32 (): the place of its class in `classes`, which are sorted by name. */
export class ImageFolderDataset implements Dataset<"image" | "label"> {
  readonly length: number;
  readonly classes: readonly string[];
  private readonly files: readonly Listed[];
  private readonly options: ImageFolderOptions;

  constructor(classes: readonly string[], files: readonly Listed[], options: ImageFolderOptions = {}) {
    this.length = files.length;
    this.classes = classes;
    this.files = files;
    this.options = options;
  }

  /** Lists the folder: JPEG and PNG files, in sub-folders of classes too. Throws HeddleError ("missing", "bad-input"). */
  static async open(folder: string, options: ImageFolderOptions = {}): Promise<ImageFolderDataset> {
    const { classes, files } = await list(folder);
    if (files.length === 0) throw new HeddleError("bad-input", `${folder}: no pictures (FOLDER/CLASS/*.jpg, *.png)`);
    return new ImageFolderDataset(classes, files, options);
  }

  /** The picture's path. */
  pathOf(index: number): string {
    return this.files[index].path;
  }

  async get(index: number): Promise<Example<"image" | "label">> {
    const { path, label } = this.files[index];
    const { size } = this.options;
    const decoded = await readImage(await readFile(path), path);
    const [height, width] = typeof size === "number" ? [size, size] : (size ?? [decoded.height, decoded.width]);
    return {
      image: { dtype: "u8", shape: [3, height, width], data: planes(cover(decoded, width, height).data) },
      label: { dtype: "i32", shape: [], data: Int32Array.of(label) },
    };
  }

  recipe(): Recipe {
    return builtIn("ImageFolderDataset", this.classes, this.files, this.options);
  }
}

/** Pixels of red, green, blue → a plane of each. */
function planes(pixels: Uint8Array): Uint8Array {
  const size = pixels.length / 3;
  const out = new Uint8Array(pixels.length);
  for (let i = 0, at = 0; i < size; i++, at += 3) {
    out[i] = pixels[at];
    out[size + i] = pixels[at + 1];
    out[2 * size + i] = pixels[at + 2];
  }
  return out;
}
