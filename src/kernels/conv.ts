// Convolutions with a window on channels-last images, directly: no im2col, taps outside of the image left out of the code.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { convWeightElements, paddedChannels } from "./conv_weights.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import { chooseTile, multiplyTile, overDepth, type TileShape, unrollOf } from "./tile.ts";
import { overTaps, type TileRun, tileRuns, type WindowAxis } from "./window.ts";
import { type Part, shareOut } from "./work.ts";

/** The image that output pixel (y,x) of a kernel is written to, at (y0 + yStep·y, x0 + xStep·x). */
export interface OutputPlace {
  readonly height: number;
  readonly width: number;
  readonly y0: number;
  readonly yStep: number;
  readonly x0: number;
  readonly xStep: number;
}

export const wholeImage = (height: number, width: number): OutputPlace => ({ height, width, y0: 0, yStep: 1, x0: 0, xStep: 1 });

/** Pixel (y,x) of an image as a row of the output, and the rows to its neighbour. */
export const outputPlace = ({ height, width, y0, yStep, x0, xStep }: OutputPlace, image: Int, y: Int, x: Int) => ({
  row: plus(times(image, height * width), times(plus(times(y, yStep), y0), width), times(x, xStep), x0),
  rowStep: xStep,
});

/** A convolution, or one phase of a transposed one. */
export interface ConvShape {
  readonly batch: number;
  readonly groups: number;
  /** Channels of one group. */
  readonly inChannels: number;
  readonly outChannels: number;
  readonly y: WindowAxis;
  readonly x: WindowAxis;
  /** Elements from image to image, row to row, pixel to pixel and channel to channel of the input. */
  readonly input: { readonly image: number; readonly row: number; readonly pixel: number; readonly channel: number };
  readonly output: OutputPlace;
  readonly hasBias: boolean;
  /** Input and packed weights are words of two bf16 whose channels are neighbours: input channels and strides count words. */
  readonly isPaired?: boolean;
}

/** Register tile for a convolution: outputs of one image row × vectors of channels. */
export const scheduleConv = (shape: ConvShape, target: SimdTarget): TileShape =>
  chooseTile(target, shape.x.outputs, Math.ceil(shape.outChannels / target.lanes));

/** Buffers: input, packed weights, bias when there is one, the epilogue's inputs, output. */
export function convKernel(
  name: string,
  shape: ConvShape,
  tile: TileShape,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
): Kernel {
  return new Conv(name, shape, tile, epilogue, target, threads).build();
}

/** Some channels of one output tile: first channel in the group, vectors, lanes of the last one, byte offset of their weights. */
interface Channels {
  readonly first: Int;
  readonly vectors: number;
  readonly lastLanes: number;
  readonly weights: Int;
}

class Conv {
  private readonly b: KernelBuilder;
  private readonly input: number;
  private readonly weights: number;
  private readonly bias: number;
  private readonly epilogue: EpilogueCode;
  private readonly runs: readonly TileRun[];

  constructor(
    name: string,
    private readonly shape: ConvShape,
    private readonly tileShape: TileShape,
    epilogue: Epilogue,
    private readonly target: SimdTarget,
    threads: number,
  ) {
    const { batch, groups, inChannels, outChannels, x, y, input } = shape;
    this.b = new KernelBuilder(name, target, threads);
    const last = (batch - 1) * input.image + (y.inputs - 1) * input.row + (x.inputs - 1) * input.pixel;
    this.input = this.b.buffer("input", 4 * (last + (groups * inChannels - 1) * input.channel + 1), "read");
    this.weights = this.b.buffer("weights", 4 * convWeightElements(shape, target), "read");
    this.bias = shape.hasBias ? this.b.buffer("bias", 4 * groups * outChannels, "read") : -1;
    this.epilogue = new EpilogueCode(this.b, epilogue, groups * outChannels);
    const sumBytes = this.epilogue.scratchBytes(tileShape, inChannels * x.taps * y.taps);
    if (sumBytes > 0) this.epilogue.useScratch(this.b.buffer("sums", sumBytes, "scratch"), 0);
    this.runs = tileRuns(x, tileShape.rows);
  }

  build(): Kernel {
    const { b, shape, tileShape, target } = this;
    const { batch, groups, y } = shape;
    const width = tileShape.vectors * target.lanes;
    const tiles = Math.ceil(shape.outChannels / width);
    // With one group threads may share its channel tiles, with several whole groups.
    shareOut(b, [batch * y.outputs, groups === 1 ? tiles : groups], ([rows, columns]) => {
      const tilesOf = groups === 1 ? columns : { from: 0, to: tiles };
      const overGroups = (body: (group: Int) => void): void => {
        if (groups === 1) body(0);
        else b.loop(columns.from, columns.to, 1, body);
      };
      const overRows = (body: (row: Int) => void): void => b.loop(rows.from, rows.to, 1, body);
      const weightBytes = 4 * shape.inChannels * y.taps * shape.x.taps * shape.outChannels;
      overGroups((group) => {
        if (weightBytes > target.l2 / 2)
          this.overChannels(group, tilesOf, (channels) => overRows((row) => this.overRow(group, row, [channels])));
        else overRows((row) => this.overRow(group, row, tilesOf));
      });
    });
    return b.build();
  }

