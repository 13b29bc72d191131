// Loaders give the same batches whatever their number of threads, go on where a state says, hide a slow disk, name the item that failed, and let the process end.
import { spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Batch,
  type Collate,
  DataLoader,
  type DataLoaderOptions,
  type Dataset,
  fromRecipe,
  normalize,
  pad,
  randomCrop,
  randomErase,
  randomFlip,
  TensorDataset,
  TextDataset,
  ThrottledDataset,
  type Transform,
  TransformedDataset,
} from "../../src/data/index.ts";
import { fromNumbers, toNumbers } from "../../src/ir/tensor.ts";

import { bundle, root } from "../bundle.ts";

const module = new URL("./custom_dataset.ts", import.meta.url).href;
const custom = <T extends object = Dataset>(name: string, ...args: unknown[]) => fromRecipe<T>({ module, export: name, args });

const images = (count: number): TensorDataset<"image" | "label"> =>
  new TensorDataset({
    image: fromNumbers(
      "u8",
      [count, 1, 6, 6],
      Array.from({ length: count * 36 }, (_, i) => i % 256),
    ),
    label: fromNumbers(
      "i32",
      [count],
      Array.from({ length: count }, (_, i) => i),
    ),
  });

const numbersOf = (batch: Batch) =>
  Object.fromEntries(Object.entries(batch).map(([field, t]) => [field, [t.dtype, t.shape, [...toNumbers(t)]]]));

async function readAll(loader: DataLoader, epochs = 1): Promise<unknown[]> {
  const all: unknown[] = [];
  for (let epoch = 0; epoch < epochs; epoch++) for await (const batch of loader) all.push(numbersOf(batch));
  return all;
}

async function run(options: DataLoaderOptions, epochs = 1): Promise<unknown[]> {
  await using loader = new DataLoader(options);
  return await readAll(loader, epochs);
}

describe("order", () => {
  const teams = [
    { workers: 0 },
    { workers: 0, prefetch: 3 },
    { workers: 1, prefetch: 1 },
    { workers: 3, prefetch: 7 },
    { workers: 2, reuse: true },
  ];

  test("augmented images are the same whatever the threads", async () => {
    const augment = [randomCrop({ padding: 2 }), randomFlip(), randomErase({ size: 2 }), normalize({ mean: 0.5, std: 0.5 })];
    const dataset = new TransformedDataset(images(23), augment);
    const options = { dataset, batchSize: 4, shuffle: true, seed: 5 };
    const [first, ...others] = await Promise.all(teams.map((team) => run({ ...options, ...team }, 2)));
    expect(first).toHaveLength(12);
    for (const other of others) expect(other).toEqual(first);
    expect(await run({ ...options, seed: 6 })).not.toEqual(first.slice(0, 6));
    const labels = (batches: readonly unknown[]) => (batches as { label: [string, number[], number[]] }[]).flatMap(({ label }) => label[2]);
    expect(labels(first.slice(0, 6)).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 23 }, (_, i) => i)); // each once
    expect(labels(first.slice(6))).not.toEqual(labels(first.slice(0, 6))); // another order in the next epoch
    expect(first[0]).not.toEqual(first[6]);
  });

  test("datasets of a module of one's own too, some of whose items are slow", async () => {
    const dataset = await custom("Numbers", 40);
    const [first, ...others] = await Promise.all(teams.map((team) => run({ dataset, batchSize: 3, shuffle: true, ...team })));
    expect(first).toHaveLength(14);
    for (const other of others) expect(other).toEqual(first);
  });

  test("transforms and collations of a module of one's own", async () => {
    const dataset = new TransformedDataset(await custom("Numbers", 10), [await custom<Transform>("double")]);
    const collate = await custom<Collate>("summed");
    const sums = [0 + 2 + 4 + 6, 8 + 10 + 12 + 14, 16 + 18];
    for (const workers of [0, 2])
      expect(await run({ dataset, batchSize: 4, collate, workers })).toEqual(sums.map((sum) => ({ sum: ["f64", [1], [sum]] })));
  });

  test("without shuffling they come in order; the last batch is short, or left out", async () => {
    const options = { dataset: images(5), batchSize: 2, workers: 1 };
    const labels = async (more: object) => (await run({ ...options, ...more })).map((batch) => (batch as { label: unknown[] }).label[2]);
    expect(await labels({})).toEqual([[0, 1], [2, 3], [4]]);
    expect(await labels({ dropLast: true })).toEqual([
      [0, 1],
      [2, 3],
    ]);
  });

  test("padded batches grow and shrink in shared memory", async () => {
    const dataset = await custom("openRagged", 9);
    const options = { dataset, batchSize: 2, collate: pad({ value: -1, lengthsOf: "x" }) };
    const here = await run({ ...options, shuffle: true }, 3);
    expect(await run({ ...options, shuffle: true, workers: 2 }, 3)).toEqual(here);
    expect((await run(options))[1]).toEqual({ x: ["f32", [2, 3], [1, 1, -1, 1, 1, 1]], lengths: ["i32", [2], [2, 3]] });
  });
});

