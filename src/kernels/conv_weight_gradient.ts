// Gradients of convolutions with respect to their weights, channels last: for each tap the product xᵀ·gy, summed over all pixels in register tiles.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { chooseTile, multiplyTile, overDepth, type TileShape, unrollOf } from "./tile.ts";
import { overChannels, spreadMaxima } from "./tiled_max_pool.ts";
import { paddedOut, rowsOf, slotElements, type WeightGradientShape, weightSumElements } from "./weight_sums.ts";
import type { WindowAxis } from "./window.ts";
import type { Part } from "./work.ts";

export interface WeightGradientSchedule {
  /** Rows are taps and in channels, vectors are out channels. */
  readonly tile: TileShape;
  /** Whether a tile's rows are channels of one tap; else any taps and channels, each tile with code of its own. */
  readonly isTapwise: boolean;
  /** Output rows of an image that are worked on together: their inputs and gradients stay in the second-level cache. */
  readonly bandRows: number;
  /** Tiles of out channels whose sums stay there. */
  readonly columnTiles: number;
  /** Partial sums: one a thread, each for its share of the pixels; or one, to which each thread adds its own channels. */
  readonly slots: number;
}

/** Channels from which on they fill a tile's rows, and rows of all taps for which code is written out otherwise. */
const TAPWISE_CHANNELS = 12;
const MAX_WRITTEN_ROWS = 256;

/** Inputs that some outputs of an axis see, from the first tap of the first to the last of the last. */
const seen = ({ stride, dilation, taps }: WindowAxis, outputs: number): number => (outputs - 1) * stride + (taps - 1) * dilation + 1;
const isInside = (axis: WindowAxis): boolean => axis.offset >= 0 && axis.offset + seen(axis, axis.outputs) <= axis.inputs;

export function scheduleWeightGradient(shape: WeightGradientShape, target: SimdTarget, threads: number): WeightGradientSchedule {
  const { batch, groups, inChannels, outChannels, y, x } = shape;
  const rows = rowsOf(shape);
  const isTapwise = inChannels >= TAPWISE_CHANNELS || rows > MAX_WRITTEN_ROWS;
  const tile = chooseTile(target, isTapwise ? inChannels : rows, Math.ceil(outChannels / target.lanes));
  const bytesPerRow = 4 * groups * (y.stride * seen(x, x.outputs) * inChannels + x.outputs * outChannels);
  // A gradient that is spread out into a band is written and read there, for few sums each time.
  const cache = shape.pool && rows <= tile.rows ? target.l1 : target.l2;
  const fit = Math.max(1, Math.min(y.outputs, Math.floor(cache / 2 / bytesPerRow)));
  const bands = Math.min(y.outputs, Math.max(Math.ceil(y.outputs / fit), threads > 1 ? Math.ceil((2 * threads) / batch) : 1));
  const columnTiles = Math.max(1, Math.floor(target.l2 / 2 / (4 * rows * tile.vectors * target.lanes)));
  const tiles = Math.ceil(outChannels / (tile.vectors * target.lanes));
  const isLarge = 4 * slotElements(shape, target) * threads > 8 * target.l2;
  const slots = isLarge && tiles >= threads ? 1 : threads;
  const window = shape.pool?.[0] ?? 1;
  return { tile, isTapwise, bandRows: Math.ceil(y.outputs / bands / window) * window, columnTiles, slots };
}

/** Buffers: x (batch, y, x, channels), gy (batch, y, x, channels) or with a pool (batch, windows, channels) and places like it in bytes, sums (weightSumElements). */
export function weightGradientKernel(
  name: string,
  shape: WeightGradientShape,
  schedule: WeightGradientSchedule,
  target: SimdTarget,
  threads: number,
): Kernel {
  return new WeightGradient(name, shape, schedule, target, threads).build();
}

/** Some output rows of one image: first row, rows, and where their inputs are. */
interface Band {
  readonly image: Int;
  readonly first: Int;
  readonly rows: Int;
  readonly input: Image;
}

/** What a band's windows see: bytes between rows and pixels, and from the band's first row on or from the image's. */
interface Image {
  readonly buffer: number;
  readonly at: Int;
  readonly row: number;
  readonly pixel: number;
  readonly isBand: boolean;
}

/** A tile of out channels: first one in the group, its vectors, lanes of the last, byte offset of its sums. */
interface Columns {
  readonly group: Int;
  readonly first: Int;
  readonly vectors: number;
  readonly lastLanes: number;
  readonly sums: Int;
}

