// Gradients of the weights of depthwise convolutions, channels last: for each tap the sum over all pixels of x times gy, lanes along the channels.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { type TileRun, tileRuns, type WindowAxis } from "./window.ts";
import type { Part } from "./work.ts";

export interface DepthwiseGradientShape {
  readonly batch: number;
  readonly channels: number;
  readonly y: WindowAxis;
  readonly x: WindowAxis;
}

export interface DepthwiseGradientSchedule {
  /** Output rows of an image that are worked on together: those of a vector of channels stay in the second-level cache. */
  readonly bandRows: number;
  /** Partial sums: one a thread, each for its share of the pixels; or one, to which each thread adds its own channels. */
  readonly slots: number;
}

const vectorsOf = ({ channels }: DepthwiseGradientShape, { lanes }: SimdTarget): number => Math.ceil(channels / lanes);
/** Elements of one slot: [vector of channels][tap y][tap x][channel of the vector]. */
const slotElements = (shape: DepthwiseGradientShape, target: SimdTarget): number =>
  vectorsOf(shape, target) * target.lanes * shape.y.taps * shape.x.taps;

export const depthwiseSumElements = (shape: DepthwiseGradientShape, { slots }: DepthwiseGradientSchedule, target: SimdTarget): number =>
  slots * slotElements(shape, target);

export function scheduleDepthwiseGradient(shape: DepthwiseGradientShape, target: SimdTarget, threads: number): DepthwiseGradientSchedule {
  const { batch, y, x } = shape;
  const slots = vectorsOf(shape, target) >= 4 * threads ? 1 : threads;
  const bytesPerRow = 4 * target.lanes * (y.stride * x.inputs + x.outputs);
  const fit = Math.max(1, Math.floor(target.l2 / 2 / bytesPerRow));
  const bands = Math.min(y.outputs, Math.max(Math.ceil(y.outputs / fit), slots > 1 ? Math.ceil((2 * threads) / batch) : 1));
  return { bandRows: Math.ceil(y.outputs / bands), slots };
}

/** Buffers: x (batch, y, x, channels), gy (batch, y, x, channels), sums (depthwiseSumElements). */
export function depthwiseGradientKernel(
  name: string,
  shape: DepthwiseGradientShape,
  schedule: DepthwiseGradientSchedule,
  target: SimdTarget,
  threads: number,
): Kernel {
  return new DepthwiseGradient(name, shape, schedule, target, threads).build();
}

/** Outputs of a row that are worked on together, and sums that do not wait for each other. */
const MOST_OUTPUTS = 8;
const SUMS = 9;

/** Output rows [from, to) of one image. */
interface Band extends Part {
  readonly image: Int;
}

class DepthwiseGradient {
  private readonly b: KernelBuilder;
  private readonly input: number;
  private readonly gradient: number;
  private readonly sums: number;
  private readonly runs: readonly TileRun[];
  private readonly bands: number;
  /** Sets of sums of a window row. */
  private readonly sets: number;

  constructor(
    name: string,
    private readonly shape: DepthwiseGradientShape,
    private readonly schedule: DepthwiseGradientSchedule,
    private readonly target: SimdTarget,
    threads: number,
  ) {
    const { batch, channels, y, x } = shape;
    this.b = new KernelBuilder(name, target, threads);
    this.input = this.b.buffer("x", 4 * batch * y.inputs * x.inputs * channels, "read");
    this.gradient = this.b.buffer("gy", 4 * batch * y.outputs * x.outputs * channels, "read");
    this.sums = this.b.buffer("sums", 4 * depthwiseSumElements(shape, schedule, target), "readwrite");
    this.bands = Math.ceil(y.outputs / schedule.bandRows);
    this.sets = Math.max(1, Math.floor(SUMS / x.taps));
    const free = Math.max(1, target.registers - 2 - this.sets * x.taps);
    this.runs = tileRuns(x, Math.ceil(x.outputs / Math.ceil(x.outputs / Math.min(free, MOST_OUTPUTS))));
  }

  build(): Kernel {
    const { b, shape, schedule, bands } = this;
    const vectors = vectorsOf(shape, this.target);
    const units = shape.batch * bands;
    const isShared = schedule.slots === 1;
    const extent = isShared ? vectors : units;
    const size = Math.ceil(extent / b.threads);
    b.parallel(b.threads, (thread) => {
      const from = b.min(times(thread, size), extent);
      const own = { from, to: b.min(plus(from, size), extent) };
      const at = isShared ? 0 : times(thread, 4 * slotElements(shape, this.target));
      if (isShared) this.channels(at, own, { from: 0, to: units });
      else this.channels(at, { from: 0, to: vectors }, own);
    });
    return b.build();
  }