describe("state", () => {
  test("a loader goes on where another one was, over epochs and threads", async () => {
    const dataset = new TransformedDataset(images(10), [randomFlip()]);
    const options = { dataset, batchSize: 3, shuffle: true, seed: 9 };
    const whole = await run(options, 3);
    for (const taken of [0, 1, 3, 4, 5, 11]) {
      await using first = new DataLoader({ ...options, workers: 2 });
      const batches = first.repeat();
      for (let i = 0; i < taken; i++) expect(numbersOf((await batches.next()).value)).toEqual(whole[i]);
      const state = JSON.parse(JSON.stringify(first.state()));
      await using second = new DataLoader({ ...options, workers: 1 });
      await second.restore(state);
      const rest: unknown[] = [];
      while (second.epoch < 3) rest.push(...(await readAll(second)));
      expect(rest).toEqual(whole.slice(taken));
    }
  });

  test("leaving a loop ends its threads, and the next loop goes on", async () => {
    await using loader = new DataLoader({ dataset: images(10), batchSize: 2, workers: 1 });
    const seen: number[] = [];
    for (let loop = 0; loop < 3; loop++)
      for await (const { label } of loader) {
        seen.push(Number(label.data[0]));
        if (seen.length % 2 === 0) break;
      }
    expect(seen).toEqual([0, 2, 4, 6, 8]);
    expect(loader.state()).toMatchObject({ epoch: 1, position: 0 });
  });

  test("a state within batches that were read ahead", async () => {
    await using loader = new DataLoader({ dataset: images(12), batchSize: 2, workers: 2, prefetch: 4 });
    const start = loader.state();
    const all = await readAll(loader);
    await loader.restore(start);
    expect(await readAll(loader)).toEqual(all);
  });

  test("refuses states of other loaders", async () => {
    const loader = new DataLoader({ dataset: images(10), batchSize: 2 });
    const state = loader.state();
    const other = new DataLoader({ dataset: images(10), batchSize: 5 });
    await expect(other.restore(state)).rejects.toThrow("the state is of a loader with batchSize 2, this one has 5");
    await expect(loader.restore({ ...state, position: 6 })).rejects.toThrow("a state at epoch 0, batch 6 of 5");
    await expect(loader.restore({} as never)).rejects.toThrow("the state is of a loader with seed undefined");
  });
});

describe("memory", () => {
  test("batches are the consumer's own; with reuse they are written again", async () => {
    const dataset = images(64);
    const keep = async (reuse: boolean) => {
      const kept: Batch[] = [];
      for await (const batch of new DataLoader({ dataset, batchSize: 2, workers: 1, prefetch: 2, reuse })) kept.push(batch);
      return kept;
    };
    const own = await keep(false);
    expect(own.map(({ label }) => label.data[0])).toEqual(Array.from({ length: 32 }, (_, i) => 2 * i));
    expect(own.every(({ image }) => image.data.buffer instanceof ArrayBuffer)).toBe(true);
    const shared = new Set((await keep(true)).map(({ image }) => image.data.buffer));
    expect([...shared].every((buffer) => buffer instanceof SharedArrayBuffer)).toBe(true);
  });
});

describe("a slow disk", () => {
  /** 8 ms a batch. */
  const slow = () => new ThrottledDataset(images(8 * 24), { bytesPerSecond: (8 * 40) / 0.008 });
  const steps = async (dataset: Dataset, options: object) => {
    await using loader = new DataLoader({ dataset, batchSize: 8, ...options });
    const waits: number[] = [];
    let before = 0;
    for await (const _ of loader) {
      await sleep(12); // a step that computes elsewhere
      waits.push(loader.waitedMs - before);
      before = loader.waitedMs;
    }
    return { waits: waits.slice(1).toSorted((a, b) => a - b), loader };
  };

  test("is waited for without reading ahead, and not with it", async () => {
    const without = await steps(slow(), {});
    const ahead = await steps(slow(), { workers: 1, prefetch: 4 });
    const median = (waits: number[]) => waits[waits.length >> 1];
    expect(median(without.waits)).toBeGreaterThan(7);
    expect(median(ahead.waits)).toBeLessThan(median(without.waits) / 4); // about 0.1 ms on a machine that does nothing else
    expect(ahead.loader.summary()).toMatch(
      /^data: 24 batches, 192 examples; waited .* \(.* % of .*; .* for the start\) for .* of reading in 1 thread, 4 batches ahead$/,
    );
    expect(without.loader.stats).toMatchObject({ batches: 24, examples: 192, workers: 0, prefetch: 0 });
  });

  test("serves threads in turn: more of them do not make it faster", async () => {
    const start = performance.now();
    await run({ dataset: slow(), batchSize: 8, workers: 3, prefetch: 9 });
    expect(performance.now() - start).toBeGreaterThan(23 * 8);
  });
});

