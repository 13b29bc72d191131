// Worker threads that read batches ahead: jobs go to the one with the least to do, results come back through shared memory.
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads";
import { HeddleError } from "../ir/error.ts";
import type { Batch, Recipe } from "./dataset.ts";
import type { FromWorker, ToWorker, WorkerStart } from "./messages.ts";
import { workerUrl } from "./module_url.ts";
import type { BatchJob } from "./read_batch.ts";

/** A batch that was read, and where: until it is released, nothing else is written there. */
export interface Loaded {
  readonly batch: Batch;
  /** How long a thread worked or waited for it. */
  readonly ms: number;
  /** The memory belongs to threads, which use it again. */
  readonly isShared: boolean;
  release(): void;
}

interface Waiting {
  resolve(loaded: Loaded): void;
  reject(error: Error): void;
}

interface Member {
  readonly worker: Worker;
  readonly port: MessagePort;
  readonly waiting: Map<number, Waiting>;
}

export interface TeamOptions {
  readonly dataset: Recipe;
  readonly collate: Recipe;
  readonly seed: number;
  readonly workers: number;
}

export class Team {
  private readonly members: readonly Member[];
  private failure: HeddleError | undefined;
  private isClosed = false;
  private jobs = 0;

  private constructor(url: string, { workers, ...recipes }: TeamOptions) {
    this.members = Array.from({ length: workers }, (_, i) => this.start(url, recipes, i));
  }

  static async start(options: TeamOptions): Promise<Team> {
    return new Team(await workerUrl(), options);
  }

  private start(url: string, recipes: Omit<WorkerStart, "port">, number: number): Member {
    const { port1: port, port2 } = new MessageChannel();
    const workerData: WorkerStart = { ...recipes, port: port2 };
    const worker = new Worker(new URL(url), { workerData, transferList: [port2], name: `heddle data ${number}` });
    const member: Member = { worker, port, waiting: new Map() };
    port.on("message", (message: FromWorker) => this.hear(member, message));
    worker.on("error", (cause) =>
      this.fail(new HeddleError("missing", `data: worker thread ${number} stopped: ${cause.message}`, { cause })),
    );
    worker.on("exit", () => this.fail(new HeddleError("missing", `data: worker thread ${number} stopped`)));
    worker.unref(); // only a batch that somebody waits for keeps the process alive
    port.unref();
    return member;
  }

  private hear(member: Member, message: FromWorker): void {
    const { id } = message;
    if ("failure" in message) {
      const error = new HeddleError(message.failure.code, message.failure.message);
      if (id === undefined) this.fail(error);
      else this.settle(member, id)?.reject(error);
      return;
    }
    const { batch, arena, ms } = message;
    const release = (): void => member.port.postMessage({ release: arena } satisfies ToWorker);
    this.settle(member, message.id)?.resolve({ batch, ms, isShared: true, release });
  }

  private settle(member: Member, id: number): Waiting | undefined {
    const waiting = member.waiting.get(id);
    member.waiting.delete(id);
    return waiting;
  }

  /** No thread is of use any more: all that is waited for fails. */
  private fail(error: HeddleError): void {
    if (this.isClosed) return;
    this.failure ??= error;
    for (const { waiting } of this.members) {
      for (const { reject } of waiting.values()) reject(this.failure);
      waiting.clear();
    }
  }

  read(job: BatchJob): Promise<Loaded> {
    if (this.failure) return Promise.reject(this.failure);
    const member = this.members.reduce((best, other) => (other.waiting.size < best.waiting.size ? other : best));
    const id = this.jobs++;
    const loaded = new Promise<Loaded>((resolve, reject) => member.waiting.set(id, { resolve, reject }));
    loaded.catch(() => {}); // heard when the batch is asked for
    member.port.postMessage({ read: job, id } satisfies ToWorker);
    return loaded;
  }

  /** Takes what threads have finished while this one computed, without a turn of the event loop. */
  collect(): void {
    for (const member of this.members)
      for (let got = receiveMessageOnPort(member.port); got; got = receiveMessageOnPort(member.port))
        this.hear(member, got.message as FromWorker); // from worker.ts
  }

  /** Whether the process stays alive for these threads. */
  hold(isHeld: boolean): void {
    for (const handle of this.members.flatMap(({ port, worker }) => [port, worker])) isHeld ? handle.ref() : handle.unref();
  }

  /** Ends the threads; batches that are waited for never come. */
  async close(): Promise<void> {
    this.fail(new HeddleError("bad-argument", "data: the loader was closed"));
    this.isClosed = true;
    for (const { port } of this.members) port.close();
    await Promise.all(this.members.map(({ worker }) => worker.terminate()));
  }
}
