// Embedding: indices (…) → rows of a table (…, width).
import { Parameter, type Tensor } from "../tensor/index.ts";
import { normal } from "./init.ts";
import { Module } from "./module.ts";
import { drawKeys, type Randomness } from "./random_stream.ts";

export interface EmbeddingOptions {
  readonly key: Randomness;
  /** Standard deviation of the first rows. */
  readonly deviation?: number;
}

export class Embedding extends Module {
  readonly weight: Parameter;

  constructor(count: number, width: number, { key, deviation = 1 }: EmbeddingOptions) {
    super();
    this.weight = new Parameter(normal(drawKeys(key, 1)[0], [count, width], deviation));
  }

  forward(indices: Tensor): Tensor {
    return this.weight.value.gather(indices, 0);
  }
}
