// A dataset → batches, epoch after epoch, read ahead by worker threads in an order that depends on the seed alone.

import { DTYPES, type TypedArray } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import { stack } from "./collate.ts";
import { type Batch, type Collate, type Dataset, recipeOf } from "./dataset.ts";
import { Order } from "./order.ts";
import { allocateHere, readBatch } from "./read_batch.ts";
import { describeStats, type LoaderStats } from "./stats.ts";
import { type Loaded, Team } from "./team.ts";

export interface DataLoaderOptions<F extends string = string> {
  readonly dataset: Dataset<F>;
  readonly batchSize: number;
  /** Another order in each epoch. Default false. */
  readonly shuffle?: boolean;
  /** Of the order and of augmentations. Default 0. */
  readonly seed?: number;
  /** Leave out a last batch that is not full. Default false. */
  readonly dropLast?: boolean;
  /** Threads that read. Default 0: batches are read when they are asked for, by the thread that asks. */
  readonly workers?: number;
  /** Batches read ahead. Default: 2 for each worker. */
  readonly prefetch?: number;
  /** Default: stack(). */
  readonly collate?: Collate;
  /** Hand out the threads' own memory, which the next batch's request gives back to them, instead of copies. Default false. */
  readonly reuse?: boolean;
}

/** Where a loader is: plain data for checkpoints. */
export interface LoaderState {
  readonly epoch: number;
  /** Batches of the epoch that were handed out. */
  readonly position: number;
  /** What the order depends on; a loader that differs cannot go on from here. */
  readonly order: {
    readonly seed: number;
    readonly length: number;
    readonly batchSize: number;
    readonly shuffle: boolean;
    readonly dropLast: boolean;
  };
}

type Iterator<F extends string> = AsyncIterableIterator<Batch<F>>;

export class DataLoader<F extends string = string> implements AsyncIterable<Batch<F>>, AsyncDisposable {
  /** Batches in an epoch. */
  readonly length: number;
  private readonly dataset: Dataset<F>;
  private readonly options: Required<Omit<DataLoaderOptions<F>, "dataset">>;
  private readonly order: Order;
  private epochs = 0;
  private position = 0;
  private team: Promise<Team> | undefined;
  private startedTeam: Team | undefined;
  /** By number: epoch · length + position. */
  private readonly ahead = new Map<number, Promise<Loaded>>();
  private lent: Loaded | undefined;
  private readonly counts = { batches: 0, examples: 0, waitedMs: 0, startMs: 0, readMs: 0 };
  private firstAsked: number | undefined;
  private lastGiven = 0;

  constructor({ dataset, ...options }: DataLoaderOptions<F>) {
    const { batchSize, workers = 0, prefetch = 2 * workers, shuffle = false, seed = 0, dropLast = false } = options;
    const { collate = stack(), reuse = false } = options;
    const check = (name: string, value: number, least: number): void => {
      if (!Number.isSafeInteger(value) || value < least)
        throw new HeddleError("bad-argument", `DataLoader: ${name} ${value}, wanted a whole number from ${least} on`);
    };
    check("batchSize", batchSize, 1);
    check("workers", workers, 0);
    check("prefetch", prefetch, workers === 0 ? 0 : 1);
    check("seed", seed, 0);
    this.dataset = dataset;
    this.options = { batchSize, workers, prefetch, shuffle, seed, dropLast, collate, reuse };
    this.order = new Order({ length: dataset.length, batchSize, shuffle, seed, dropLast });
    this.length = this.order.batchesPerEpoch;
    if (this.length === 0)
      throw new HeddleError(
        "bad-argument",
        `DataLoader: ${dataset.length} examples make no batch of ${batchSize}${dropLast ? " (dropLast)" : ""}`,
      );
  }

  /** The epoch that the next batch belongs to, from 0. */
  get epoch(): number {
    return this.epochs;
  }

  /** The rest of this epoch: all of it, where it was not begun. Leaving the loop early ends the threads; another loop goes on from there. */
  [Symbol.asyncIterator](): Iterator<F> {
    return this.iterate(() => {
      if (this.position < this.length) return false;
      this.position = 0;
      this.epochs++;
      return true;
    });
  }

  /** Batches without end, over all epochs. */
  repeat(): Iterator<F> {
    return this.iterate(() => {
      if (this.position === this.length) {
        this.position = 0;
        this.epochs++;
      }
      return false;
    });
  }

