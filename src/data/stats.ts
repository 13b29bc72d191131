// What a loader counted → one line for people.

export interface LoaderStats {
  readonly batches: number;
  readonly examples: number;
  /** How long the consumer waited for batches. */
  readonly waitedMs: number;
  /** The part of it that was waited for first batches, while threads started. */
  readonly startMs: number;
  /** How long batches took to read, on whatever thread. */
  readonly readMs: number;
  /** From the first request to the last batch. */
  readonly elapsedMs: number;
  readonly workers: number;
  readonly prefetch: number;
}

const seconds = (ms: number): string => (ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** `data: 469 batches, 60000 examples; waited 31 ms (0.2 % of 14.1 s; 28 ms for the start) for 3.2 s of reading in 2 threads, 4 batches ahead`. */
export function describeStats(stats: LoaderStats): string {
  const { batches, examples, waitedMs, startMs, readMs, elapsedMs, workers, prefetch } = stats;
  const share = elapsedMs > 0 ? ((100 * waitedMs) / elapsedMs).toFixed(1) : "0.0";
  const where = workers === 0 ? "when asked" : `in ${workers} thread${workers === 1 ? "" : "s"}`;
  const ahead = prefetch === 0 ? "" : `, ${prefetch} batch${prefetch === 1 ? "" : "es"} ahead`;
  const waited = `waited ${seconds(waitedMs)} (${share} % of ${seconds(elapsedMs)}; ${seconds(startMs)} for the start)`;
  return `data: ${batches} batches, ${examples} examples; ${waited} for ${seconds(readMs)} of reading ${where}${ahead}`;
}
