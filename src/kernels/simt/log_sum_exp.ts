// Logarithms of sums of exponentials of long lines, which are read once: each thread keeps the largest element so far, and sums relative to it.
import type { DType } from "../../ir/dtype.ts";
import { float, fn, int, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, select, sum, thread } from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_group.ts";

export interface LogSumExpShape {
  readonly rows: number;
  /** Elements of a line, and from one line to the next. */
  readonly width: number;
  readonly stride: number;
  readonly dtype: DType;
}

const THREADS = 256;
/** Bytes that a thread loads at once. */
const BYTES = 16;
/** Loads of a thread that need not wait for each other. */
const BATCH = 2;
const LOWEST = Number.NEGATIVE_INFINITY;

/** Whether lines are worth a workgroup, and can be read by vectors. */
export const fitsLogSumExp = ({ rows, width, stride, dtype }: LogSumExpShape, target: SimtTarget): boolean =>
  rows > 0 && width >= 8 * THREADS && stride % vectorOf(dtype) === 0 && THREADS <= target.maxThreads;

const vectorOf = (dtype: DType): 4 | 8 => (dtype === "f32" ? 4 : ((BYTES / 2) as 8));

/** Buffers: lines, results. */
export function logSumExpKernel(name: string, shape: LogSumExpShape, target: SimtTarget): SimtKernel {
  const { rows, width, stride, dtype } = shape;
  const b = new SimtBuilder(name, target);
  const x = b.buffer("x", dtype, rows * stride, "read");
  const out = b.buffer("out", "f32", rows, "write");
  const array = b.array("f32", THREADS);
  const grid = gridOf(rows, target);
  const group = b.let(linearGroup(grid));
  const first = b.let(fn("mul", fn("min", group, rows - 1), stride)); // groups beyond the last go through the barriers too
  const [largest, total] = [b.variable("f32", float(LOWEST)), b.variable("f32", float(0))];
  const add = (values: readonly Reg[]): void => {
    const most = b.let(values.reduce((a, v) => fn("max", a, v)));
    b.when(fn("gt", most, largest), () => {
      b.set(total, fn("mul", total, power(fn("sub", largest, most))));
      b.set(largest, most);
    });
    const from = b.let(orZero(largest));
    b.set(total, fn("add", total, values.map((v) => power(fn("sub", v, from))).reduce((a, v) => fn("add", a, v)))); // biome-ignore format: one idea
  };
  const run = vectorOf(dtype);
  const vectors = Math.floor(width / run);
  const load = (vector: Reg): readonly Reg[] => b.loadVector({ k: "buffer", number: x }, b.let(sum(first, fn("mul", vector, run))), run);
  const whole = Math.floor(vectors / (THREADS * BATCH)) * THREADS * BATCH;
  b.loop(thread(), whole, THREADS * BATCH, (from) => {
    const batch = Array.from({ length: BATCH }, (_, i) => load(b.let(sum(from, i * THREADS))));
    for (const values of batch) add(values);
  });
  b.loop(sum(thread(), whole), vectors, THREADS, (vector) => add(load(vector)));
  b.loop(sum(thread(), vectors * run), width, THREADS, (at) => add([b.let(b.load(x, sum(first, at)))]));
  const most = together(b, array, largest, "max");
  const all = together(b, array, b.let(fn("mul", total, power(fn("sub", orZero(largest), orZero(most))))), "add");
  const result = fn("add", orZero(most), fn("log", all));
  b.when(fn("and", fn("eq", thread(), 0), fn("lt", group, rows)), () => b.store(out, group, result));
  return b.build([THREADS, 1, 1], grid);
}

/** eˣ. */
const power = (x: Reg): Reg => fn("exp2", fn("mul", x, Math.LOG2E));
/** What is subtracted where nothing is larger than -∞ is 0. */
const orZero = (largest: Reg): Reg => select(fn("gt", largest, float(LOWEST)), largest, float(0));

/** The largest, or the sum, of what the threads hold, always in the same order. */
function together(b: SimtBuilder, array: number, own: Reg, join: "max" | "add"): Reg {
  b.barrier(); // others may still read what was there
  b.storeShared(array, thread(), own);
  for (let half = THREADS / 2; half >= 1; half /= 2) {
    b.barrier();
    b.when(fn("lt", thread(), half), () =>
      b.storeShared(array, thread(), fn(join, b.loadShared(array, thread()), b.loadShared(array, sum(thread(), half)))),
    );
  }
  b.barrier();
  return b.let(b.loadShared(array, int(0)));
}
