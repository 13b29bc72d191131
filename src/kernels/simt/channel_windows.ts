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

/** Parameters: the image, weights where there are any, what the tail reads, the output. */
export function channelWindows(name: string, w: ChannelWindows, target: SimtTarget): SimtKernel {
  const { dtype, images, channels, weights, input, output, kernel } = w;
  const b = new SimtBuilder(name, target);
  const image = b.buffer("image", dtype, images * channels * elementCount(input), "read");
  const taps = weights && b.buffer("weights", weights, elementCount(kernel) * channels, "read");
  const rows = images * elementCount(output);
  const tail = new TailCode(b, w.tail, { batch: 1, m: rows, n: channels, place: w.place });
  const run = Math.min(runOf(dtype, channels, []), weights ? runOf(weights, channels, []) : 8, 8);
  const across = channels / run;
  const groups = Math.ceil((rows * across) / THREADS);
  const y = Math.ceil(groups / target.maxGroups);
  const grid = [Math.ceil(groups / y), y, 1] as const;
  const at = b.let(sum(fn("mul", y === 1 ? group(0) : sum(fn("mul", group(1), grid[0]), group(0)), THREADS), thread()));
  b.when(fn("lt", at, rows * across), () => {
    const row = b.let(fn("div", at, across));
    const channel = b.let(fn("mul", fn("rem", at, across), run));
    const results = Array.from({ length: run }, () => b.variable("f32", float(weights ? 0 : Number.NEGATIVE_INFINITY)));
    visitTaps(b, w, row, (from, tap) => {
      const values = vector(b, image, b.let(sum(product(from, channels), channel)), run);
      const factors = taps === null ? null : vector(b, taps, b.let(sum(product(tap, channels), channel)), run);
      for (const [i, r] of results.entries()) b.set(r, factors ? fn("fma", values[i], factors[i], r) : fn("max", r, values[i])); // biome-ignore format: short
    });
    tail.store(int(0), row, channel, results);
  });
  return b.build([THREADS, 1, 1], grid);
}

const vector = (b: SimtBuilder, buffer: number, at: Reg, run: number): readonly Reg[] =>
  run === 1 ? [b.let(b.load(buffer, at))] : b.loadVector({ k: "buffer", number: buffer }, at, run as 2 | 4 | 8); // as runOf gives them

/** Numbers of the image's positions that the window of a row sees, and of the taps that see them: loops over outer axes, the innermost written out. */
function visitTaps(b: SimtBuilder, s: Pick<ChannelWindows, keyof Sliding>, row: Reg, visit: (position: Reg, tap: Reg) => void): void {
  const { input, output, kernel, strides, dilations, padsBegin } = s;
  const steps = stridesOf(input);
  const last = kernel.length - 1;
  const starts: Reg[] = [];
  let rest = row;
  for (let i = last; i >= 0; i--) {
    starts[i] = b.let(sum(product(fn("rem", rest, output[i]), strides[i]), -padsBegin[i]));
    rest = b.let(fn("div", rest, output[i]));
  }
  const axis = (i: number, position: Reg, tap: Reg): void => {
    const one = (t: Reg): void => {
      const at = b.let(sum(starts[i], product(t, dilations[i])));
      const within = (): void => {
        const next = b.let(sum(position, product(at, steps[i])));
        const number = b.let(sum(product(tap, kernel[i]), t));
        if (i === last) visit(next, number);
        else axis(i + 1, next, number);
      };
      if (isCovered(s, i)) within();
      else b.when(fn("lt", bits("u32", at), input[i]), within);
    };
    if (i === last) for (let t = 0; t < kernel[i]; t++) one(int(t));
    else b.loop(0, kernel[i], 1, one);
  };
  axis(0, b.let(product(rest, elementCount(input))), int(0));
}

/** Whether all windows are inside of the image along an axis. */
const isCovered = ({ input, output, kernel, strides, dilations, padsBegin }: Pick<ChannelWindows, keyof Sliding>, i: number): boolean =>
  padsBegin[i] === 0 && (output[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] < input[i];