/** A tile's rows: byte offset of each in a window, and the number of the first. */
interface Rows {
  readonly at: Int;
  readonly offsets: readonly number[];
  readonly first: Int;
}

class WeightGradient {
  private readonly b: KernelBuilder;
  private readonly input: number;
  private readonly gradient: number;
  private readonly places: number = -1;
  private readonly sums: number;
  /** Zeros around a band's inputs, and a gradient that is spread out, which is behind them. */
  private readonly scratch: number;
  private readonly isPadded: boolean;
  private readonly spreadAt: number;
  private readonly bands: number;
  /** Channels of all groups. */
  private readonly inChannels: number;
  private readonly outChannels: number;

  constructor(
    name: string,
    private readonly shape: WeightGradientShape,
    private readonly schedule: WeightGradientSchedule,
    private readonly target: SimdTarget,
    threads: number,
  ) {
    const { batch, groups, y, x } = shape;
    this.b = new KernelBuilder(name, target, threads);
    this.inChannels = groups * shape.inChannels;
    this.outChannels = groups * shape.outChannels;
    this.bands = Math.ceil(y.outputs / schedule.bandRows);
    this.input = this.b.buffer("x", 4 * batch * y.inputs * x.inputs * this.inChannels, "read");
    const pixels = batch * y.outputs * x.outputs;
    const { pool } = shape;
    const given = (pixels * this.outChannels) / (pool ? pool[0] * pool[1] : 1);
    this.gradient = this.b.buffer("gy", 4 * given, "read");
    if (pool) this.places = this.b.buffer("places", given, "read");
    this.sums = this.b.buffer("sums", 4 * weightSumElements(shape, schedule, target), "readwrite");
    this.isPadded = !isInside(y) || !isInside(x);
    this.spreadAt = this.isPadded ? 4 * seen(y, schedule.bandRows) * seen(x, x.outputs) * this.inChannels : 0;
    const bytes = this.spreadAt + (pool ? 4 * schedule.bandRows * x.outputs * this.outChannels : 0);
    this.scratch = bytes > 0 ? this.b.buffer("band", bytes, "scratch") : -1;
  }

  build(): Kernel {
    const { b, shape, schedule, bands } = this;
    const tiles = Math.ceil(shape.outChannels / (schedule.tile.vectors * this.target.lanes));
    const units = shape.batch * bands;
    const isShared = schedule.slots === 1;
    const size = Math.ceil((isShared ? tiles : units) / b.threads);
    b.parallel(b.threads, (thread) => {
      const from = b.min(times(thread, size), isShared ? tiles : units);
      const own = { from, to: b.min(plus(from, size), isShared ? tiles : units) };
      const at = isShared ? 0 : times(thread, 4 * slotElements(shape, this.target));
      b.loop(0, shape.groups, 1, (group) => {
        if (isShared) this.channels(at, group, own, { from: 0, to: units });
        else this.channels(at, group, { from: 0, to: tiles }, own);
      });
    });
    return b.build();
  }

  /** Some tiles of out channels, a few at a time so that their sums stay in the cache, over some bands. */
  private channels(at: Int, group: Int, tiles: Part, units: Part): void {
    const { b, shape, schedule } = this;
    const all = Math.ceil(shape.outChannels / (schedule.tile.vectors * this.target.lanes));
    const overBands = (part: Part): void => {
      this.overColumns(at, group, part, (columns) => this.clear(columns));
      b.loop(units.from, units.to, 1, (unit) => {
        const band = this.band(unit);
        this.overColumns(at, group, part, (columns) => this.overRows(band, columns));
      });
    };
    if (schedule.columnTiles >= all) overBands(tiles);
    else
      b.loop(0, Math.ceil(all / schedule.columnTiles), 1, (block) => {
        const from = b.max(times(block, schedule.columnTiles), tiles.from);
        overBands({ from, to: b.min(plus(times(block, schedule.columnTiles), schedule.columnTiles), tiles.to) });
      });
  }