describe("errors", () => {
  test.each([0, 2])("%i threads: the item that failed is named, when its batch is due, and once", async (workers) => {
    const dataset = await custom("Numbers", 20, 13);
    await using loader = new DataLoader({ dataset, batchSize: 4, workers, prefetch: 2 });
    const firsts: number[] = [];
    const loop = async () => {
      for await (const { x } of loader) firsts.push(Number(x.data[0]));
    };
    await expect(loop()).rejects.toThrow(/^data: example 13: the file is broken$/);
    await loop(); // goes on behind the batch
    expect(firsts).toEqual([0, 4, 8, 16]);
  });

  test("a thread that ends, a module that is not there, one that does not fit", async () => {
    const dataset = await custom("crash");
    await expect(run({ dataset, batchSize: 2, workers: 1 })).rejects.toThrow("data: worker thread 0 stopped");
    await expect(custom("nothing")).rejects.toThrow(/custom_dataset.ts has no class or function nothing/);
    await expect(custom("notFunction")).rejects.toThrow("has no class or function notFunction");
    await expect(fromRecipe({ module: "file:///none.mjs", export: "x", args: [] })).rejects.toThrow(
      "the module file:///none.mjs does not load",
    );
    const lost = { length: 2, get: () => ({}), recipe: () => ({ module: "file:///none.mjs", export: "x", args: [] }) };
    await expect(run({ dataset: lost, batchSize: 2, workers: 1 })).rejects.toThrow("the module file:///none.mjs does not load");
  });

  test("options are checked", async () => {
    const dataset = images(3);
    const plain: Dataset = { length: 2, get: (index) => dataset.get(index) };
    expect(() => new DataLoader({ dataset, batchSize: 0 })).toThrow("DataLoader: batchSize 0, wanted a whole number from 1 on");
    expect(() => new DataLoader({ dataset, batchSize: 1, workers: 1, prefetch: 0 })).toThrow("prefetch 0, wanted a whole number from 1 on");
    expect(() => new DataLoader({ dataset, batchSize: 4, dropLast: true })).toThrow("3 examples make no batch of 4 (dropLast)");
    await expect(run({ dataset: plain, batchSize: 1, workers: 1 })).rejects.toThrow(
      "data: worker threads cannot make dataset: it has no recipe(); make it with fromRecipe({ module, export, args }), or set workers: 0",
    );
    expect(await run({ dataset: plain, batchSize: 1 })).toHaveLength(2);
    const odd: Dataset = { length: 2, get: (i) => ({ x: fromNumbers("f32", [i], new Array(i).fill(0)) }) };
    await expect(run({ dataset: odd, batchSize: 2 })).rejects.toThrow(
      "x has shape (0) in one example and (1) in another; pad() takes such",
    );
  });
});

describe("a process that uses a loader", () => {
  const folder = join(root, "build", `loader-${process.pid}`);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  beforeAll(async () => {
    await bundle(folder, { index: "src/data/index.ts", data_worker: "src/data/worker.ts" });
  });

  const program = (body: string) => {
    const text = `import { DataLoader, TensorDataset } from "./index.js";
      const x = { dtype: "f32", shape: [64, 4], data: new Float32Array(256) };
      const loader = new DataLoader({ dataset: new TensorDataset({ x }), batchSize: 4, workers: 2 });
      ${body}`;
    writeFileSync(join(folder, "program.js"), text);
    return spawnSync(process.execPath, [join(folder, "program.js")], { encoding: "utf8", timeout: 20_000 });
  };

  test.each([
    ["ends with its last epoch", "let n = 0; for await (const b of loader) n++; console.log(n);", "16"],
    ["ends when it leaves a loop", "for await (const b of loader) { console.log(b.x.shape.join()); break; }", "4,4"],
    ["ends when it stops asking", "const it = loader.repeat(); for (let i = 0; i < 20; i++) await it.next(); console.log(20);", "20"],
    ["may close", "for await (const b of loader) if (b) break; await loader.close(); await loader.close(); console.log(1);", "1"],
  ])("%s", (_, body, wanted) => {
    const { status, stdout, stderr } = program(body);
    expect(stderr).toBe("");
    expect(stdout.trim()).toBe(wanted);
    expect(status).toBe(0);
  });
});

test("windows of a text, in threads", async () => {
  const dataset = new TextDataset(
    Array.from({ length: 12 }, (_, i) => i),
    { window: 4, stride: 3 },
  );
  expect(dataset.length).toBe(3);
  const batches = await run({ dataset, batchSize: 3, workers: 1 });
  expect(batches).toEqual([
    {
      input: ["i32", [3, 4], [0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9]],
      target: ["i32", [3, 4], [1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10]],
    },
  ]);
});
