// What loaders and their worker threads tell each other.
import type { ErrorCode } from "../ir/error.ts";
import type { Batch, Recipe } from "./dataset.ts";
import type { BatchJob } from "./read_batch.ts";

export interface WorkerStart {
  readonly dataset: Recipe;
  readonly collate: Recipe;
  readonly seed: number;
  /** A MessagePort of node:worker_threads. */
  readonly port: unknown;
}

/** read: a batch to make · release: memory that may be written again. */
export type ToWorker = { readonly read: BatchJob; readonly id: number } | { readonly release: number };

/** batch: lies in shared memory, number `arena` of the worker's · failure: of one batch, or of the worker itself (id undefined). */
export type FromWorker =
  | { readonly id: number; readonly batch: Batch; readonly arena: number; readonly ms: number }
  | { readonly id?: number; readonly failure: { readonly code: ErrorCode; readonly message: string } };
