// Sparse times dense: the nonzeros of some rows meet a panel of the dense operand in the first-level cache; a row's sums are in registers while it meets the panel.
import { type Int, type IntVar, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { INT_RANGE, type VecOp } from "../ir/kernel_ops.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import { COUNT_SHIFT, GROUPS, type Groups, NAMED, PADDING, ROW_UNIT, START_SHIFT, STEP } from "./sparse_groups.ts";
import { shareOut } from "./work.ts";

/** Sizes of a product: W (rows, depth) times n columns. */
export interface DenseShape {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  /** Rows of results that are stored together. */
  readonly block: number;
}

/** What of the walk a kernel depends on: two matrices of equal sizes and numbers of nonzeros share it. */
export interface SparseProductShape extends DenseShape {
  /** Block rows of a strip. */
  readonly strip: number;
  /** Rows of the dense operand in a panel, and panels. */
  readonly panel: number;
  readonly panels: number;
  /** Entries, and bundles of rows side by side. */
  readonly length: number;
  readonly visits: number;
  readonly abreast: number;
  readonly shares: boolean;
}

export const sparseProductShape = (
  { rows, depth, block, strip, panel, panels, length, abreast, shares, visits }: Groups,
  n: number,
): SparseProductShape => ({
  rows,
  depth,
  n,
  block,
  strip,
  panel,
  panels,
  length,
  abreast,
  shares,
  visits: visits.length / (2 * abreast),
});

/** Vectors of a row's sums: with one loads keep up with the arithmetic only where what goes with a nonzero is shared by four. */
const VECTORS = 4;

/** Bytes of values that are asked for before they are needed: where other layers ran in between, the matrix comes from the last cache, and loads of panels hide its streams from the processor. */
const AHEAD = 1024;

/** Columns of the result worked off together, in vectors. */
export function sparseVectors(n: number, target: SimdTarget): number {
  const all = Math.ceil(n / target.lanes);
  return Math.ceil(all / Math.ceil(all / VECTORS));
}

/** Bytes from one row of a panel, or of sums, to the next. */
const pitchOf = ({ lanes }: SimdTarget): number => VECTORS * lanes * 4;

/** Some columns of the dense operand as rows next to each other in scratch, and sums below them. */
export interface PanelTile {
  readonly b: KernelBuilder;
  readonly target: SimdTarget;
  readonly shape: DenseShape;
  readonly scratch: number;
  /** Bytes from one row to the next. */
  readonly rowBytes: number;
  /** Blocks of the dense operand's rows. */
  readonly blockColumns: number;
  /** Where the sums of the block row begin. */
  readonly sums: Int;
  readonly column: Int;
  readonly width: number;
}

/** Rows [base + from, base + to) of the dense operand, which are rows [from, to) of scratch. */
export interface Panel {
  readonly base: Int;
  readonly from: Int;
  readonly to: Int;
  readonly number: Int;
  readonly isLast: (then: () => void) => void;
}

/** How the dense operand lies in memory and how the result does: what fills panels, and what stores a block of sums. */
export interface DenseSide<Buffers extends DenseBuffers = DenseBuffers> {
  /** Columns of the result as it lies in memory, for its epilogue. */
  columns(shape: DenseShape): number;
  /** Whether threads have columns of their own, of which their part of the operand is filled in once. */
  readonly sharesColumns: boolean;
  /** Rows of results that are stored at a time. */
  rowsAtOnce(target: SimdTarget): number;
  declare(b: KernelBuilder, shape: DenseShape): Buffers;
}
export interface DenseBuffers {
  /** All rows: row k of the operand is row k of scratch, but that one more row follows each block. */
  fill(tile: PanelTile): void;
  store(tile: PanelTile, blockRow: Int, epilogue: EpilogueCode): void;
}
export interface PanelBuffers extends DenseBuffers {
  fillPanel(tile: PanelTile, panel: Panel): void;
}

/** The columns of the dense operand next to each other and aligned: rows a power of two apart would fall into few cache sets. */
function copyPanel({ b, target, shape, scratch, rowBytes, column, width }: PanelTile, { base, from, to }: Panel, x: number): void {
  const { n } = shape;
  const step = target.lanes * 4;
  b.loop(from, to, 1, (k) => {
    const start = plus(times(base, n * 4), times(k, n * 4), times(column, 4));
    for (let v = 0; v * target.lanes < width; v++) {
      const part = b.load(x, plus(start, v * step), Math.min(target.lanes, width - v * target.lanes));
      b.store(part, scratch, plus(times(k, rowBytes), v * step));
    }
  });
}

/**
 * Buffers: values, the index (`indexOf`), shares (not where threads share columns), those of the dense side, the epilogue's inputs, output.
 * Without a side: operand (depth, n), result (rows, n), whose rows are stored from registers.
 */
export function sparseProductKernel(
  name: string,
  shape: SparseProductShape,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
  side: DenseSide<PanelBuffers> | null = null,
): Kernel {
  return new SparseProduct(name, shape, epilogue, target, threads, side).build();
}

/** A visit's word, read where it is needed: registers are short. */
type Visit = () => IntVar;

/** A strip that meets a panel. */
interface Meeting {
  readonly strip: Int;
  readonly panel: Panel;
  readonly tile: PanelTile;
  /** Sums begin with zero, and go into the result. */
  readonly isFirst: boolean;
  readonly isLast: boolean;
}

class SparseProduct {
  private readonly b: KernelBuilder;
  private readonly buffers: Readonly<Record<"values" | "coordinates" | "visits" | "starts" | "shares", number>>;
  private readonly dense: PanelBuffers | null;
  /** The operand, where there is no side, and whether its rows lie as a panel's would: they are not copied then. */
  private readonly operand: number;
  private readonly isPanel: boolean;
  private readonly epilogue: EpilogueCode;
  /** In vectors. */
  private readonly vectors: number;
  private readonly scratch: number;
  private readonly pitch: number;
  private readonly strips: number;
  /** Rows of a strip, as a power of two. */
  private readonly height: number;

  constructor(
    name: string,
    private readonly shape: SparseProductShape,
    epilogue: Epilogue,
    private readonly target: SimdTarget,
    threads: number,
    private readonly side: DenseSide<PanelBuffers> | null,
  ) {
    const { rows, depth, n, block, strip, panels, length, visits, abreast } = shape;
    const b = new KernelBuilder(name, target, threads);
    this.b = b;
    this.strips = Math.ceil(rows / (strip * block));
    this.height = 2 ** Math.ceil(Math.log2(strip * block));
    this.pitch = pitchOf(target);
    this.buffers = {
      values: b.buffer("values", 4 * (length + PADDING), "read"),
      coordinates: b.buffer("coordinates", length + PADDING, "read"),
      visits: b.buffer("visits", 8 * abreast * visits, "read"),
      starts: b.buffer("starts", 4 * (this.strips * panels * GROUPS + 1), "read"),
      shares: side?.sharesColumns ? -1 : b.buffer("shares", 4 * (threads + 1), "read"),
    };
    this.dense = side ? side.declare(b, shape) : null;
    this.operand = side ? -1 : b.buffer("x", 4 * depth * n, "read");
    this.isPanel = !side && n === VECTORS * target.lanes && depth >= NAMED;
    this.epilogue = new EpilogueCode(b, epilogue, side ? side.columns(shape) : n);
    this.vectors = sparseVectors(n, target);
    const end = (NAMED + this.height) * this.pitch;
    const waiting = this.epilogue.scratchBytes({ rows: side?.rowsAtOnce(target) ?? 1, vectors: 1 }, depth);
    this.scratch = b.buffer("scratch", end + waiting, "scratch");
    if (waiting > 0) this.epilogue.useScratch(this.scratch, end);
  }

  build(): Kernel {
    const { b, vectors, target, shape, buffers, strips, side } = this;
    const width = vectors * target.lanes;
    const whole = Math.floor(shape.n / width);
    const rest = shape.n - whole * width;
    if (side?.sharesColumns)
      shareOut(b, [whole + (rest > 0 ? 1 : 0), strips], ([columns, rows]) => {
        b.loop(columns.from, b.min(columns.to, whole), 1, (tile) => this.tile(times(tile, width), width, rows.from, rows.to));
        if (rest > 0) b.when(whole, columns.to, () => this.tile(whole * width, rest, rows.from, rows.to));
      });
    else
      b.parallel(b.threads, (thread) => {
        const from = b.loadInt(buffers.shares, times(thread, 4), "i32", 0, strips);
        const to = b.loadInt(buffers.shares, plus(times(thread, 4), 4), "i32", 0, strips);
        b.loop(0, whole, 1, (tile) => this.tile(times(tile, width), width, from, to));
        if (rest > 0) this.tile(whole * width, rest, from, to);
      });
    return b.build();
  }

  /** Some strips for some columns. */
  private tile(column: Int, width: number, from: Int, to: Int): void {
    const { b, target, shape, scratch, pitch } = this;
    const { block, panels } = shape;
    const blockColumns = Math.ceil(shape.depth / block);
    const tile: PanelTile = { b, target, shape, scratch, rowBytes: pitch, blockColumns, sums: NAMED * pitch, column, width };
    b.loop(from, to, 1, (strip) => {
      b.loop(0, panels, 1, (number) => this.panel(strip, number, tile));
      const { dense } = this;
      if (!dense) return;
      const first = times(strip, shape.strip);
      const blockRows = Math.ceil(shape.rows / block);
      b.loop(0, b.min(shape.strip, plus(blockRows, times(first, -1))), 1, (i) => {
        dense.store({ ...tile, sums: plus(tile.sums, times(i, block * pitch)) }, plus(first, i), this.epilogue);
      });
    });
  }

  private panel(strip: Int, number: Int, tile: PanelTile): void {
    const { b, shape, dense } = this;
    const { depth, panels } = shape;
    const named = Math.min(NAMED, depth);
    const first = times(number, shape.panel);
    const base = b.min(first, depth - named);
    const inScratch = (k: Int): IntVar => b.min(b.max(plus(k, times(base, -1)), 0), named);
    const isLast = (then: () => void): void => b.when(panels - 2, number, then);
    const panel = { base, from: inScratch(first), to: inScratch(plus(first, shape.panel)), number, isLast };
    if (dense) dense.fillPanel(tile, panel);
    else if (!this.isPanel) copyPanel(tile, panel, this.operand);
    const meet = (isFirst: boolean, isLast: boolean): void => {
      for (let rest = 0; rest < GROUPS; rest++) this.group(rest, { strip, panel, tile, isFirst, isLast: isLast && dense === null });
    };
    if (panels === 1) meet(true, true);
    else
      b.when(
        number,
        1,
        () => meet(true, false),
        () => {
          if (panels === 2 || dense) meet(false, true);
          else
            b.when(
              number,
              panels - 1,
              () => meet(false, false),
              () => meet(false, true),
            );
        },
      );
  }

  /** Bundles of rows with `rest` nonzeros each after the turns of a loop. */
  private group(rest: number, meeting: Meeting): void {
    const { b, shape, buffers } = this;
    const at = plus(times(meeting.strip, 4 * GROUPS * shape.panels), times(meeting.panel.number, 4 * GROUPS), 4 * rest);
    const from = b.loadInt(buffers.starts, at, "i32", 0, shape.visits);
    const to = b.loadInt(buffers.starts, plus(at, 4), "i32", 0, shape.visits);
    b.loop(from, to, 1, (i) => {
      const bundle = times(i, 8 * shape.abreast);
      if (shape.abreast > 1) b.prefetch(buffers.visits, plus(bundle, AHEAD / 8));
      const visits = range(shape.abreast).map(
        (h): Visit =>
          () =>
            b.loadInt(buffers.visits, plus(bundle, 8 * h), "i64", ...INT_RANGE.i64),
      );
      if (shape.abreast > 1) this.bundle(visits, rest, meeting);
      else this.alone(visits[0], rest, meeting);
    });
  }

  /** Where the entries of a bundle begin. */
  private start(word: IntVar): IntVar {
    return this.b.min(this.b.bits(word, START_SHIFT, INT_RANGE.i32[1]), this.shape.length);
  }

  /** One row after the other. */
  private alone(visit: Visit, rest: number, meeting: Meeting): void {
    const { b } = this;
    const word = visit();
    const start = this.start(word);
    const sums = this.begin(visit, meeting);
    b.loop(start, plus(start, b.bits(word, COUNT_SHIFT, NAMED - 1), rest), 1, (i) => this.one(i, meeting.panel, sums));
    this.end(visit, sums, meeting);
  }

  /** Rows side by side, a nonzero of each in turn: the processor need not wait for one's sums. */
  private bundle(visits: readonly Visit[], rest: number, meeting: Meeting): void {
    const { b, shape, buffers } = this;
    const { abreast } = shape;
    const word = visits[0]();
    const start = this.start(word);
    b.prefetch(buffers.coordinates, plus(start, AHEAD / 4));
    const turns = rest >= GROUPS - STEP ? b.bits(word, COUNT_SHIFT, NAMED - 1) : 0;
    const shared = shape.shares ? times(b.bits(word, 0, ROW_UNIT - 1), STEP) : 0;
    const sums = visits.map((visit) => this.begin(visit, meeting));
    const each = (from: Int, count: Int, turn: (i: Int) => void): Int => {
      if (count === 0) return from;
      const end = b.set(plus(from, times(count, abreast)));
      b.loop(from, end, STEP * abreast, turn);
      return end;
    };
    const own = each(start, shared, (i) => this.turn(i, STEP, 2, meeting.panel, sums));
    const end = each(own, turns, (i) => this.turn(i, STEP, 1, meeting.panel, sums));
    for (let i = 0; i < rest; i += STEP) this.turn(plus(end, i * abreast), Math.min(STEP, rest - i), 1, meeting.panel, sums);
    for (const [h, visit] of visits.entries()) this.end(visit, sums[h], meeting);
  }

  private place(visit: Visit, tile: PanelTile): Int {
    const row = this.b.bits(visit(), 0, (this.height - 1) * ROW_UNIT);
    return plus(tile.sums, times(row, this.pitch / ROW_UNIT));
  }
  /** A row's sums so far. */
  private begin(visit: Visit, { tile, isFirst }: Meeting): Vec[] {
    const { b, scratch, target } = this;
    const vectors = range(Math.ceil(tile.width / target.lanes));
    const zero = b.f32(0);
    if (isFirst) return vectors.map(() => b.op("mov", zero));
    const from = this.place(visit, tile);
    return vectors.map((v) => b.load(scratch, plus(from, v * target.lanes * 4)));
  }
  private end(visit: Visit, sums: readonly Vec[], { tile, strip, isLast }: Meeting): void {
    const { b, shape, scratch, target, height } = this;
    const { lanes } = target;
    if (!isLast) {
      const to = this.place(visit, tile);
      for (const [v, sum] of sums.entries()) b.store(sum, scratch, plus(to, v * lanes * 4));
      return;
    }
    const rows = shape.strip * shape.block;
    const row = plus(times(strip, rows), b.bits(visit(), Math.log2(ROW_UNIT), height - 1));
    const isInside = (this.strips - 1) * rows + height <= shape.rows;
    const lanesOf = (v: number): number => Math.min(lanes, tile.width - v * lanes);
    const at = {
      row: isInside ? row : b.min(row, shape.rows - 1),
      rowStep: 1,
      column: (v: number) => plus(tile.column, v * lanes),
      lanesOf,
    };
    this.epilogue.storeTile([sums], at);
  }

  /** `count` nonzeros of each row: their coordinates are bytes of one word, their values lanes of one vector, as a processor loads twice a cycle only. What a column names is loaded once for `together` rows. */
  private turn(first: Int, count: number, together: number, panel: Panel, sums: readonly (readonly Vec[])[]): void {
    const { b, buffers, pitch } = this;
    if (count === STEP) b.prefetch(buffers.values, plus(times(first, 4), AHEAD));
    const heads = range(sums.length / together).map((i) => i * together);
    const words = heads.map((h) => b.loadInt(buffers.coordinates, plus(first, h * count), "i32", ...INT_RANGE.i32));
    const values = sums.map((_, h) => b.quad(buffers.values, times(plus(first, h * count), 4)));
    for (let k = 0; k < count; k++)
      for (const [i, h] of heads.entries()) {
        const lanes = values.slice(h, h + together).map((v) => b.op(LANE[k], v));
        this.accumulate(byteTimes(b, words[i], k, pitch), lanes, panel, sums.slice(h, h + together));
      }
  }
  private one(i: Int, panel: Panel, totals: readonly Vec[]): void {
    const { b, buffers, pitch } = this;
    const row = b.loadInt(buffers.coordinates, i, "u8", 0, NAMED - 1);
    this.accumulate(times(row, pitch), [b.splat(buffers.values, times(i, 4))], panel, [totals]);
  }

  /** Each row's totals += its value · the row of the panel that begins at byte `offset`. */
  private accumulate(offset: Int, values: readonly Vec[], panel: Panel, totals: readonly (readonly Vec[])[]): void {
    const { b, target } = this;
    const { buffer, at } = this.rowOfPanel(offset, panel);
    for (const v of totals[0].keys()) {
      const part = b.load(buffer, plus(at, v * target.lanes * 4));
      for (const [i, value] of values.entries()) b.accumulate(totals[i][v], value, part);
    }
  }
  private rowOfPanel(offset: Int, panel: Panel): { readonly buffer: number; readonly at: Int } {
    const { isPanel, operand, scratch, pitch } = this;
    return isPanel ? { buffer: operand, at: plus(times(panel.base, pitch), offset) } : { buffer: scratch, at: offset };
  }
}

/** Byte k of a word times a power of two: shifted to where it is that multiple. */
export function byteTimes(b: KernelBuilder, word: IntVar, k: number, factor: number): IntVar {
  const shift = 8 * k - Math.log2(factor);
  return b.bits(shift < 0 ? times(word, 2 ** -shift) : word, Math.max(0, shift), 255 * factor);
}

const LANE: readonly VecOp[] = ["lane0", "lane1", "lane2", "lane3"];

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
