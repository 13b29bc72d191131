// Datasets give what their files hold, transforms change it as they say, and what does not fit is refused in one line.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import jpeg from "jpeg-js";
import { afterAll, describe, expect, test } from "vitest";
import {
  DataLoader,
  type Dataset,
  IdxDataset,
  ImageFolderDataset,
  NpyDataset,
  normalize,
  Random,
  randomCrop,
  randomErase,
  randomFlip,
  TensorDataset,
  TextDataset,
  type Transform,
  TransformedDataset,
} from "../../src/data/index.ts";
import { permutation } from "../../src/data/random.ts";
import { cover } from "../../src/data/resize.ts";
import { writeIdx } from "../../src/formats/idx.ts";
import { writePng } from "../../src/formats/image.ts";
import { writeNpy } from "../../src/formats/npy.ts";
import { fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";

const folder = mkdtempSync(join(tmpdir(), "heddle-data-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const write = (name: string, bytes: Uint8Array): string => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};
const random = () => new Random(1, 2);
const shaped = (tensor: TensorData) => [tensor.dtype, ...tensor.shape];

describe("random numbers", () => {
  test("depend on the whole key, and are spread evenly", () => {
    const streams = [[1], [2], [1, 0], [1, 1], [0, 1], [2 ** 40], [2 ** 41], [1, 2 ** 33]].map((key) => new Random(...key).bits());
    expect(new Set(streams).size).toBe(streams.length);
    expect(new Random(7, 8).bits()).toBe(new Random(7, 8).bits());
    const draws = range(20_000).map((i) => new Random(3, i).uniform());
    expect(Math.abs(draws.reduce((a, b) => a + b) / draws.length - 0.5)).toBeLessThan(0.01);
    const dice = [0, 0, 0, 0, 0];
    const stream = random();
    for (let i = 0; i < 10_000; i++) dice[stream.below(5)]++;
    for (const count of dice) expect(Math.abs(count - 2000)).toBeLessThan(200);
  });

  test("a permutation has each number once", () => {
    expect([...permutation(1000, random())].sort((a, b) => a - b)).toEqual(range(1000));
    expect([...permutation(0, random())]).toEqual([]);
  });
});

describe("tensors and IDX", () => {
  test("rows of tensors", () => {
    const dataset = new TensorDataset({ x: fromNumbers("f32", [2, 2], range(4)), y: fromNumbers("i64", [2], [8, 9]) });
    expect(dataset.get(1)).toEqual({ x: fromNumbers("f32", [2], [2, 3]), y: fromNumbers("i64", [], [9]) });
    expect(() => new TensorDataset({})).toThrow("wants one tensor at least");
    expect(() => new TensorDataset({ x: fromNumbers("f32", [], [1]) })).toThrow("x is a scalar");
    expect(() => new TensorDataset({ x: fromNumbers("f32", [1], [1]), y: fromNumbers("f32", [2], [1, 1]) })).toThrow(
      "y has 2 rows, x has 1",
    );
  });

  test("images and labels", async () => {
    const images = write("images.gz", gzipSync(writeIdx(fromNumbers("u8", [2, 2, 3], range(12)))));
    const labels = write("labels", writeIdx(fromNumbers("u8", [2], [4, 5])));
    const dataset = await IdxDataset.open({ images, labels });
    expect(dataset.get(1)).toEqual({
      image: fromNumbers(
        "u8",
        [1, 2, 3],
        range(6).map((i) => i + 6),
      ),
      label: fromNumbers("i32", [], [5]),
    });
    await expect(IdxDataset.open({ images: labels, labels })).rejects.toThrow("images of shape (2), wanted (examples, height, width)");
    await expect(IdxDataset.open({ images, labels: join(folder, "none") })).rejects.toThrow("none: cannot be read");
  });
});

describe("npy", () => {
  test("rows are read from disk, in threads too", async () => {
    const x = write("x.npy", writeNpy(fromNumbers("f32", [5, 2], range(10))));
    const y = write("y.npy", writeNpy(fromNumbers("i64", [5], range(5))));
    const dataset = await NpyDataset.open({ x, y });
    expect(dataset.length).toBe(5);
    expect(await dataset.get(3)).toEqual({ x: fromNumbers("f32", [2], [6, 7]), y: fromNumbers("i64", [], [3]) });
    const batches: number[][] = [];
    for await (const batch of new DataLoader({ dataset, batchSize: 2, workers: 1 })) batches.push([...toNumbers(batch.x)]);
    expect(batches).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
    ]);
    await dataset.close();
  });

  test("refuses what it cannot read row by row", async () => {
    const x = write("x5.npy", writeNpy(fromNumbers("f32", [5], range(5))));
    const y = write("y4.npy", writeNpy(fromNumbers("f32", [4], range(4))));
    const fortran = Buffer.from(writeNpy(fromNumbers("f32", [2, 2], range(4))));
    fortran.write("True, ", fortran.indexOf("False,"));
    await expect(NpyDataset.open({ x, y })).rejects.toThrow("y4.npy: 4 rows");
    await expect(NpyDataset.open({ x: write("f.npy", fortran) })).rejects.toThrow("big-endian or column-major");
    await expect(NpyDataset.open({ x: write("s.npy", writeNpy(fromNumbers("f32", [], [1]))) })).rejects.toThrow("a scalar");
    await expect(NpyDataset.open({ x, y: join(folder, "none.npy") })).rejects.toThrow("none.npy: cannot be opened");
    await expect(NpyDataset.open({})).rejects.toThrow("wants one file at least");
  });
});

describe("image folders", () => {
  const flat = (width: number, height: number, rgb: readonly number[]) => ({
    width,
    height,
    data: Uint8Array.from({ length: width * height * 3 }, (_, i) => rgb[i % 3]),
  });

  test("classes, labels, scaled and cut pictures", async () => {
    for (const name of ["dog", "cat"]) mkdirSync(join(folder, "pictures", name), { recursive: true });
    write("pictures/cat/b.png", await writePng(flat(9, 4, [10, 20, 30])));
    const red = flat(6, 8, [200, 0, 0]);
    const rgba = Uint8Array.from({ length: 6 * 8 * 4 }, (_, i) => (i % 4 === 3 ? 255 : red.data[(i >> 2) * 3 + (i % 4)]));
    write("pictures/dog/a.JPG", jpeg.encode({ width: 6, height: 8, data: rgba }, 95).data);
    write("pictures/dog/notes.txt", new Uint8Array(3));
    const dataset = await ImageFolderDataset.open(join(folder, "pictures"), { size: [4, 5] });
    expect([dataset.length, dataset.classes]).toEqual([2, ["cat", "dog"]]);
    expect(dataset.pathOf(1)).toBe(join(folder, "pictures/dog/a.JPG"));
    const { image, label } = await dataset.get(0);
    expect([shaped(image), toNumbers(label)[0]]).toEqual([["u8", 3, 4, 5], 0]);
    expect([...image.data]).toEqual([10, 20, 30].flatMap((value) => new Array(20).fill(value)));
    for await (const batch of new DataLoader({ dataset, batchSize: 2, workers: 1 })) {
      expect([shaped(batch.image), ...toNumbers(batch.label)]).toEqual([["u8", 2, 3, 4, 5], 0, 1]);
      expect(Math.abs(Number(batch.image.data[60]) - 200)).toBeLessThan(5); // JPEG
    }
  });

  test("refuses folders without pictures, and names the one that is broken", async () => {
    await expect(ImageFolderDataset.open(join(folder, "none"))).rejects.toThrow("none: cannot be read");
    mkdirSync(join(folder, "bad/class"), { recursive: true });
    await expect(ImageFolderDataset.open(join(folder, "bad"))).rejects.toThrow("no pictures (FOLDER/CLASS/*.jpg, *.png)");
    const path = write("bad/class/x.png", new Uint8Array(9));
    const dataset = await ImageFolderDataset.open(join(folder, "bad"));
    const loop = async () => {
      for await (const _ of new DataLoader({ dataset, batchSize: 1 }));
    };
    await expect(loop()).rejects.toThrow(`data: example 0: ${path}: neither a JPEG nor a PNG file`);
  });

  test("scaling averages what a new pixel covers, and keeps flat areas and ramps", () => {
    expect(cover(flat(7, 5, [1, 2, 255]), 3, 4).data).toEqual(flat(3, 4, [1, 2, 255]).data);
    const ramp = { width: 16, height: 16, data: Uint8Array.from({ length: 16 * 16 * 3 }, (_, i) => 10 * (Math.floor(i / 3) % 16)) };
    const small = cover(ramp, 4, 4)
      .data.filter((_, i) => i % 3 === 0)
      .slice(4, 8);
    for (const [i, wanted] of [15, 55, 95, 135].entries()) expect(Math.abs(small[i] - wanted)).toBeLessThan(6);
    const large = cover(ramp, 32, 32)
      .data.filter((_, i) => i % 3 === 0)
      .slice(32, 64);
    for (let x = 2; x < 30; x++) expect(Math.abs(large[x] - 10 * ((x + 0.5) / 2 - 0.5))).toBeLessThan(1.01);
    expect(cover(ramp, 4, 2).data).toHaveLength(24);
  });
});

describe("transforms", () => {
  const image = fromNumbers("u8", [2, 3, 4], range(24));
  const apply = (transform: Transform, tensor = image, chance = random()) =>
    (transform.apply({ image: tensor }, chance) as { image: TensorData }).image;

  test("normalize", () => {
    const out = apply(normalize({ mean: [0, 0.1], std: [1, 2] }));
    expect(shaped(out)).toEqual(["f32", 2, 3, 4]);
    expect(out.data[5]).toBeCloseTo(5 / 255);
    expect(out.data[17]).toBeCloseTo((17 / 255 - 0.1) / 2);
    expect(apply(normalize({ mean: 1 }), fromNumbers("f32", [1, 2], [3, 4])).data).toEqual(Float32Array.of(2, 3));
    expect(apply(normalize(), fromNumbers("bf16", [1, 1], [0.5])).data).toEqual(Float32Array.of(0.5));
    expect(() => apply(normalize({ mean: [1] }))).toThrow("1 values of mean for 2 channels");
    expect(() => apply(normalize(), fromNumbers("f32", [1], [1]))).toThrow("image has shape (1), wanted (channels, height, width)");
  });

  test("random crops cover all places, and pad", () => {
    const places = new Set(range(200).map((i) => apply(randomCrop({ size: [2, 2] }), image, new Random(i)).data[0]));
    expect([...places].map(Number).sort((a, b) => a - b)).toEqual([0, 1, 2, 4, 5, 6]);
    for (const i of range(30)) {
      const out = apply(randomCrop({ padding: 1, fill: 99 }), image, new Random(i));
      expect(shaped(out)).toEqual(["u8", 2, 3, 4]);
      const [a, b] = [out.data.subarray(0, 12), out.data.subarray(12)];
      for (let k = 0; k < 12; k++) expect([99, Number(a[k]) + 12]).toContain(b[k] === 99 ? 99 : Number(b[k]));
      expect([...a].filter((value) => value === 99).length).toBeLessThanOrEqual(6);
    }
    expect(() => apply(randomCrop({ size: 5 }))).toThrow("randomCrop: 5 × 5 out of 3 × 4 with padding 0");
  });

  test("random flips", () => {
    const flipped = range(12).map((i) => (i & ~3) + 3 - (i & 3));
    expect([...apply(randomFlip({ probability: 1 })).data].slice(0, 12)).toEqual(flipped);
    expect(apply(randomFlip({ probability: 0 }))).toBe(image);
    const count = range(1000).filter((i) => apply(randomFlip(), image, new Random(i)) !== image).length;
    expect(Math.abs(count - 500)).toBeLessThan(60);
  });

  test("random erasing", () => {
    for (const i of range(30)) {
      const { data } = apply(randomErase({ size: 2, fill: 77 }), image, new Random(i));
      const erased = [...data].flatMap((value, at) => (value === 77 ? [at] : []));
      expect([2, 4, 8]).toContain(erased.length);
      expect(erased.slice(erased.length / 2)).toEqual(erased.slice(0, erased.length / 2).map((at) => at + 12));
    }
    expect(apply(randomErase({ size: 2, probability: 0 }))).toBe(image);
  });

  test("of other fields, of asynchronous datasets, in order", async () => {
    const dataset: Dataset = { length: 1, get: async () => ({ x: fromNumbers("f32", [1, 1], [3]) }) };
    const twice = new TransformedDataset(dataset, [normalize({ field: "x", mean: 1 }), normalize({ field: "x", std: 0.5 })]);
    expect((await twice.get(0, random())).x.data).toEqual(Float32Array.of(4));
    await expect(async () => new TransformedDataset(dataset, [normalize()]).get(0, random())).rejects.toThrow(
      "normalize: examples have no field image (x)",
    );
  });
});

test("windows of texts", () => {
  expect(new TextDataset(range(9), { window: 4 }).length).toBe(2);
  expect(new TextDataset(range(8), { window: 4 }).length).toBe(1);
  expect(() => new TextDataset(range(4), { window: 4 })).toThrow("4 tokens, a window of 4 wants one more");
  expect(() => new TextDataset(range(4), { window: 0 })).toThrow("window 0, wanted 1 or more");
});
