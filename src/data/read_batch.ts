// Numbers of examples → batch: read, transformed and collated, with the number of the example that failed in errors.
import type { DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { zeros } from "../ir/tensor.ts";
import type { Allocate, Batch, Collate, Dataset, Example } from "./dataset.ts";
import { Random } from "./random.ts";

export interface BatchSource {
  readonly dataset: Dataset;
  readonly collate: Collate;
  readonly seed: number;
}

export interface BatchJob {
  readonly epoch: number;
  readonly indices: Uint32Array;
}

function failed(index: number, cause: unknown): HeddleError {
  const message = cause instanceof Error ? cause.message : String(cause);
  return new HeddleError(cause instanceof HeddleError ? cause.code : "bad-input", `data: example ${index}: ${message}`, { cause });
}

/** Starts all reads of a batch at once: those that wait for a disk wait together. */
export async function readBatch({ dataset, collate, seed }: BatchSource, { epoch, indices }: BatchJob, allocate: Allocate): Promise<Batch> {
  const examples: (Example | Promise<Example>)[] = [];
  let isWaiting = false;
  for (const index of indices) {
    try {
      const example = dataset.get(index, new Random(seed, epoch, index));
      if (example instanceof Promise) {
        isWaiting = true;
        examples.push(
          example.catch((cause) => {
            throw failed(index, cause);
          }),
        );
      } else examples.push(example);
    } catch (cause) {
      await Promise.allSettled(examples); // nothing is left running, and no rejection unheard
      throw failed(index, cause);
    }
  }
  return collate.collate(isWaiting ? await all(examples) : (examples as Example[]), allocate); // no promise among them
}

/** As Promise.all, but the error is that of the first example in order, whichever failed first. */
async function all(examples: readonly (Example | Promise<Example>)[]): Promise<Example[]> {
  const settled = await Promise.allSettled(examples);
  return settled.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}

/** Memory of this thread. */
export const allocateHere: Allocate = (dtype: DType, shape) => zeros(dtype, shape);
