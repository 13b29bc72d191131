// What the benchmark asks of an engine that learns.

export interface Learner {
  readonly name: string;
  readonly version: string;
  /** One step on the batch of this number (they repeat): the loss before it. */
  step(at: number): Promise<number>;
  close(): void;
}