  private overColumns(at: Int, group: Int, part: Part, body: (columns: Columns) => void): void {
    const { b, shape, schedule, target } = this;
    const rows = rowsOf(shape);
    const { lanes } = target;
    const { vectors } = schedule.tile;
    const width = vectors * lanes;
    const full = Math.floor(shape.outChannels / width);
    const rest = shape.outChannels - full * width;
    const start = plus(at, times(group, 4 * rows * paddedOut(shape, target)));
    if (full > 0)
      b.loop(part.from, rest ? b.min(part.to, full) : part.to, 1, (tile) =>
        body({ group, first: times(tile, width), vectors, lastLanes: lanes, sums: plus(start, times(tile, 4 * rows * width)) }),
      );
    if (rest > 0) {
      const few = Math.ceil(rest / lanes);
      const columns = { group, first: full * width, vectors: few, lastLanes: rest - (few - 1) * lanes };
      b.when(full, part.to, () => body({ ...columns, sums: plus(start, 4 * rows * full * width) }));
    }
  }

  private clear({ vectors, sums }: Columns): void {
    const { b } = this;
    const zero = b.f32(0);
    b.loop(0, rowsOf(this.shape) * vectors, 1, (v) => b.store(zero, this.sums, plus(sums, times(v, 4 * b.lanes))));
  }

  /** The band with this number; its inputs are copied between zeros where windows reach out of the image. */
  private band(unit: Int): Band {
    const { b, shape, schedule, bands } = this;
    const { y, x, batch } = shape;
    const { bandRows } = schedule;
    const image: Int = bands === 1 ? unit : batch === 1 ? 0 : b.div(unit, bands);
    const number: Int = bands === 1 ? 0 : batch === 1 ? unit : b.mod(unit, bands);
    const first = times(number, bandRows);
    const rows = y.outputs % bandRows === 0 ? bandRows : b.min(plus(y.outputs, times(first, -1)), bandRows);
    const pixel = 4 * this.inChannels;
    if (shape.pool) this.spread(image, first, shape.pool);
    if (this.isPadded) {
      const row = seen(x, x.outputs) * pixel;
      this.copyBand(image, plus(times(first, y.stride), y.offset), row);
      return { image, first, rows, input: { buffer: this.scratch, at: 0, row, pixel, isBand: true } };
    }
    const row = x.inputs * pixel;
    const at = plus(times(image, y.inputs * row), y.offset * row + x.offset * pixel);
    return { image, first, rows, input: { buffer: this.input, at, row, pixel, isBand: false } };
  }

  private copyBand(image: Int, firstRow: Int, rowBytes: number): void {
    const { b, shape, schedule, scratch } = this;
    const { y, x } = shape;
    const pixel = 4 * this.inChannels;
    // Pixels of a row before, in, and behind the image.
    const width = seen(x, x.outputs);
    const from = Math.min(width, Math.max(0, -x.offset));
    const to = Math.max(from, Math.min(width, x.inputs - x.offset));
    const zero = b.f32(0);
    b.loop(0, seen(y, schedule.bandRows), 1, (r) => {
      const source = plus(firstRow, r);
      const row = times(r, rowBytes);
      const clear = (start: number, end: number): void =>
        this.overBytes((end - start) * pixel, (at, lanes) => b.store(zero, scratch, plus(row, start * pixel, at), lanes));
      clear(0, from);
      clear(to, width);
      const copy = (): void => {
        const inside = b.min(b.max(source, 0), y.inputs - 1);
        const at = plus(times(plus(times(image, y.inputs), inside), x.inputs * pixel), (from + x.offset) * pixel);
        this.overBytes((to - from) * pixel, (i, lanes) =>
          b.store(b.load(this.input, plus(at, i), lanes), scratch, plus(row, from * pixel, i), lanes),
        );
      };
      b.when(-1, b.min(source, plus(y.inputs - 1, times(source, -1))), copy, () => clear(from, to));
    });
  }

  /** Gives the gradient of each window of the band to the element that was its maximum, and zeros to the others. */
  private spread(image: Int, firstRow: Int, [py, px]: readonly [number, number]): void {
    const { b, shape, schedule, outChannels } = this;
    const [rows, columns] = [shape.y.outputs / py, shape.x.outputs / px];
    const firstWindow = b.div(firstRow, py);
    b.loop(0, schedule.bandRows / py, 1, (r) => {
      // Rows behind the image's last are not looked at.
      const row = plus(times(image, rows), b.min(plus(firstWindow, r), rows - 1));
      b.loop(0, columns, 1, (column) => {
        const window = times(plus(times(row, columns), column), outChannels);
        const corner = plus(times(r, py * shape.x.outputs), times(column, px));
        overChannels(b, outChannels, (channel, lanes) =>
          spreadMaxima(b, this.gradient, this.places, { at: plus(window, channel), lanes, taps: py * px }, (tap, part) => {
            const pixel = plus(corner, Math.floor(tap / px) * shape.x.outputs + (tap % px));
            b.store(part, this.scratch, plus(this.spreadAt, times(plus(times(pixel, outChannels), channel), 4)), lanes);
          }),
        );
      });
    });
  }

