// Debian's dataset-fashion-mnist → pictures and labels in memory, and shuffled batches of them.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readIdx } from "../../src/formats/idx.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { fromArray, type Key, random, type Tensor } from "../../src/tensor/index.ts";

/** Where the package dataset-fashion-mnist puts its files. */
export const FOLDER = "/usr/share/datasets/fashion-mnist";
const SIDE = 28;
const PIXELS = SIDE * SIDE;

export interface Images {
  readonly count: number;
  /** One picture after another, 28 × 28 bytes each. */
  readonly pixels: Uint8Array;
  readonly labels: Int32Array;
}

/** Images u8 (n, 1, 28, 28) and labels i32 (n). */
export interface Batch {
  readonly images: Tensor;
  readonly labels: Tensor;
}

async function readFileOf(folder: string, name: string): Promise<ReturnType<typeof readIdx>> {
  const path = join(folder, `${name}-ubyte.gz`);
  const bytes = await readFile(path).catch((cause) => {
    throw new HeddleError("missing", `${path} cannot be read; apt-get install dataset-fashion-mnist, or name its folder with --data`, {
      cause,
    });
  });
  return readIdx(bytes, path);
}

/** The 60,000 pictures to learn from ("train") or the 10,000 to be judged by ("t10k"). */
export async function readImages(part: "train" | "t10k", folder = FOLDER): Promise<Images> {
  const [images, labels] = await Promise.all([readFileOf(folder, `${part}-images-idx3`), readFileOf(folder, `${part}-labels-idx1`)]);
  return { count: images.shape[0], pixels: images.data as Uint8Array, labels: Int32Array.from(labels.data as Uint8Array) }; // IDX type 8: bytes
}

/** Whole batches in an order of the key's; with `flips`, each picture is mirrored or not, by chance. */
export async function* shuffled(all: Images, size: number, key: Key, flips: boolean): AsyncGenerator<Batch> {
  const [forOrder, forFlips] = random.split(key);
  const order = await random.permutation(forOrder, all.count).data();
  const coins = flips ? await random.bits(forFlips, [all.count]).data() : null;
  for (let start = 0; start + size <= all.count; start += size) {
    const pixels = new Uint8Array(size * PIXELS);
    const labels = new Int32Array(size);
    for (let i = 0; i < size; i++) {
      const from = Number(order[start + i]);
      const picture = all.pixels.subarray(from * PIXELS, (from + 1) * PIXELS);
      const target = pixels.subarray(i * PIXELS, (i + 1) * PIXELS);
      if (coins && Number(coins[start + i]) & 1) mirror(picture, target);
      else target.set(picture);
      labels[i] = all.labels[from];
    }
    yield { images: fromArray(pixels, [size, 1, SIDE, SIDE]), labels: fromArray(labels, [size]) };
  }
}

function mirror(from: Uint8Array, to: Uint8Array): void {
  for (let row = 0; row < PIXELS; row += SIDE) for (let x = 0; x < SIDE; x++) to[row + x] = from[row + SIDE - 1 - x];
}

/** All pictures in their order; `size` divides their number. */
export function* inOrder({ pixels, labels, count }: Images, size: number): Generator<Batch> {
  for (let start = 0; start + size <= count; start += size)
    yield {
      images: fromArray(pixels.subarray(start * PIXELS, (start + size) * PIXELS), [size, 1, SIDE, SIDE]),
      labels: fromArray(labels.subarray(start, start + size), [size]),
    };
}
