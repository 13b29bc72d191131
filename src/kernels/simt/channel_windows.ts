// Windows over each channel by itself, channels innermost: depthwise convolutions and largest elements. A thread has neighbouring channels of one position.
import type { DType } from "../../ir/dtype.ts";
import {
  bits,
  float,
  fn,
  group,
  int,
  product,
  type Reg,
  SimtBuilder,
  type SimtKernel,
  type SimtTarget,
  select,
  sum,
  thread,
} from "../../ir/simt.ts";
import { elementCount, stridesOf } from "../../ir/tensor.ts";
import type { Sliding } from "./image_operand.ts";
import { runOf } from "./operand.ts";
import { type Results, type Tail, TailCode } from "./tail.ts";

export interface ChannelWindows extends Sliding {
  readonly dtype: DType;
  readonly images: number;
  readonly channels: number;
  /** Of the weights (tap, channel), whose products are summed; null: the largest element is taken. */
  readonly weights: DType | null;
  readonly tail: Tail;
  /** Where results (image and position, channel) belong. */
  readonly place: Results["place"];
}

const THREADS = 128;
/** Neighbouring positions and channels of a thread, at most: what its windows share is read once. */
const SHARES = [
  { positions: 4, most: 8 },
  { positions: 4, most: 2 },
  { positions: 4, most: 1 },
  { positions: 2, most: 1 },
  { positions: 1, most: 1 },
] as const;
/** Threads of a multiprocessor that hide each other's waiting for memory. */
const BUSY = 320;
const MULTIPROCESSORS = 16;

/** The largest share of the work that leaves enough threads; a small one where none does. */
function shareOf(run: number, channels: number, positions: number, last: number, { units = MULTIPROCESSORS }: SimtTarget) {
  const fit = SHARES.filter((s) => last % s.positions === 0).map((s) => ({ positions: s.positions, run: Math.min(run, s.most) }));
  const busy = fit.find((s) => (positions / s.positions) * (channels / s.run) >= BUSY * units);
  return busy ?? fit.find((s) => s.positions <= 2)!; // the last of all fits always
}

/** Parameters: the image, weights where there are any, what the tail reads, the output. */
export function channelWindows(name: string, w: ChannelWindows, target: SimtTarget): SimtKernel {
  const { dtype, images, channels, weights, input, output, kernel } = w;
  const b = new SimtBuilder(name, target);
  const image = b.buffer("image", dtype, images * channels * elementCount(input), "read");
  const taps = weights && b.buffer("weights", weights, elementCount(kernel) * channels, "read");
  const rows = images * elementCount(output);
  const tail = new TailCode(b, w.tail, { batch: 1, m: rows, n: channels, place: w.place });
  const widest = Math.min(runOf(dtype, channels, []), weights ? runOf(weights, channels, []) : 8);
  const { run, positions } = shareOf(widest, channels, rows, output[output.length - 1], target);
  const across = channels / run;
  const count = (rows / positions) * across;
  const groups = Math.ceil(count / THREADS);
  const y = Math.ceil(groups / target.maxGroups);
  const grid = [Math.ceil(groups / y), y, 1] as const;
  const at = b.let(sum(fn("mul", y === 1 ? group(0) : sum(fn("mul", group(1), grid[0]), group(0)), THREADS), thread()));
  b.when(fn("lt", at, count), () => {
    const row = b.let(fn("mul", fn("div", at, across), positions));
    const channel = b.let(fn("mul", fn("rem", at, across), run));
    const nothing = float(weights ? 0 : Number.NEGATIVE_INFINITY);
    const results = Array.from({ length: positions }, () => Array.from({ length: run }, () => b.variable("f32", nothing)));
    visitLines(b, w, row, ({ columns, tap }) => {
      const factors = taps === null ? null : Array.from({ length: kernel[kernel.length - 1] }, (_, t) => vector(b, taps, b.let(sum(product(sum(tap, t), channels), channel)), run)); // biome-ignore format: one idea
      const seen = columnsOf(w, positions);
      const values = seen.map((c) => {
        const { position, isInside } = columns(c);
        const from = b.let(sum(product(isInside ? select(isInside, position, int(0)) : position, channels), channel));
        return vector(b, image, from, run).map((v) => (isInside ? b.let(select(isInside, v, nothing)) : v));
      });
      for (const [p, line] of results.entries())
        for (let t = 0; t < kernel[kernel.length - 1]; t++) {
          const value = values[seen.indexOf(columnOf(w, p, t))];
          for (const [i, r] of line.entries()) b.set(r, factors ? fn("fma", value[i], factors[t][i], r) : fn("max", r, value[i]));
        }
    });
    for (const [p, line] of results.entries()) tail.store(int(0), sum(row, p), channel, line);
  });
  return b.build([THREADS, 1, 1], grid);
}