  /** Calls `body` for every vector of so many bytes. */
  private overBytes(bytes: number, body: (at: Int, lanes: number) => void): void {
    const { b } = this;
    const vector = 4 * b.lanes;
    const whole = Math.floor(bytes / vector);
    b.loop(0, whole, 1, (v) => body(times(v, vector), b.lanes));
    if (whole * vector < bytes) body(whole * vector, (bytes - whole * vector) / 4);
  }

  /** All taps and in channels for a tile of out channels. */
  private overRows(band: Band, columns: Columns): void {
    const { b, shape, schedule } = this;
    const { y, x, inChannels } = shape;
    const { row, pixel } = band.input;
    const { rows: most } = schedule.tile;
    const group = times(columns.group, 4 * inChannels);
    if (!schedule.isTapwise) {
      const offsets = Array.from({ length: rowsOf(shape) }, (_, i) => {
        const [tap, c] = [Math.floor(i / inChannels), i % inChannels];
        return Math.floor(tap / x.taps) * y.dilation * row + (tap % x.taps) * x.dilation * pixel + 4 * c;
      });
      for (let first = 0; first < offsets.length; first += most)
        this.product(band, columns, { at: group, offsets: offsets.slice(first, first + most), first });
      return;
    }
    const full = Math.floor(inChannels / most);
    const channels = (count: number): number[] => Array.from({ length: count }, (_, c) => 4 * c);
    b.loop(0, y.taps, 1, (ky) =>
      b.loop(0, x.taps, 1, (kx) => {
        const tap = plus(times(ky, y.dilation * row), times(kx, x.dilation * pixel), group);
        const first = times(plus(times(ky, x.taps), kx), inChannels);
        b.loop(0, full, 1, (c) =>
          this.product(band, columns, { at: plus(tap, times(c, 4 * most)), offsets: channels(most), first: plus(first, times(c, most)) }),
        );
        const rest = inChannels - full * most;
        if (rest > 0)
          this.product(band, columns, { at: plus(tap, 4 * full * most), offsets: channels(rest), first: plus(first, full * most) });
      }),
    );
  }

  /** sums += xᵀ·gy over the band's pixels. */
  private product({ image, first, rows, input }: Band, columns: Columns, { at, offsets, first: firstRow }: Rows): void {
    const { b, shape, target } = this;
    const { y, x } = shape;
    const { lanes } = target;
    const { vectors } = columns;
    const lanesOf = (v: number): number => (v === vectors - 1 ? columns.lastLanes : lanes);
    const sumAt = (r: number, v: number): Int =>
      plus(columns.sums, times(firstRow, 4 * vectors * lanes), 4 * (r * vectors * lanes + v * lanes));
    const sums: Vec[][] = offsets.map((_, r) => Array.from({ length: vectors }, (_, v) => b.load(this.sums, sumAt(r, v))));
    const pixel = 4 * this.outChannels;
    const channel = plus(times(columns.group, 4 * shape.outChannels), times(columns.first, 4));
    b.loop(0, rows, 1, (i) => {
      // The last band may be shorter; its bound keeps the row inside, clamping is what proves it.
      const row = typeof rows === "number" ? plus(first, i) : b.min(plus(first, i), y.outputs - 1);
      const line = shape.pool
        ? plus(this.spreadAt, times(i, x.outputs * pixel))
        : times(plus(times(image, y.outputs), row), x.outputs * pixel);
      const right = plus(line, channel);
      const left = plus(input.at, at, times(input.isBand ? i : row, y.stride * input.row));
      overDepth(b, x.outputs, unrollOf(target, x.outputs, offsets.length * vectors), (o, count) =>
        multiplyTile(b, sums, count, {
          left: {
            buffer: input.buffer,
            at: (r, k) => plus(left, times(o, x.stride * input.pixel), k * x.stride * input.pixel + offsets[r]),
          },
          right: {
            buffer: shape.pool ? this.scratch : this.gradient,
            at: (v, k) => plus(right, times(o, pixel), k * pixel + 4 * v * lanes),
            lanesOf,
          },
        }),
      );
    });
    for (const [r, row] of sums.entries()) for (const [v, sum] of row.entries()) b.store(sum, this.sums, sumAt(r, v));
  }
}