  /** Calls `body` with each channel tile of a part. */
  private overChannels(group: Int, part: Part, body: (channels: Channels) => void): void {
    const { b, shape, tileShape } = this;
    const { lanes } = this.target;
    const width = tileShape.vectors * lanes;
    const full = Math.floor(shape.outChannels / width);
    const rest = shape.outChannels - full * width;
    const taps = shape.x.taps * shape.y.taps;
    const tileBytes = 4 * taps * shape.inChannels * width;
    const groupStart = times(group, 4 * taps * shape.inChannels * paddedChannels(shape, this.target));
    if (full > 0)
      b.loop(part.from, rest ? b.min(part.to, full) : part.to, 1, (tile) =>
        body({
          first: times(tile, width),
          vectors: tileShape.vectors,
          lastLanes: lanes,
          weights: plus(groupStart, times(tile, tileBytes)),
        }),
      );
    if (rest > 0) {
      const vectors = Math.ceil(rest / lanes);
      const channels = {
        first: full * width,
        vectors,
        lastLanes: rest - (vectors - 1) * lanes,
        weights: plus(groupStart, full * tileBytes),
      };
      b.when(full, part.to, () => body(channels));
    }
  }

  /** One output row, tile by tile, for the given channels. */
  private overRow(group: Int, row: Int, channels: Part | readonly Channels[]): void {
    const { b, shape } = this;
    const image: Int = shape.batch === 1 ? 0 : b.div(row, shape.y.outputs);
    const y: Int = shape.batch === 1 ? row : b.mod(row, shape.y.outputs);
    for (const run of this.runs) {
      b.loop(0, run.count, 1, (i) => {
        const x = plus(run.from, times(i, run.width));
        if ("from" in channels) this.overChannels(group, channels, (c) => this.tile(group, image, y, x, run, c));
        else for (const c of channels) this.tile(group, image, y, x, run, c);
      });
    }
  }

  private tile(group: Int, image: Int, y: Int, x: Int, run: TileRun, channels: Channels): void {
    const { b, shape, epilogue } = this;
    const { lanes } = this.target;
    const lanesOf = (v: number): number => (v === channels.vectors - 1 ? channels.lastLanes : lanes);
    const column = (v: number): Int => plus(times(group, shape.outChannels), channels.first, v * lanes);
    const initial = Array.from({ length: channels.vectors }, (_, v) =>
      this.bias < 0 ? b.f32(0) : b.load(this.bias, times(column(v), 4), lanesOf(v)),
    );
    const sums: Vec[][] = Array.from({ length: run.width }, () => initial.map((v) => b.op("mov", v)));
    overTaps(b, shape.y, y, (tapY, inputY) => this.tapRow(group, image, tapY, inputY, x, run, channels, sums));
    epilogue.storeTile(sums, { ...outputPlace(shape.output, image, y, x), column, lanesOf });
  }

  /** The taps of one window row. */
  private tapRow(group: Int, image: Int, tapY: Int, inputY: Int, x: Int, run: TileRun, channels: Channels, sums: Vec[][]): void {
    const { shape, b } = this;
    const { input, inChannels } = shape;
    const { stride, offset, dilation, taps } = shape.x;
    const { lanes } = this.target;
    const width = channels.vectors * lanes;
    const isWhole = run.taps.every(([lo, hi]) => lo === 0 && hi === taps);
    // Taps next to each other in memory are one long depth.
    const isJoined = isWhole && input.channel === 1 && input.pixel === inChannels && dilation === 1 && shape.groups === 1;
    const steps = isJoined ? 1 : taps;
    const depth = isJoined ? taps * inChannels : inChannels;
    const start = plus(
      times(image, input.image * 4),
      times(inputY, input.row * 4),
      times(plus(times(x, stride), offset), input.pixel * 4),
      times(group, inChannels * input.channel * 4),
    );
    for (let tap = 0; tap < steps; tap++) {
      const rows = sums.map((row, r) => (isWhole || (run.taps[r][0] <= tap && tap < run.taps[r][1]) ? row : null));
      const used = rows.filter((r) => r).length;
      if (used === 0) continue;
      const weights = plus(channels.weights, times(tapY, taps * inChannels * width * 4), tap * inChannels * width * 4);
      overDepth(b, depth, unrollOf(this.target, depth, used * channels.vectors), (c, count) => {
        multiplyTile(b, rows, count, {
          left: {
            buffer: this.input,
            at: (r, i) => plus(start, times(c, input.channel * 4), ((r * stride + tap * dilation) * input.pixel + i * input.channel) * 4),
          },
          right: { buffer: this.weights, at: (v, i) => plus(weights, times(c, width * 4), (i * width + v * lanes) * 4) },
          step: shape.isPaired ? "dotbf16" : "fma",
        });
      });
    }
  }
}
