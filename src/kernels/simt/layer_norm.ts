// Layer normalization of rows that 32 threads keep in registers: read once, written once.
import type { DType } from "../../ir/dtype.ts";
import { float, fn, int, SimtBuilder, type SimtKernel, type SimtTarget, sum, thread } from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_group.ts";
import { LANES, Lanes, LINES } from "./row_lanes.ts";

export interface LayerNormShape {
  readonly rows: number;
  readonly width: number;
  readonly epsilon: number;
  readonly x: DType;
  readonly hasBias: boolean;
  readonly out: DType;
}

/** Elements of a row that a thread holds at most. */
const MOST_OWN = 64;
/** Fewer rows than these leave multiprocessors idle: a workgroup's threads share a row then. */
const LEAST_ROWS = 1024;

export const fitsLayerNorm = ({ rows, width }: Pick<LayerNormShape, "rows" | "width">, { maxThreads }: SimtTarget): boolean =>
  rows >= LEAST_ROWS && width > 0 && width <= LANES * MOST_OWN && LANES * LINES <= maxThreads;

/** Buffers: x, scale, bias where there is one, the result. */
export function layerNormKernel(
  name: string,
  { rows, width, epsilon, x: type, hasBias, out: to }: LayerNormShape,
  target: SimtTarget,
): SimtKernel {
  const b = new SimtBuilder(name, target);
  const x = b.buffer("x", type, rows * width, "read");
  const scale = b.buffer("scale", "f32", width, "read");
  const bias = hasBias ? b.buffer("bias", "f32", width, "read") : null;
  const out = b.buffer("out", to, rows * width, "write");
  const grid = gridOf(Math.ceil(rows / LINES), target);
  const [lane, line] = [b.let(fn("rem", thread(), LANES)), b.let(fn("div", thread(), LANES))];
  const row = new Lanes(b, width, lane);
  const at = b.let(sum(fn("mul", linearGroup(grid), LINES), line));
  const first = b.let(fn("mul", fn("min", at, rows - 1), width)); // threads beyond the last row may have to meet the others
  const values = row.load(x, first, float(0));
  const mean = b.let(fn("div", row.total(values), width));
  const centered = values.map((v) => b.let(fn("sub", v, mean)));
  const variance = fn("div", row.total(row.masked(centered.map((c) => fn("mul", c, c)))), width);
  const inverse = b.let(fn("div", float(1), fn("sqrt", fn("add", variance, epsilon))));
  const factors = row.load(scale, int(0), float(0));
  const terms = bias === null ? null : row.load(bias, int(0), float(0));
  b.when(fn("lt", at, rows), () => {
    const results = centered.map((c, i) => {
      const scaled = fn("mul", fn("mul", c, inverse), factors[i]);
      return b.let(terms ? fn("add", scaled, terms[i]) : scaled);
    });
    row.store(out, to, first, results);
  });
  return b.build([LANES * LINES, 1, 1], grid);
}
