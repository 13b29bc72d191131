// Gradients of layer normalization in one pass over its rows: 32 threads keep a row in registers, sums for scale and bias stay with the columns' threads until the workgroup's last row.
import type { DType } from "../../ir/dtype.ts";
import { float, fn, int, SimtBuilder, type SimtKernel, type SimtTarget, select, sum, thread } from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_group.ts";
import { LANES, Lanes, LINES } from "./row_lanes.ts";

export interface LayerNormGradientShape {
  readonly rows: number;
  readonly width: number;
  readonly parts: number;
  readonly epsilon: number;
  readonly dy: DType;
  readonly isAdded: boolean;
  /** Type in which the rows' gradient is given as well. */
  readonly copy: DType | null;
}

/** Workgroups of a multiprocessor, which hide each other's waiting for memory and for sums. */
const RESIDENTS = 4;
/** Elements of a row that a thread holds at most: five values each stay in registers. */
const MOST_OWN = 32;

export const fitsLayerNormGradient = ({ width }: Pick<LayerNormGradientShape, "width">, { maxThreads, sharedBytes }: SimtTarget): boolean =>
  width > 0 && width <= LANES * MOST_OWN && LANES * LINES <= maxThreads && 4 * (2 * width + LANES * LINES) <= sharedBytes;

/** Buffers: x, scale, dy, what is added, gradients of x, of scale and of bias by parts, the copy. */
export function layerNormGradientKernel(name: string, shape: LayerNormGradientShape, target: SimtTarget): SimtKernel {
  const { rows, width, parts, epsilon, isAdded, copy } = shape;
  const b = new SimtBuilder(name, target);
  const x = b.buffer("x", "f32", rows * width, "read");
  const scale = b.buffer("scale", "f32", width, "read");
  const dy = b.buffer("dy", shape.dy, rows * width, "read");
  const added = isAdded ? b.buffer("added", "f32", rows * width, "read") : null;
  const dx = b.buffer("dx", "f32", rows * width, "write");
  const sums = ["dscale", "dbias"].map((of) => b.buffer(of, "f32", parts * width, "write"));
  const narrow = copy && b.buffer("copy", copy, rows * width, "write");
  const grid = gridOf(parts, target);
  const part = b.let(fn("min", linearGroup(grid), parts - 1));
  const [lane, line] = [b.let(fn("rem", thread(), LANES)), b.let(fn("div", thread(), LANES))];
  const row = new Lanes(b, width, lane);
  const totals = sums.map(() => Array.from({ length: row.own }, () => b.variable("f32", float(0))));
  const perPart = rows / parts;
  b.loop(0, perPart, LINES, (from) => {
    const own = b.let(sum(from, line));
    const isThere = b.let(fn("lt", own, perPart));
    const first = b.let(fn("mul", sum(fn("mul", part, perPart), fn("min", own, perPart - 1)), width));
    const values = row.load(x, first, float(0));
    const gradients = row.load(dy, first, float(0)).map((d) => b.let(select(isThere, d, float(0))));
    const mean = b.let(fn("div", row.total(values), width));
    const centered = values.map((v) => b.let(fn("sub", v, mean)));
    const variance = fn("div", row.total(row.masked(centered.map((c) => fn("mul", c, c)))), width);
    const inverse = b.let(fn("div", float(1), fn("sqrt", fn("add", variance, epsilon))));
    const normal = centered.map((c) => b.let(fn("mul", c, inverse)));
    const factors = row.load(scale, int(0), float(0)); // out of the cache: registers are short
    const scaled = gradients.map((d, i) => b.let(fn("mul", d, factors[i])));
    const [average, along] = [scaled, scaled.map((d, i) => fn("mul", d, normal[i]))].map((all) => b.let(fn("div", row.total(all), width)));
    for (const [i, d] of gradients.entries()) {
      b.set(totals[0][i], fn("fma", d, normal[i], totals[0][i]));
      b.set(totals[1][i], fn("add", totals[1][i], d));
    }
    b.when(isThere, () => {
      const others = added === null ? null : row.load(added, first, float(0));
      const results = scaled.map((d, i) => {
        const result = fn("mul", fn("sub", fn("sub", d, average), fn("mul", normal[i], along)), inverse);
        return b.let(others ? fn("add", result, others[i]) : result);
      });
      row.store(dx, "f32", first, results);
      if (copy && narrow !== null) row.store(narrow, copy, first, results);
    });
  });
  // One line after another adds its sums, so that their order is always the same.
  const array = b.array("f32", 2 * width);
  b.loop(0, LINES, 1, (turn) => {
    b.when(fn("eq", line, turn), () => {
      for (const [n, own] of totals.entries())
        row.each((at, i) =>
          b.storeShared(
            array,
            sum(at, n * width),
            fn("add", own[i], select(fn("eq", turn, 0), float(0), b.loadShared(array, sum(at, n * width)))),
          ),
        );
    });
    b.barrier();
  });
  b.loop(thread(), width, LANES * LINES, (at) => {
    for (const [n, buffer] of sums.entries())
      b.store(buffer, b.let(sum(fn("mul", part, width), at)), b.loadShared(array, sum(at, n * width)));
  });
  return b.build([LANES * LINES, 1, 1], grid, RESIDENTS);
}
