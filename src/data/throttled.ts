// A dataset → the same one on a slow disk: reads take the time that a disk of some latency and bandwidth would, whoever reads.
import { setTimeout as sleep } from "node:timers/promises";
import { DTYPES } from "../ir/dtype.ts";
import { elementCount } from "../ir/tensor.ts";
import { builtIn, type Dataset, type Example, type Recipe, recipeOf } from "./dataset.ts";
import type { Random } from "./random.ts";

export interface DiskSpeed {
  readonly bytesPerSecond?: number;
  /** Time of each read besides. Default 0. */
  readonly seekMs?: number;
}

const exampleBytes = (example: Example): number =>
  Object.values(example).reduce((sum, { dtype, shape }) => sum + elementCount(shape) * DTYPES[dtype].bytes, 0);

/** Milliseconds of a clock that all threads share. */
const now = (): number => performance.timeOrigin + performance.now();

/** For finding out whether training waits for data, and whether reading ahead hides it. One disk: threads take turns. */
export class ThrottledDataset<F extends string = string> implements Dataset<F> {
  readonly length: number;
  private readonly dataset: Dataset<F>;
  private readonly speed: DiskSpeed;
  /** Until when the disk is busy: nanoseconds, in memory that threads share. */
  private readonly busy: BigInt64Array;

  constructor(dataset: Dataset<F>, speed: DiskSpeed, busy: BigInt64Array = new BigInt64Array(new SharedArrayBuffer(8))) {
    this.length = dataset.length;
    this.dataset = dataset;
    this.speed = speed;
    this.busy = busy;
  }

  async get(index: number, random: Random): Promise<Example<F>> {
    const example = await this.dataset.get(index, random);
    const { bytesPerSecond = Number.POSITIVE_INFINITY, seekMs = 0 } = this.speed;
    const end = this.reserve(seekMs + (1000 * exampleBytes(example)) / bytesPerSecond);
    const wait = end - now();
    if (wait > 0) await sleep(Math.ceil(wait)); // timers round down
    return example;
  }

  /** Takes the disk's next free `ms`; returns when they end. */
  private reserve(ms: number): number {
    for (;;) {
      const before = Atomics.load(this.busy, 0);
      const end = Math.max(Number(before) / 1e6, now()) + ms;
      if (Atomics.compareExchange(this.busy, 0, before, BigInt(Math.round(end * 1e6))) === before) return end;
    }
  }

  recipe(): Recipe {
    return builtIn("ThrottledDataset", recipeOf(this.dataset, "dataset"), this.speed, this.busy);
  }
}
