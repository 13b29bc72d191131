// Sparse times dense: the nonzeros of some rows meet a panel of the dense operand in the first-level cache; a row's sums are in registers while it meets the panel.
import { type Int, type IntVar, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { INT_RANGE, type VecOp } from "../ir/kernel_ops.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import { Ahead, type ResultPlace } from "./sparse_ahead.ts";
import { MOST_IN_TURNS } from "./sparse_broad.ts";
import { sharesTiles } from "./sparse_columns.ts";
import { COUNT_SHIFT, GROUPS, NAMED, PADDING, ROW_UNIT, rowsAbreast, START_SHIFT, STEP } from "./sparse_groups.ts";
import type { SparseProductShape } from "./sparse_product_shape.ts";
import { type PanelColumns, Reach } from "./sparse_reach.ts";
import { copyPanel, type DenseSide, type PanelBuffers, type PanelTile } from "./sparse_side.ts";
import { SpreadCode, spreadBytes } from "./sparse_spread.ts";
import { overTiles, placeInTiles, type Tiles, tilesOf } from "./sparse_tiles.ts";
import { shareOut } from "./work.ts";

/** Bytes of values that are asked for before they are needed: where other layers ran in between, the matrix comes from the last cache, and loads of panels hide its streams from the processor. */
const AHEAD = 1024;

/**
 * Buffers: values, the index (`indexOf`, or `spreadIndexOf`), shares (not where threads share columns), those of the dense side, the epilogue's inputs, output.
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

/** Sums of rows side by side. */
type Sums = readonly Vec[][];

/** Some nonzeros of each row. */
interface Turn {
  readonly count: number;
  readonly together: number;
  /** Of a loop: coordinates that are loaded already; those of the turn that follows are loaded into the same words, as addresses wait for them. */
  readonly words?: readonly IntVar[];
}

/** A strip that meets a panel. */
interface Meeting extends PanelColumns {
  readonly strip: Int;
  /** The entry that the strip's visits of this panel count from. */
  readonly first: Int;
}

/** Strips [from, to). */
interface Strips {
  readonly from: Int;
  readonly to: Int;
}

/** Scratch is not empty. */
const LINE = 64;

/** Rows of sums, of all tiles of columns, that stay in the second-level cache. */
const ROWS_OF_SUMS = 2048;

class SparseProduct {
  private readonly b: KernelBuilder;
  private readonly buffers: Readonly<Record<"values" | "coordinates" | "visits" | "starts" | "shares", number>>;
  private readonly dense: PanelBuffers | null;
  /** The operand, where there is no side. */
  private readonly operand: number;
  private readonly reach: Reach;
  private readonly ahead: Ahead;
  private readonly epilogue: EpilogueCode;
  private readonly scratch: number;
  private readonly strips: number;
  /** Rows of a strip, as a power of two. */
  private readonly height: number;
  /** Where results lie in tiles. */
  private readonly given: Tiles | null;
  /** Whether rows of results are stored from registers. */
  private readonly isDirect: boolean;
  private readonly spread: SpreadCode | null;
  /** Sums of a row that take turns: with few vectors of columns one would wait for the multiplication before. */
  private readonly chains: number;
  /** Tiles of columns that meet a panel one after another: values that are brought into order serve them all. */
  private readonly tiles: number;
  /** Whether threads have columns of their own. */
  private readonly sharesColumns: boolean;
  /** Where values lie in the kernel's order. */
  private readonly ordered: { readonly buffer: number; readonly at: number };

  constructor(
    name: string,
    private readonly shape: SparseProductShape,
    epilogue: Epilogue,
    private readonly target: SimdTarget,
    threads: number,
    side: DenseSide<PanelBuffers> | null,
  ) {
    const { rows, depth, n, block, strip, panels, length, visits, abreast, spread, shares, broad } = shape;
    const b = new KernelBuilder(name, target, threads);
    this.b = b;
    this.strips = Math.ceil(rows / (strip * block));
    this.height = 2 ** Math.ceil(Math.log2(strip * block));
    this.reach = new Reach(b, shape, target, side, side?.takesTiles || side?.givesTiles ? tilesOf(n, depth, target) : null);
    this.ahead = new Ahead(b, shape, target);
    const { vectors, pitch } = this.reach;
    this.sharesColumns = side ? side.sharesColumns : !spread && !broad && sharesTiles(shape, target, threads);
    // As many as the most rows leave registers for: sums are the same whatever the number of rows side by side.
    const sums = (broad ? 1 : rowsAbreast(target)) * vectors;
    this.chains = sums <= 4 || (shares && sums <= target.registers / 4) ? 2 : 1;
    this.spread = spread ? new SpreadCode(b, spread) : null;
    this.buffers = {
      values: spread ? -1 : b.buffer("values", 4 * (length + PADDING), "read"),
      coordinates: b.buffer("coordinates", (broad ? 2 : 1) * (length + (spread?.most ?? 0) + PADDING), "read"),
      visits: b.buffer("visits", 8 * abreast * visits, "read"),
      starts: b.buffer("starts", 4 * (this.strips * panels * GROUPS + 1), "read"),
      shares: this.sharesColumns ? -1 : b.buffer("shares", 4 * (threads + 1), "read"),
    };
    this.dense = side ? side.declare(b, shape) : null;
    this.operand = this.dense ? (this.dense.operand ?? -1) : b.buffer("x", 4 * depth * n, "read");
    const given = side?.givesTiles ? tilesOf(n, rows, target) : null;
    this.given = given;
    const columns = given ? given.rowBytes / 4 : (side?.columns(shape) ?? n);
    this.epilogue = new EpilogueCode(b, given ? overTiles(epilogue, rows, given) : epilogue, columns);
    const whole = Math.floor(n / (vectors * target.lanes));
    this.tiles = spread ? Math.max(1, broad ? whole : Math.min(whole, Math.floor(ROWS_OF_SUMS / this.height))) : 1;
    const valuesAt = broad ? 0 : (NAMED + this.tiles * this.height) * pitch;
    const end = valuesAt + (spread ? spreadBytes(spread) + 4 * PADDING : 0);
    const waiting = this.epilogue.scratchBytes({ rows: side?.rowsAtOnce(target) ?? 1, vectors: 1 }, depth);
    this.scratch = b.buffer("scratch", Math.max(LINE, end + waiting), "scratch");
    this.ordered = spread ? { buffer: this.scratch, at: valuesAt } : { buffer: this.buffers.values, at: 0 };
    if (waiting > 0) this.epilogue.useScratch(this.scratch, end);
    this.isDirect = !side || (given !== null && waiting === 0);
  }

  build(): Kernel {
    const { b, target, shape, buffers, strips } = this;
    const width = this.reach.vectors * target.lanes;
    const whole = Math.floor(shape.n / width);
    const rest = shape.n - whole * width;
    if (this.sharesColumns)
      shareOut(b, [whole + (rest > 0 ? 1 : 0), strips], ([columns, rows]) => {
        this.wholeTiles(columns.from, b.min(columns.to, whole), rows);
        if (rest > 0) b.when(whole, columns.to, () => this.overStrips(rows, rest, 1, () => whole * width));
      });
    else
      b.parallel(b.threads, (thread) => {
        const from = b.loadInt(buffers.shares, times(thread, 4), "i32", 0, strips);
        const to = b.loadInt(buffers.shares, plus(times(thread, 4), 4), "i32", 0, strips);
        this.wholeTiles(0, whole, { from, to });
        if (rest > 0) this.overStrips({ from, to }, rest, 1, () => whole * width);
      });
    return b.build();
  }

  /** Tiles [from, to) of those that are whole. */
  private wholeTiles(from: Int, to: Int, strips: Strips): void {
    const { b, target, shape, tiles } = this;
    const width = this.reach.vectors * target.lanes;
    const last = Math.floor(shape.n / width) - 1;
    b.loop(from, to, tiles, (first) => {
      if (tiles === 1) this.overStrips(strips, width, 1, () => times(first, width));
      else this.overStrips(strips, width, b.min(tiles, plus(to, times(first, -1))), (t) => times(b.min(plus(first, t), last), width));
    });
  }

  /** Some strips for some tiles, of which `columnOf` gives the first columns. */
  private overStrips({ from, to }: Strips, width: number, tiles: Int, columnOf: (tile: Int) => Int): void {
    const { b, target, shape, scratch, height, dense, isDirect, spread } = this;
    const { block, panels } = shape;
    const { pitch } = this.reach;
    const blockColumns = Math.ceil(shape.depth / block);
    const one = (t: Int, body: (tile: PanelTile) => void): void => {
      const sums = plus(NAMED * pitch, times(t, height * pitch));
      body({ b, target, shape, scratch, rowBytes: pitch, blockColumns, sums, column: columnOf(t), width });
    };
    const each = (body: (tile: PanelTile) => void): void => (tiles === 1 ? one(0, body) : b.loop(0, tiles, 1, (t) => one(t, body)));
    b.loop(from, to, 1, (strip) => {
      b.loop(0, panels, 1, (number) => {
        const first = spread?.put(plus(times(strip, panels), number), shape.length, scratch, this.ordered.at) ?? 0;
        each((tile) => this.panel(strip, number, first, tile));
      });
      if (!dense || isDirect) return;
      const top = times(strip, shape.strip);
      const blocks = b.min(shape.strip, plus(Math.ceil(shape.rows / block), times(top, -1)));
      each((tile) =>
        b.loop(0, blocks, 1, (i) => {
          dense.store({ ...tile, sums: plus(tile.sums, times(i, block * pitch)) }, plus(top, i), this.epilogue);
        }),
      );
    });
  }

  private panel(strip: Int, number: Int, first: Int, tile: PanelTile): void {
    const { b, shape, dense } = this;
    const { depth, panels } = shape;
    const named = shape.broad ? depth : Math.min(NAMED, depth);
    const top = times(number, shape.panel);
    const base = b.min(top, depth - named);
    const inScratch = (k: Int): IntVar => b.min(b.max(plus(k, times(base, -1)), 0), named);
    const isLast = (then: () => void): void => b.when(panels - 2, number, then);
    const panel = { base, from: inScratch(top), to: inScratch(plus(top, shape.panel)), number, end: Math.min(NAMED, depth), isLast };
    if (dense) dense.fillPanel(tile, panel);
    else if (this.reach.isCopied) copyPanel(tile, panel, this.operand);
    const { operand, reach, ahead } = this;
    const { from } = this.bundlesOf(strip, number, 0);
    const asks = [
      ...(operand < 0 ? [] : [ahead.ofOperand(operand, reach.lying, number, tile, from)]),
      ...(dense && !this.given ? [ahead.ofTurned(this.epilogue, strip, number, tile, from)] : []),
    ];
    const ask = (bundle: Int): void => {
      for (const one of asks) one(bundle);
    };
    for (let rest = 0; rest < GROUPS; rest++) this.group(rest, ask, { strip, first, panel, tile });
  }

  /** Bundles of rows with `rest` nonzeros each after the turns of a loop, whatever the panel: code for the first and for the last one would have to come, too. */
  private group(rest: number, ask: (bundle: Int) => void, meeting: Meeting): void {
    const { b, shape, buffers, isDirect, ahead } = this;
    const { strip, panel, tile } = meeting;
    const { from, to } = this.bundlesOf(strip, panel.number, rest);
    const isBundled = shape.abreast > 1 || shape.broad;
    const placesOf = (bundle: Int): ResultPlace[] => this.visitsOf(bundle).map((visit) => this.resultPlace(this.row(visit, strip), tile));
    b.loop(from, to, 1, (i) => {
      if (isBundled) b.prefetch(buffers.visits, plus(times(i, 8 * shape.abreast), AHEAD / 8));
      ask(i);
      if (isDirect) ahead.ofResults(this.epilogue, i, shape.visits - 1, panel.number, tile, placesOf);
      const visits = this.visitsOf(i);
      if (isBundled) this.bundle(visits, rest, meeting);
      else this.alone(visits[0], rest, meeting);
    });
  }
  private bundlesOf(strip: Int, number: Int, rest: number) {
    const { b, shape, buffers } = this;
    const at = plus(times(strip, 4 * GROUPS * shape.panels), times(number, 4 * GROUPS), 4 * rest);
    const [from, to] = [at, plus(at, 4)].map((start) => b.loadInt(buffers.starts, start, "i32", 0, shape.visits));
    return { from, to };
  }
  private visitsOf(bundle: Int): Visit[] {
    const { b, shape, buffers } = this;
    const at = (h: number): Int => plus(times(bundle, 8 * shape.abreast), 8 * h);
    return range(shape.abreast).map((h) => () => b.loadInt(buffers.visits, at(h), "i64", ...INT_RANGE.i64));
  }
  /** Of the result. */
  private row(visit: Visit, strip: Int): Int {
    const { b, shape, height } = this;
    const rows = shape.strip * shape.block;
    const row = plus(times(strip, rows), b.bits(visit(), Math.log2(ROW_UNIT), height - 1));
    const isInside = (this.strips - 1) * rows + height <= shape.rows;
    return isInside ? row : b.min(row, shape.rows - 1);
  }

  private resultPlace(row: Int, { column }: PanelTile): ResultPlace {
    return this.given ? placeInTiles(this.b, this.given, row, column) : { row, column };
  }

  /** Where the entries of a bundle begin. */
  private start(word: IntVar): IntVar {
    return this.b.min(this.b.bits(word, START_SHIFT, INT_RANGE.i32[1]), this.shape.spread?.most ?? this.shape.length);
  }

  /** One row after the other. */
  private alone(visit: Visit, rest: number, meeting: Meeting): void {
    const { b } = this;
    const word = visit();
    const start = this.start(word);
    const sums = this.begin([visit], meeting);
    b.loop(start, plus(start, b.bits(word, COUNT_SHIFT, MOST_IN_TURNS), rest), 1, (i) => this.one(i, meeting, sums[0]));
    this.end([visit], sums, meeting);
  }

  /** Rows side by side, a nonzero of each in turn: the processor need not wait for one's sums. */
  private bundle(visits: readonly Visit[], rest: number, meeting: Meeting): void {
    const { b, shape, buffers } = this;
    const { abreast } = shape;
    const word = visits[0]();
    const start = this.start(word);
    b.prefetch(buffers.coordinates, this.reach.bytes(plus(meeting.first, start, AHEAD / 4)));
    // Rows that share columns are those of smaller panels.
    const turns = b.bits(word, COUNT_SHIFT, shape.shares ? NAMED - 1 : MOST_IN_TURNS);
    const shared = shape.shares ? times(b.bits(word, 0, ROW_UNIT - 1), STEP) : 0;
    const first = this.begin(visits, meeting);
    const zero = b.f32(0);
    const sums = [first, ...range(this.chains - 1).map(() => first.map((row) => row.map(() => b.op("mov", zero))))];
    const each = (from: Int, count: Int, turn: (i: Int) => void): Int => {
      if (count === 0) return from;
      const end = b.set(plus(from, times(count, abreast)));
      b.loop(from, end, STEP * abreast, turn);
      return end;
    };
    const own = each(start, shared, (i) => this.turn(i, { count: STEP, together: 2 }, meeting, sums));
    const words = visits.map((_, h) => this.reach.word(buffers.coordinates, plus(meeting.first, own, h * STEP)));
    const end = each(own, turns, (i) => this.turn(i, { count: STEP, together: 1, words }, meeting, sums));
    if (rest > 0) this.turn(end, { count: rest, together: 1 }, meeting, sums);
    const all = sums.reduce((total, part) => total.map((row, h) => row.map((x, v) => b.op("add", x, part[h][v]))));
    this.end(visits, all, meeting);
  }

  private place(visit: Visit, tile: PanelTile): Int {
    const row = this.b.bits(visit(), 0, (this.height - 1) * ROW_UNIT);
    return plus(tile.sums, times(row, this.reach.pitch / ROW_UNIT));
  }
  /** The rows' sums so far. */
  private begin(visits: readonly Visit[], { tile, panel }: Meeting): Vec[][] {
    const { b, scratch, target, shape } = this;
    const zero = b.f32(0);
    const sums: Vec[][] = [];
    const zeros = (): void => {
      for (const _ of visits) sums.push(range(Math.ceil(tile.width / target.lanes)).map(() => b.op("mov", zero)));
    };
    const loads = (): void => {
      for (const [h, visit] of visits.entries()) {
        const from = this.place(visit, tile);
        for (const [v, sum] of sums[h].entries()) b.load(scratch, plus(from, v * target.lanes * 4), target.lanes, "f32", sum);
      }
    };
    if (shape.panels === 1) zeros();
    else b.when(panel.number, 1, zeros, loads);
    return sums;
  }
  private end(visits: readonly Visit[], sums: Sums, { tile, panel, strip }: Meeting): void {
    const { b, shape, scratch, target, isDirect } = this;
    const keeps = (): void => {
      for (const [h, visit] of visits.entries()) {
        const to = this.place(visit, tile);
        for (const [v, sum] of sums[h].entries()) b.store(sum, scratch, plus(to, v * target.lanes * 4));
      }
    };
    const stores = (): void => {
      for (const [h, visit] of visits.entries()) this.store(visit, sums[h], tile, strip);
    };
    if (!isDirect) keeps();
    else if (shape.panels === 1) stores();
    else b.when(panel.number, shape.panels - 1, keeps, stores);
  }
  /** Sums go through the epilogue into the result. */
  private store(visit: Visit, sums: readonly Vec[], tile: PanelTile, strip: Int): void {
    const { b, dense, epilogue } = this;
    const { lanes } = this.target;
    const row = this.row(visit, strip);
    const added = dense?.bias === undefined ? null : b.splat(dense.bias, times(row, 4));
    const results = added ? sums.map((sum) => b.op("add", sum, added)) : sums;
    const lanesOf = (v: number): number => Math.min(lanes, tile.width - v * lanes);
    const place = this.resultPlace(row, tile);
    epilogue.storeTile([results], { row: place.row, rowStep: 1, column: (v) => plus(place.column, v * lanes), lanesOf });
  }

  /** `count` nonzeros of each row: their coordinates are parts of one word, their values lanes of one vector, as a processor loads twice a cycle only. What a column names is loaded once for `together` rows. */
  private turn(start: Int, { count, together, words }: Turn, meeting: Meeting, sums: readonly Sums[]): void {
    const { b, buffers, ordered, reach, shape } = this;
    // Short rows end in many lines: what only their last nonzeros ask for counts.
    if ((count === STEP || !shape.shares) && !shape.spread) b.prefetch(buffers.values, plus(times(start, 4), AHEAD));
    const abreast = sums[0].length;
    const at = (entry: number): Int => plus(meeting.first, start, entry);
    const heads = range(abreast / together).map((i) => i * together);
    const coordinates = words ?? heads.map((h) => reach.word(buffers.coordinates, at(h * count)));
    const values = sums[0].map((_, h) => b.quad(ordered.buffer, plus(times(plus(start, h * count), 4), ordered.at)));
    for (let k = 0; k < count; k++)
      for (const [i, h] of heads.entries()) {
        const lanes = values.slice(h, h + together).map((v) => b.op(LANE[k], v));
        const row = reach.row(coordinates[i], k);
        if (words && k === STEP - 1) reach.word(buffers.coordinates, at(abreast * STEP + h * STEP), coordinates[i]);
        this.accumulate(row, lanes, meeting, sums[k % sums.length].slice(h, h + together));
      }
  }
  private one(i: Int, meeting: Meeting, totals: Vec[]): void {
    const { b, buffers, ordered, reach } = this;
    const row = reach.rowOf(buffers.coordinates, plus(meeting.first, i));
    this.accumulate(row, [b.splat(ordered.buffer, plus(times(i, 4), ordered.at))], meeting, [totals]);
  }

  /** Each row's totals += its value · the row of the operand that begins at byte `row`. */
  private accumulate(row: Int, values: readonly Vec[], columns: PanelColumns, totals: Sums): void {
    const { b, reach, operand, target } = this;
    for (let v = 0; v * target.lanes < columns.tile.width; v++) {
      const part = reach.part(operand, row, v, columns);
      for (const [i, value] of values.entries()) b.accumulate(totals[i][v], value, part);
    }
  }
}

const LANE: readonly VecOp[] = ["lane0", "lane1", "lane2", "lane3"];

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