  private channels(at: Int, vectors: Part, units: Part): void {
    const { b, shape, target } = this;
    const bytes = 4 * shape.y.taps * shape.x.taps * target.lanes;
    const zero = b.f32(0);
    b.loop(vectors.from, vectors.to, 1, (v) =>
      b.loop(0, bytes, 4 * target.lanes, (i) => b.store(zero, this.sums, plus(at, times(v, bytes), i))),
    );
    const full = Math.floor(shape.channels / target.lanes);
    const rest = shape.channels - full * target.lanes;
    b.loop(units.from, units.to, 1, (unit) => {
      const band = this.band(unit);
      const windows = (v: Int, lanes: number): void =>
        b.loop(0, shape.y.taps, 1, (ky) => this.windowRow(band, plus(at, times(v, bytes)), v, ky, lanes));
      b.loop(vectors.from, rest ? b.min(vectors.to, full) : vectors.to, 1, (v) => windows(v, target.lanes));
      if (rest) b.when(full, vectors.to, () => windows(full, rest));
    });
  }

  private band(unit: Int): Band {
    const { b, shape, schedule, bands } = this;
    const image: Int = bands === 1 ? unit : shape.batch === 1 ? 0 : b.div(unit, bands);
    const number: Int = bands === 1 ? 0 : shape.batch === 1 ? unit : b.mod(unit, bands);
    const from = times(number, schedule.bandRows);
    return { image, from, to: b.min(plus(from, schedule.bandRows), shape.y.outputs) };
  }

  /** Adds to the sums of one row of taps what the rows of a band give that see it inside of the image. */
  private windowRow(band: Band, at: Int, v: Int, ky: Int, lanes: number): void {
    const { b, shape, sets } = this;
    const { y, x, channels } = shape;
    const sums: Vec[][] = Array.from({ length: sets }, () => Array.from({ length: x.taps }, () => b.f32(0)));
    const ceil = (a: Int): Int => (y.stride === 1 ? a : b.div(plus(a, y.stride - 1), y.stride));
    const first = plus(times(ky, -y.dilation), -y.offset);
    const from = b.max(ceil(first), band.from);
    const to = b.min(ceil(plus(first, y.inputs)), band.to);
    b.loop(b.max(from, 0), b.min(to, y.outputs), 1, (oy) => {
      // The bounds keep the rows inside; clamping is what proves it.
      const row = b.min(b.max(plus(times(oy, y.stride), times(ky, y.dilation), y.offset), 0), y.inputs - 1);
      const channel = times(v, 4 * b.lanes);
      const input = plus(times(plus(times(band.image, y.inputs), row), x.inputs * channels * 4), channel);
      const gradient = plus(times(plus(times(band.image, y.outputs), oy), x.outputs * channels * 4), channel);
      for (const run of this.runs)
        b.loop(0, run.count, 1, (i) => this.tile(run, plus(run.from, times(i, run.width)), input, gradient, lanes, sums));
    });
    for (let kx = 0; kx < x.taps; kx++) {
      const place = plus(at, times(ky, 4 * x.taps * b.lanes), 4 * kx * b.lanes);
      const own = sums.map((set) => set[kx]).reduce((p, q) => b.op("add", p, q));
      b.store(b.op("add", b.load(this.sums, place), own), this.sums, place);
    }
  }

  /** Some outputs of a row: each input is loaded once and meets the gradients of all outputs that see it. */
  private tile(run: TileRun, o: Int, input: Int, gradient: Int, lanes: number, sums: readonly (readonly Vec[])[]): void {
    const { b, shape } = this;
    const { x, channels } = shape;
    const gradients = run.taps.map((_, r) => b.load(this.gradient, plus(gradient, times(plus(o, r), 4 * channels)), lanes));
    const users = new Map<number, { output: number; tap: number }[]>();
    for (const [output, [lo, hi]] of run.taps.entries())
      for (let tap = lo; tap < hi; tap++) {
        const position = output * x.stride + tap * x.dilation;
        users.set(position, [...(users.get(position) ?? []), { output, tap }]);
      }
    for (const [position, uses] of [...users].sort((a, b) => a[0] - b[0])) {
      const value = b.load(this.input, plus(input, times(plus(times(o, x.stride), x.offset + position), 4 * channels)), lanes);
      for (const { output, tap } of uses) b.accumulate(sums[output % sums.length][tap], value, gradients[output]);
    }
  }
}
