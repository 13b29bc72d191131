// Datasets, transforms and collations that loader.test.ts has worker threads make: what a user's own module looks like.
import type { Collate, Dataset, Example, Transform } from "../../src/data/dataset.ts";
import type { Random } from "../../src/data/random.ts";
import { fromNumbers, toNumbers } from "../../src/ir/tensor.ts";

/** Item i is i and a random number; some take longer than others; one fails. */
export class Numbers implements Dataset<"x" | "chance"> {
  readonly length: number;
  private readonly bad: number;

  constructor(length: number, bad = -1) {
    this.length = length;
    this.bad = bad;
  }

  async get(index: number, random: Random): Promise<Example<"x" | "chance">> {
    const x = fromNumbers("i32", [], [index]);
    const chance = fromNumbers("f64", [], [random.uniform()]);
    if (index % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 3));
    if (index === this.bad) throw new Error("the file is broken");
    return { x, chance };
  }
}

/** Item i is i ones. */
export const openRagged = async (length: number): Promise<Dataset<"x">> => ({
  length,
  get: (index) => ({ x: fromNumbers("f32", [index], new Array(index).fill(1)) }),
});

export const double = (): Transform => ({
  apply: ({ x, ...rest }) => ({
    ...rest,
    x: fromNumbers(
      x.dtype,
      x.shape,
      toNumbers(x).map((value) => 2 * value),
    ),
  }),
});

/** The sum only. */
export const summed = (): Collate => ({
  collate(examples, allocate) {
    const out = allocate("f64", [1]);
    out.data[0] = examples.reduce((sum, { x }) => sum + Number(x.data[0]), 0);
    return { sum: out };
  },
});

export const crash = (): Dataset => ({ length: 4, get: () => process.exit(3) });
export const notFunction = 1;