const vector = (b: SimtBuilder, buffer: number, at: Reg, run: number): readonly Reg[] =>
  run === 1 ? [b.let(b.load(buffer, at))] : b.loadVector({ k: "buffer", number: buffer }, at, run as 2 | 4 | 8); // as runOf gives them

/** Column that tap t of the p-th of neighbouring positions sees, from the first's first. */
const columnOf = ({ strides, dilations }: Sliding, p: number, t: number): number =>
  p * strides[strides.length - 1] + t * dilations[dilations.length - 1];
/** All of them. */
const columnsOf = (s: Sliding, positions: number): readonly number[] => {
  const taps = Array.from({ length: s.kernel[s.kernel.length - 1] }, (_, t) => t);
  const all = Array.from({ length: positions }, (_, p) => taps.map((t) => columnOf(s, p, t))).flat();
  return [...new Set(all)].sort((a, b) => a - b);
};

/** A line of the image that windows see, and the number of the tap that sees its first column. */
interface Line {
  /** Number of the image's position `c` columns behind the first, and whether there is one; null: always. */
  columns(c: number): { readonly position: Reg; readonly isInside: Reg | null };
  readonly tap: Reg;
}

/** Visits the lines that the window of a row sees, and those of its neighbours. */
function visitLines(b: SimtBuilder, s: Sliding, row: Reg, visit: (line: Line) => void): void {
  const { input, output, kernel, strides, dilations, padsBegin } = s;
  const steps = stridesOf(input);
  const last = kernel.length - 1;
  const starts: Reg[] = [];
  let rest = row;
  for (let i = last; i >= 0; i--) {
    starts[i] = b.let(sum(product(fn("rem", rest, output[i]), strides[i]), -padsBegin[i]));
    rest = b.let(fn("div", rest, output[i]));
  }
  const isThere = (i: number, at: Reg): Reg | null => (isCovered(s, i) ? null : b.let(fn("lt", bits("u32", at), input[i])));
  const axis = (i: number, position: Reg, tap: Reg, isInside: Reg | null): void => {
    if (i === last) {
      const columns = (c: number): ReturnType<Line["columns"]> => {
        const at = b.let(sum(starts[i], c));
        return { position: sum(position, at), isInside: both(isInside, isThere(i, at)) };
      };
      visit({ columns, tap: b.let(product(tap, kernel[i])) });
      return;
    }
    const one = (t: Reg): void => {
      const at = b.let(sum(starts[i], product(t, dilations[i])));
      axis(i + 1, b.let(sum(position, product(at, steps[i]))), b.let(sum(product(tap, kernel[i]), t)), both(isInside, isThere(i, at)));
    };
    b.loop(0, kernel[i], 1, one, true);
  };
  axis(0, b.let(product(rest, elementCount(input))), int(0), null);

  function both(a: Reg | null, c: Reg | null): Reg | null {
    return a && c ? b.let(fn("and", a, c)) : (a ?? c);
  }
}

/** Whether all windows are inside of the image along an axis. */
const isCovered = ({ input, output, kernel, strides, dilations, padsBegin }: Sliding, i: number): boolean =>
  padsBegin[i] === 0 && (output[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] < input[i];
