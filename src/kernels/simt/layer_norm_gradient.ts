// Gradients of layer normalization in one pass over its rows: 32 threads keep a row in registers, sums for scale and bias stay with the columns' threads until the workgroup's last row.
import type { DType } from "../../ir/dtype.ts";
import { exchange, float, fn, int, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, select, sum, thread } from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_group.ts";
import { convertRegister } from "../../lower/simt_scalar.ts";

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

/** Threads of a row, and rows of a workgroup at a time. */
const LANES = 32;
const LINES = 4;
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

/** A row's elements, spread over threads by vectors. */
class Lanes {
  private readonly run: 1 | 2 | 4;
  private readonly count: number;
  /** Memory for sums, where threads do not see each other's registers. */
  private readonly array: number | null;

  constructor(
    private readonly b: SimtBuilder,
    private readonly width: number,
    private readonly lane: Reg,
  ) {
    this.run = width % (4 * LANES) === 0 ? 4 : width % (2 * LANES) === 0 ? 2 : 1;
    this.count = Math.ceil(width / (this.run * LANES));
    this.array = b.target.subgroup === LANES ? null : b.array("f32", LANES * LINES);
  }

  /** Elements of a thread. */
  get own(): number {
    return this.run * this.count;
  }
  /** Whether the last elements are beyond the row. */
  private get isRagged(): boolean {
    return this.width % (this.run * LANES) !== 0;
  }
  private first(piece: number): Reg {
    return this.b.let(fn("mul", sum(this.lane, piece * LANES), this.run));
  }

  load(buffer: number, from: Reg, outside: Reg): Reg[] {
    const { b, run, count, isRagged, width } = this;
    return Array.from({ length: count }, (_, p) => {
      const at = this.first(p);
      if (run > 1) return b.loadVector({ k: "buffer", number: buffer }, b.let(sum(from, at)), run as 2 | 4);
      const inside = fn("lt", at, width);
      const value = b.load(buffer, sum(from, isRagged ? fn("min", at, width - 1) : at));
      return [b.let(isRagged ? select(inside, value, outside) : value)];
    }).flat();
  }
  store(buffer: number, dtype: DType, from: Reg, values: readonly Reg[]): void {
    const { b, run } = this;
    this.pieces((at, p) => {
      const own = values.slice(p * run, (p + 1) * run);
      if (run > 1) b.storeVector({ k: "buffer", number: buffer }, b.let(sum(from, at)), own);
      else b.store(buffer, sum(from, at), convertRegister(dtype, "f32", own[0]));
    });
  }
  /** Elements beyond the row are 0. */
  masked(values: readonly Reg[]): readonly Reg[] {
    return this.isRagged ? values.map((v, i) => select(fn("lt", this.first(i), this.width), v, float(0))) : values;
  }
  /** Places of all elements that are in the row. */
  each(use: (at: Reg, i: number) => void): void {
    this.pieces((at, p) => {
      for (let e = 0; e < this.run; e++) use(sum(at, e), p * this.run + e);
    });
  }
  private pieces(use: (at: Reg, piece: number) => void): void {
    for (let p = 0; p < this.count; p++) {
      const at = this.first(p);
      if (this.isRagged) this.b.when(fn("lt", at, this.width), () => use(at, p));
      else use(at, p);
    }
  }

  /** The sum of what a row's threads hold, which all of them get. */
  total(values: readonly Reg[]): Reg {
    const { array, b, lane } = this;
    let all = b.let(values.reduce((s, v) => fn("add", s, v)));
    for (let by = LANES / 2; by >= 1; by /= 2) {
      if (array === null) {
        all = b.let(fn("add", all, b.let(exchange(all, by))));
        continue;
      }
      b.storeShared(array, thread(), all);
      b.barrier();
      const other = sum(fn("sub", thread(), lane), fn("xor", lane, by));
      all = b.let(fn("add", all, b.loadShared(array, other)));
      b.barrier();
    }
    return all;
  }
}