  private iterate(isDone: () => boolean): Iterator<F> {
    let hasEnded = false;
    return {
      next: async () => {
        hasEnded ||= isDone();
        if (hasEnded) return { done: true, value: undefined };
        try {
          return { done: false, value: await this.next() };
        } catch (error) {
          hasEnded = true;
          await this.close();
          throw error;
        }
      },
      return: async () => {
        hasEnded = true;
        await this.close();
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  private async next(): Promise<Batch<F>> {
    const asked = performance.now();
    const isFirst = this.options.workers === 0 ? this.firstAsked === undefined : !this.team;
    this.firstAsked ??= asked;
    const number = this.epochs * this.length + this.position++;
    this.lent?.release();
    this.lent = undefined;
    for (let next = number; next <= number + this.options.prefetch; next++)
      if (!this.ahead.has(next)) this.ahead.set(next, this.load(next));
    const loaded = await this.wait(this.ahead.get(number)!).finally(() => this.ahead.delete(number));
    const batch = this.handOut(loaded) as Batch<F>; // of the dataset's fields
    this.lastGiven = performance.now();
    this.count(loaded, this.lastGiven - asked, isFirst, number);
    return batch;
  }

  private async wait(loading: Promise<Loaded>): Promise<Loaded> {
    const team = this.startedTeam ?? (await this.team);
    if (!team) return loading;
    this.startedTeam = team;
    team.collect();
    team.hold(true);
    try {
      return await loading;
    } finally {
      team.hold(false);
    }
  }

  private load(number: number): Promise<Loaded> {
    const epoch = Math.floor(number / this.length);
    const job = { epoch, indices: this.order.indices(epoch, number % this.length) };
    const loading =
      this.options.workers === 0 ? this.readHere(job) : this.startedTeam ? this.startedTeam.read(job) : this.sendTo(this.startTeam(), job);
    loading.catch(() => {}); // heard when the batch is asked for
    return loading;
  }

  private async sendTo(team: Promise<Team>, job: Parameters<Team["read"]>[0]): Promise<Loaded> {
    return (await team).read(job);
  }

  private startTeam(): Promise<Team> {
    const { workers, seed, collate } = this.options;
    this.team ??= Team.start({ dataset: recipeOf(this.dataset, "dataset"), collate: recipeOf(collate, "collate"), seed, workers });
    return this.team;
  }

  private async readHere(job: Parameters<Team["read"]>[0]): Promise<Loaded> {
    const { collate, seed } = this.options;
    const began = performance.now();
    const batch = await readBatch({ dataset: this.dataset, collate, seed }, job, allocateHere);
    return { batch, ms: performance.now() - began, isShared: false, release() {} };
  }

  private handOut(loaded: Loaded): Batch {
    if (!loaded.isShared) return loaded.batch;
    if (this.options.reuse) {
      this.lent = loaded;
      return loaded.batch;
    }
    const own = Object.fromEntries(Object.entries(loaded.batch).map(([field, tensor]) => [field, ownCopy(tensor)]));
    loaded.release();
    return own;
  }

  private count({ ms }: Loaded, waited: number, isFirst: boolean, number: number): void {
    const { length, batchSize } = { length: this.dataset.length, ...this.options };
    this.counts.batches++;
    this.counts.examples += Math.min(batchSize, length - (number % this.length) * batchSize);
    this.counts.waitedMs += waited;
    this.counts.readMs += ms;
    if (isFirst) this.counts.startMs += waited;
  }

  /** Milliseconds that the consumer has waited for batches. */
  get waitedMs(): number {
    return this.counts.waitedMs;
  }

  get stats(): LoaderStats {
    const elapsedMs = this.firstAsked === undefined ? 0 : this.lastGiven - this.firstAsked;
    return { ...this.counts, elapsedMs, workers: this.options.workers, prefetch: this.options.prefetch };
  }

  /** One line: how much was read, and how long the consumer waited for it. */
  summary(): string {
    return describeStats(this.stats);
  }

  state(): LoaderState {
    const { seed, batchSize, shuffle, dropLast } = this.options;
    return { epoch: this.epochs, position: this.position, order: { seed, length: this.dataset.length, batchSize, shuffle, dropLast } };
  }

  /** Goes on from a state: the next batches are those that would have come. Throws HeddleError ("bad-argument") for a loader of another order. */
  async restore(state: LoaderState): Promise<void> {
    const mine = this.state().order;
    for (const key of Object.keys(mine) as (keyof typeof mine)[])
      if (state.order?.[key] !== mine[key])
        throw new HeddleError(
          "bad-argument",
          `DataLoader: the state is of a loader with ${key} ${state.order?.[key]}, this one has ${mine[key]}`,
        );
    const { epoch, position } = state;
    if (!Number.isSafeInteger(epoch) || epoch < 0 || !Number.isSafeInteger(position) || position < 0 || position > this.length)
      throw new HeddleError("bad-argument", `DataLoader: a state at epoch ${epoch}, batch ${position} of ${this.length}`);
    await this.forget();
    [this.epochs, this.position] = [epoch, position];
  }

  /** Gives up what was read ahead; the threads stay. */
  private async forget(): Promise<void> {
    const abandoned = [...this.ahead.values()];
    this.ahead.clear();
    this.lent?.release();
    this.lent = undefined;
    for (const loading of abandoned) loading.then((loaded) => loaded.release()).catch(() => {});
  }

  /** Ends the threads. The loader can be used again; it starts new ones. */
  async close(): Promise<void> {
    const { team } = this;
    this.ahead.clear();
    this.lent = undefined;
    this.team = undefined;
    this.startedTeam = undefined;
    await team?.then((started) => started.close()).catch(() => {}); // it never started
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Out of shared memory. */
function ownCopy({ dtype, shape, data }: TensorData): TensorData {
  const copy: TypedArray = new DTYPES[dtype].array(elementCount(shape));
  copy.set(data as never); // of the same type
  return { dtype, shape, data: copy };
}
