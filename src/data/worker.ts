// The program of a loader's worker threads: makes its own dataset from a recipe, then reads batches into shared memory, in the order they are asked for.
import { type MessagePort, workerData } from "node:worker_threads";
import { HeddleError } from "../ir/error.ts";
import { Arena } from "./arena.ts";
import { make } from "./built_in.ts";
import type { Collate, Dataset } from "./dataset.ts";
import type { FromWorker, ToWorker, WorkerStart } from "./messages.ts";
import { type BatchJob, type BatchSource, readBatch } from "./read_batch.ts";

const start = workerData as WorkerStart; // what team.ts sends
const port = start.port as MessagePort;
const say = (message: FromWorker): void => port.postMessage(message);

const failureOf = (error: unknown) => ({
  code: error instanceof HeddleError ? error.code : ("bad-input" as const),
  message: error instanceof Error ? error.message : String(error),
});

const arenas: Arena[] = [];
const free: number[] = [];

function takeArena(): number {
  const number = free.pop() ?? arenas.push(new Arena()) - 1;
  arenas[number].reset();
  return number;
}

async function read(source: BatchSource, id: number, job: BatchJob): Promise<void> {
  const began = performance.now();
  const arena = takeArena();
  try {
    const batch = await readBatch(source, job, (dtype, shape) => arenas[arena].allocate(dtype, shape));
    say({ id, batch, arena, ms: performance.now() - began });
  } catch (error) {
    free.push(arena);
    say({ id, failure: failureOf(error) });
  }
}

/** Begun at once; jobs wait for it. */
const source: Promise<BatchSource> = Promise.all([make(start.dataset), make(start.collate)]).then(([dataset, collate]) => ({
  dataset: dataset as Dataset, // recipes are trusted to be of what they are given for
  collate: collate as Collate,
  seed: start.seed,
}));
source.catch((error) => say({ failure: failureOf(error) }));

let last: Promise<unknown> = source;
port.on("message", (message: ToWorker) => {
  if ("release" in message) free.push(message.release);
  else {
    const { id, read: job } = message;
    last = last.then(async () => read(await source, id, job)).catch(() => {}); // told above
  }
});
