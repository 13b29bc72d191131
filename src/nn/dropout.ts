// Dropout: zeroes a part of its input while training.
import { HeddleError } from "../ir/error.ts";
import { dropout, type Tensor } from "../tensor/index.ts";
import { Module } from "./module.ts";
import type { RandomStream } from "./random_stream.ts";

/** Each number is zero with probability `p`; the rest grows by 1/(1 − p). Each call draws from the stream. */
export class Dropout extends Module {
  constructor(
    private readonly p: number,
    private readonly random: RandomStream,
  ) {
    super();
    if (!(p >= 0 && p < 1)) throw new HeddleError("bad-argument", `Dropout: p is ${p}, wanted 0 ≤ p < 1`);
  }

  forward(x: Tensor): Tensor {
    return this.training && this.p > 0 ? dropout(x, this.random.next(), this.p) : x;
  }
}
