// RoiAlign where each region decides how many samples its bins have: a thread for each element of the result, two loops over its samples.
import { cast, float, fn, product, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, select, sum, thread } from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_grid.ts";

export interface RegionBins {
  /** x (N, C, H, W), float32. */
  readonly image: readonly [batch: number, channels: number, height: number, width: number];
  readonly regions: number;
  readonly rows: number;
  readonly columns: number;
  readonly isMean: boolean;
  /** Places are those of elements' middles. */
  readonly isHalf: boolean;
  readonly scale: number;
}

const THREADS = 256;
/** As on the host: more would be a region far outside of any picture. */
const MOST_SAMPLES = 1024;

const limited = (a: Reg, lo: number, hi: number): Reg => fn("min", fn("max", a, lo), hi);

/** Buffers: x, regions (R, 4), number of the picture of each, output (R, C, rows, columns). */
export function roiAlignKernel(name: string, s: RegionBins, target: SimtTarget): SimtKernel {
  const [batch, channels, height, width] = s.image;
  const count = s.regions * channels * s.rows * s.columns;
  const b = new SimtBuilder(name, target);
  const x = b.buffer("x", "f32", batch * channels * height * width, "read");
  const regions = b.buffer("regions", "f32", 4 * s.regions, "read");
  const numbers = b.buffer("numbers", "i64", s.regions, "read");
  const output = b.buffer("output", "f32", count, "write");
  const grid = gridOf(Math.ceil(count / THREADS), target);
  const at = b.let(sum(product(linearGroup(grid), THREADS), thread()));

  /** Bin number `bin` of `bins` between corners `first` and `first` + 2 of a region: how many samples, and where they are. */
  const binOf = (region: Reg, first: number, bins: number, bin: Reg): { samples: Reg; place(sample: Reg): Reg } => {
    const corner = (i: number): Reg => fn("sub", fn("mul", b.load(regions, sum(product(region, 4), i)), s.scale), s.isHalf ? 0.5 : 0);
    const from = b.let(corner(first));
    const length = b.let(fn("sub", corner(first + 2), from));
    const size = b.let(fn("div", s.isHalf ? length : fn("max", length, 1), bins));
    const samples = b.let(cast("i32", limited(fn("ceil", size), 1, MOST_SAMPLES)));
    const step = b.let(fn("div", size, cast("f32", samples)));
    const start = b.let(fn("add", from, fn("mul", cast("f32", bin), size)));
    return { samples, place: (sample) => fn("add", start, fn("mul", fn("add", cast("f32", sample), 0.5), step)) };
  };
  /** Two elements of an axis of n around a place, with their weights; outside of the picture they have none. */
  const around = (place: Reg, n: number): readonly { readonly at: Reg; readonly weight: Reg }[] => {
    const inside = b.let(limited(place, 0, n - 1));
    const low = b.let(limited(cast("i32", inside), 0, n - 1));
    const share = b.let(fn("sub", inside, cast("f32", low)));
    const isSeen = b.let(fn("and", fn("ge", place, -1), fn("le", place, n)));
    return [
      { at: low, weight: b.let(select(isSeen, fn("sub", float(1), share), float(0))) },
      { at: b.let(fn("min", sum(low, 1), n - 1)), weight: b.let(select(isSeen, share, float(0))) },
    ];
  };

  b.when(fn("lt", at, count), () => {
    const part = (step: number, size: number): Reg => b.let(fn("rem", fn("div", at, step), size));
    const region = b.let(fn("div", at, channels * s.rows * s.columns));
    const picture = limited(b.load(numbers, region), 0, batch - 1);
    const plane = b.let(product(sum(product(picture, channels), part(s.rows * s.columns, channels)), height * width));
    const down = binOf(region, 1, s.rows, part(s.columns, s.rows));
    const across = binOf(region, 0, s.columns, part(1, s.columns));
    const total = b.variable("f32", float(s.isMean ? 0 : Number.NEGATIVE_INFINITY));
    b.loop(0, down.samples, 1, (v) => {
      const vertical = around(b.let(down.place(v)), height);
      b.loop(0, across.samples, 1, (h) => {
        const horizontal = around(b.let(across.place(h)), width);
        for (const row of vertical)
          for (const column of horizontal) {
            const element = b.load(x, sum(plane, product(row.at, width), column.at));
            const weighted = fn("mul", element, fn("mul", row.weight, column.weight));
            // The largest of the weighted neighbours, not of the interpolated samples: as ONNX has it.
            b.set(total, fn(s.isMean ? "add" : "max", total, weighted));
          }
      });
    });
    const samples = cast("f32", product(down.samples, across.samples));
    b.store(output, at, s.isMean ? fn("div", total, samples) : total);
  });
  return b.build([THREADS, 1, 1], grid);
}
