// Shows the data bottleneck and its cure: training steps of a fixed length on data in memory, on a slow disk, and on a slow disk that is read ahead.
// Options: --step MS (computation of a step, default 20), --batch N (64), --batches N (40), --rounds N (5), --disk-ms MS (what the disk takes for a batch, default 0.8 of a step),
// --workers N (1), --prefetch N (4), --augment (crop, flip and normalize images), --json.
import { parseArgs } from "node:util";
import { spreadOf } from "../src/cli/statistics.ts";
import { formatTable } from "../src/cli/table.ts";
import {
  DataLoader,
  type DataLoaderOptions,
  type Dataset,
  normalize,
  randomCrop,
  randomFlip,
  TensorDataset,
  ThrottledDataset,
  TransformedDataset,
} from "../src/data/index.ts";

const { values: options } = parseArgs({
  options: {
    step: { type: "string", default: "20" },
    batch: { type: "string", default: "64" },
    batches: { type: "string", default: "40" },
    rounds: { type: "string", default: "5" },
    "disk-ms": { type: "string" },
    workers: { type: "string", default: "1" },
    prefetch: { type: "string", default: "4" },
    augment: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const stepMs = Number(options.step);
const batchSize = Number(options.batch);
const batches = Number(options.batches);
const rounds = Number(options.rounds);
const diskMs = Number(options["disk-ms"] ?? 0.8 * stepMs);
const ahead = { workers: Number(options.workers), prefetch: Number(options.prefetch) };

/** Examples of Fashion-MNIST's size. */
const IMAGE = [1, 28, 28] as const;
const EXAMPLE_BYTES = 28 * 28 + 4;

const count = batchSize * batches;
const memory = new TensorDataset({
  image: { dtype: "u8", shape: [count, ...IMAGE], data: Uint8Array.from({ length: count * 28 * 28 }, (_, i) => i % 251) },
  label: { dtype: "i32", shape: [count], data: new Int32Array(count) },
});
const disk = new ThrottledDataset(memory, { bytesPerSecond: (1000 * batchSize * EXAMPLE_BYTES) / diskMs });

const augmented = (dataset: Dataset<"image" | "label">): Dataset<"image" | "label"> =>
  options.augment
    ? new TransformedDataset(dataset, [randomCrop({ padding: 2 }), randomFlip(), normalize({ mean: 0.286, std: 0.353 })])
    : dataset;

/** Keeps a core busy, as a training step does: so much work, however long it takes when threads that read need the core too. */
function compute(loops: number): number {
  let sum = 0;
  for (let loop = 0; loop < loops; loop++) for (let i = 0; i < 1000; i++) sum += Math.sqrt(i ^ loop);
  return sum;
}

/** Loops that take `ms` on an idle core. */
function calibrate(ms: number): number {
  const loops = 2000;
  const times = Array.from({ length: 9 }, () => {
    const start = performance.now();
    if (compute(loops) < 0) throw new Error("unreachable"); // the sum is used, so that it is computed
    return performance.now() - start;
  });
  return Math.round((loops * ms) / Math.min(...times));
}

const loops = calibrate(stepMs);

class Run {
  readonly name: string;
  readonly loader: DataLoader<"image" | "label">;
  private readonly times: number[] = [];
  private waitedMs = 0;

  constructor(name: string, dataset: Dataset<"image" | "label">, reading: Partial<DataLoaderOptions>) {
    this.name = name;
    this.loader = new DataLoader({ dataset: augmented(dataset), batchSize, shuffle: true, seed: 1, ...reading });
  }

  /** One epoch. Its first steps are not counted: they wait for threads to start, or find what was read while others had their turn. */
  async turn(): Promise<void> {
    let last = performance.now();
    let steps = 0;
    let waited = 0;
    for await (const _ of this.loader) {
      compute(loops);
      const now = performance.now();
      if (steps++ === ahead.prefetch) waited = this.loader.waitedMs;
      else if (steps > ahead.prefetch) this.times.push(now - last);
      last = now;
    }
    this.waitedMs += this.loader.waitedMs - waited;
  }

  get row() {
    const { median, p90 } = spreadOf(this.times);
    return { name: this.name, stepMs: median, p90Ms: p90, waitedMs: this.waitedMs / this.times.length };
  }
}

const runs = [new Run("in memory", memory, {}), new Run("slow disk", disk, {}), new Run("slow disk, read ahead", disk, ahead)];
for (let round = 0; round < rounds; round++) for (const run of runs) await run.turn(); // in turns: a slow moment of the machine meets all
const rows = runs.map((run) => run.row);
for (const { loader } of runs) await loader.close();
const slower = (row: (typeof rows)[number]): number => row.stepMs / rows[0].stepMs;

if (options.json) {
  const result = { stepMs, diskMs, batchSize, batches, rounds, ...ahead, rows: rows.map((row) => ({ ...row, slower: slower(row) })) };
  process.stdout.write(`${JSON.stringify(result)}\n`);
} else {
  process.stdout.write(
    `${rounds} × ${batches} batches of ${batchSize}; a step computes ${stepMs} ms, the disk takes ${diskMs} ms for a batch\n`,
  );
  const cells = rows.map((row) => [row.name, row.stepMs.toFixed(2), row.p90Ms.toFixed(2), row.waitedMs.toFixed(3), slower(row).toFixed(3)]);
  process.stdout.write(`${formatTable(["data", "step ms", "90th", "waited ms", "of in memory"], cells)}\n`);
}
