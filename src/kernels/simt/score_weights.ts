// Weights of attention from scores, and the gradient of scores: a subgroup for each query, whose scores stay in registers; keys that it does not see are not read.
import { DTYPES } from "../../ir/dtype.ts";
import { exchange, float, fn, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, select, sum, thread } from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_group.ts";
import { convertRegister } from "../../lower/simt_scalar.ts";

export interface ScoreLines {
  readonly dtype: "f32" | "f16" | "bf16";
  /** Lines of `keys` scores each; `queries` of them follow each other in a head. */
  readonly lines: number;
  readonly queries: number;
  readonly keys: number;
  /** Query i sees keys 0 to i + keys − queries. */
  readonly isCausal: boolean;
  /** Positive. */
  readonly scale: number;
}

const THREADS = 256;
const SUBGROUP = 32;
/** Elements of a line that a thread holds. */
const MOST = 64;

/** Elements that are loaded at once: 16 bytes. */
const runOf = ({ dtype }: ScoreLines): 4 | 8 => (DTYPES[dtype].bytes === 2 ? 8 : 4);

/** Whether a subgroup holds a line in whole vectors. */
export const fitsScoreLines = (shape: ScoreLines, target: SimtTarget): boolean =>
  target.subgroup === SUBGROUP &&
  shape.scale > 0 &&
  shape.keys % (SUBGROUP * runOf(shape)) === 0 &&
  shape.keys <= SUBGROUP * MOST &&
  shape.lines > 0;

/** What a thread has of its subgroup's line. */
class Line {
  readonly b: SimtBuilder;
  readonly grid: readonly [number, number, number];
  private readonly isOwn: Reg;
  private readonly base: Reg;
  /** First element of each of the thread's vectors, and the last key that the query sees. */
  private readonly places: readonly Reg[];
  private readonly last: Reg | null;

  constructor(
    name: string,
    private readonly shape: ScoreLines,
    target: SimtTarget,
    buffers: readonly string[],
  ) {
    const { dtype, lines, queries, keys, isCausal } = shape;
    this.b = new SimtBuilder(name, target);
    const { b } = this;
    for (const [i, buffer] of buffers.entries()) b.buffer(buffer, dtype, lines * keys, i === buffers.length - 1 ? "write" : "read");
    const perGroup = THREADS / SUBGROUP;
    this.grid = gridOf(Math.ceil(lines / perGroup), target);
    const number = b.let(sum(fn("mul", linearGroup(this.grid), perGroup), fn("div", thread(), SUBGROUP)));
    this.isOwn = fn("lt", number, lines);
    const line = b.let(fn("min", number, lines - 1)); // subgroups beyond the last line only read
    this.base = b.let(fn("mul", line, keys));
    const run = runOf(shape);
    const first = b.let(fn("mul", fn("rem", thread(), SUBGROUP), run));
    this.places = Array.from({ length: keys / SUBGROUP / run }, (_, i) => b.let(sum(first, i * SUBGROUP * run)));
    this.last = isCausal ? b.let(sum(fn("rem", line, queries), keys - queries)) : null;
  }

  /** The thread's elements of a buffer; `hidden` where the query sees no key. */
  load(buffer: number, hidden: number): readonly Reg[] {
    const { b, base, places, last } = this;
    const run = runOf(this.shape);
    return places.flatMap((place) => {
      const read = () => b.loadVector({ k: "buffer", number: buffer }, sum(base, place), run);
      if (!last) return read();
      const values = Array.from({ length: run }, () => b.variable("f32", float(hidden)));
      b.when(fn("le", place, last), () => {
        for (const [i, v] of read().entries()) b.set(values[i], select(fn("le", sum(place, i), last), v, float(hidden)));
      });
      return values;
    });
  }

  /** Of all elements of the line; the same bits in all threads. */
  reduce(values: readonly Reg[], join: (x: Reg, y: Reg) => Reg): Reg {
    const { b } = this;
    let all = values.reduce((x, y) => b.let(join(x, y)));
    for (let by = SUBGROUP / 2; by >= 1; by /= 2) all = b.let(join(all, b.let(exchange(all, by))));
    return all;
  }

  store(buffer: number, values: readonly Reg[]): SimtKernel {
    const { b, base, places } = this;
    const run = runOf(this.shape);
    const rounded = values.map((v) => (b.target.name === "cuda" ? v : convertRegister(this.shape.dtype, "f32", v))); // CUDA's stores round
    b.when(this.isOwn, () => {
      for (const [i, place] of places.entries())
        b.storeVector({ k: "buffer", number: buffer }, sum(base, place), rounded.slice(i * run, (i + 1) * run));
    });
    return b.build([THREADS, 1, 1], this.grid);
  }
}

const add = (x: Reg, y: Reg): Reg => fn("add", x, y);

/** Buffers: scores, weights. */
export function scoreWeightsKernel(name: string, shape: ScoreLines, target: SimtTarget): SimtKernel {
  const line = new Line(name, shape, target, ["scores", "weights"]);
  const { b } = line;
  const scores = line.load(0, Number.NEGATIVE_INFINITY);
  const largest = b.let(
    fn(
      "mul",
      line.reduce(scores, (x, y) => fn("max", x, y)),
      shape.scale,
    ),
  );
  const powers = scores.map((s) => b.let(fn("exp", fn("sub", fn("mul", s, shape.scale), largest))));
  const inverse = b.let(fn("div", float(1), line.reduce(powers, add)));
  return line.store(1, powers.map((p) => b.let(fn("mul", p, inverse)))); // biome-ignore format: short
}

/** Buffers: weights, their gradient, the scores' gradient. */
export function scoreWeightsGradKernel(name: string, shape: ScoreLines, target: SimtTarget): SimtKernel {
  const line = new Line(name, shape, target, ["weights", "gradient", "out"]);
  const { b } = line;
  const [weights, gradient] = [line.load(0, 0), line.load(1, 0)];
  const products = weights.map((w, i) => b.let(fn("mul", w, gradient[i])));
  const total = line.reduce(products, add);
  return line.store(2, weights.map((w, i) => b.let(fn("mul", fn("mul", w, fn("sub", gradient[i], total)), shape.scale)))); // biome-ignore format: short
}
