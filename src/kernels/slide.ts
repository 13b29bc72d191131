// Windows that slide over each channel by itself on channels-last images: depthwise convolution, maximum and average pooling.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { type OutputPlace, outputPlace } from "./conv.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import { overTaps, type TileRun, tapBounds, tileRuns, type WindowAxis } from "./window.ts";
import { shareOut } from "./work.ts";

export interface SlideShape {
  readonly batch: number;
  readonly channels: number;
  readonly y: WindowAxis;
  readonly x: WindowAxis;
  /** multiply: a weight for each tap and channel · max · mean: over the taps inside the image, or over all of them. */
  readonly combine: "multiply" | "max" | "mean" | "meanOfAll";
  /** Whether the sums start at a bias (multiply only). */
  readonly hasBias: boolean;
  readonly output: OutputPlace;
}

/** Buffers: input (batch, y, x, channels), weights and bias when there are any, the epilogue's inputs, output. */
export function slideKernel(name: string, shape: SlideShape, epilogue: Epilogue, target: SimdTarget, threads: number): Kernel {
  return new Slide(name, shape, epilogue, target, threads).build();
}

class Slide {
  private readonly b: KernelBuilder;
  private readonly input: number;
  private readonly weights: number = -1;
  private readonly bias: number = -1;
  private readonly epilogue: EpilogueCode;
  private readonly runs: readonly TileRun[];

  constructor(
    name: string,
    private readonly shape: SlideShape,
    epilogue: Epilogue,
    target: SimdTarget,
    threads: number,
  ) {
    const { batch, channels, y, x } = shape;
    this.b = new KernelBuilder(name, target, threads);
    this.input = this.b.buffer("input", 4 * batch * y.inputs * x.inputs * channels, "read");
    if (shape.combine === "multiply") this.weights = this.b.buffer("weights", 4 * y.taps * x.taps * channels, "read");
    if (shape.hasBias) this.bias = this.b.buffer("bias", 4 * channels, "read");
    this.epilogue = new EpilogueCode(this.b, epilogue, channels);
    // Registers: one result for each output, the weights of a window row, one input.
    const free = target.registers - 3 - (shape.combine === "multiply" ? Math.min(x.taps, 7) : 0);
    const most = Math.max(1, Math.min(free, x.taps === 1 ? 8 : 14));
    const rows = Math.ceil(x.outputs / Math.ceil(x.outputs / most));
    const sumBytes = this.epilogue.scratchBytes({ rows, vectors: 1 }, x.taps * y.taps);
    if (sumBytes > 0) this.epilogue.useScratch(this.b.buffer("results", sumBytes, "scratch"), 0);
    this.runs = tileRuns(x, rows);
  }

  build(): Kernel {
    const { b, shape } = this;
    const { channels, batch, y } = shape;
    const vectors = Math.ceil(channels / b.lanes);
    const full = Math.floor(channels / b.lanes);
    shareOut(b, [batch * y.outputs, vectors], ([rows, columns]) => {
      b.loop(rows.from, rows.to, 1, (row) => {
        const image: Int = batch === 1 ? 0 : b.div(row, y.outputs);
        const oy: Int = batch === 1 ? row : b.mod(row, y.outputs);
        for (const run of this.runs) {
          b.loop(0, run.count, 1, (i) => {
            const x = plus(run.from, times(i, run.width));
            if (full > 0)
              b.loop(columns.from, full < vectors ? b.min(columns.to, full) : columns.to, 1, (v) =>
                this.tile(image, oy, x, run, times(v, b.lanes), b.lanes),
              );
            if (full < vectors) b.when(full, columns.to, () => this.tile(image, oy, x, run, full * b.lanes, channels - full * b.lanes));
          });
        }
      });
    });
    return b.build();
  }

  /** The outputs of one tile, for `lanes` channels from `channel` on. */
  private tile(image: Int, y: Int, x: Int, run: TileRun, channel: Int, lanes: number): void {
    const { b, shape, epilogue } = this;
    const start = shape.hasBias
      ? b.load(this.bias, times(channel, 4), lanes)
      : b.f32(shape.combine === "max" ? Number.NEGATIVE_INFINITY : 0);
    const results = run.taps.map(() => b.op("mov", start));
    overTaps(b, shape.y, y, (tapY, inputY) => this.tapRow(image, tapY, inputY, x, run, channel, lanes, results));
    const factors = this.factors(y, run);
    const values = results.map((result, r) => [factors ? b.op("mul", result, factors[r]) : result]);
    const place = outputPlace(shape.output, image, y, x);
    epilogue.storeTile(values, { ...place, column: () => channel, lanesOf: () => lanes });
  }

  /** One window row: each input is loaded once and given to all outputs that see it. */
  private tapRow(image: Int, tapY: Int, inputY: Int, x: Int, run: TileRun, channel: Int, lanes: number, results: readonly Vec[]): void {
    const { b, shape } = this;
    const { channels } = shape;
    const { stride, offset, dilation, taps, inputs } = shape.x;
    const weights: (Vec | undefined)[] = new Array(taps);
    const weight = (tap: number): Vec => {
      weights[tap] ??= b.load(this.weights, plus(times(tapY, taps * channels * 4), tap * channels * 4, times(channel, 4)), lanes);
      return weights[tap];
    };
    const row = plus(times(image, shape.y.inputs * inputs * channels * 4), times(inputY, inputs * channels * 4), times(channel, 4));
    const users = new Map<number, { output: number; tap: number }[]>();
    for (const [r, [lo, hi]] of run.taps.entries())
      for (let tap = lo; tap < hi; tap++) {
        const position = r * stride + tap * dilation;
        users.set(position, [...(users.get(position) ?? []), { output: r, tap }]);
      }
    for (const [position, uses] of [...users].sort((a, b) => a[0] - b[0])) {
      const at = plus(row, times(plus(times(x, stride), offset + position), channels * 4));
      const value = b.load(this.input, at, lanes);
      for (const { output, tap } of uses) {
        const result = results[output];
        if (shape.combine === "multiply") b.accumulate(result, value, weight(tap));
        else b.op(shape.combine === "max" ? "max" : "add", value, result, undefined, result);
      }
    }
  }

  /** What the sums of a mean are multiplied with: 1 over the number of taps. */
  private factors(y: Int, run: TileRun): Vec[] | undefined {
    const { b, shape } = this;
    if (shape.combine === "meanOfAll") return run.taps.map(() => b.f32(1 / (shape.x.taps * shape.y.taps)));
    if (shape.combine !== "mean") return undefined;
    const [lo, hi] = tapBounds(b, shape.y, y);
    const rows = b.op("i2f", b.iota(plus(hi, times(lo, -1)), 0));
    return run.taps.map(([from, to]) => b.op("div", b.f32(1 / Math.max(1, to - from)), rows));
  }
}
