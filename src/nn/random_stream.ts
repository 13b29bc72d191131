// RandomStream: a seed → as many keys as are asked for, one after another, inside of compiled functions too.
import { type Key, key, Parameter, random, Tensor } from "../tensor/index.ts";

/** Its state is a parameter, so that each run of a compiled step draws anew, and a checkpoint can hold it. */
export class RandomStream {
  readonly state: Parameter<readonly [2], "u32">;

  constructor(seed: number | Key) {
    const first = typeof seed === "number" ? key(seed) : seed;
    this.state = new Parameter(first as Tensor<readonly [2], "u32">, { name: "random", trainable: false });
  }

  /** A key that was not given before. */
  next(): Key {
    const [state, given] = random.split(this.state.value);
    this.state.value = state;
    return given;
  }
}

/** Where layers draw their first weights from: a key for each layer, or a stream for all of them. */
export type Randomness = Key | RandomStream;

/** `count` keys of their own. */
export const drawKeys = (from: Randomness, count: number): Key[] =>
  from instanceof Tensor ? random.split(from, count) : Array.from({ length: count }, () => from.next());

/** A stream that a composite hands to its layers. */
export const streamOf = (from: Randomness): RandomStream => (from instanceof RandomStream ? from : new RandomStream(from));
