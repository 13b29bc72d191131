// Attention by tiles of queries, one in each lane: blocks of keys pass through a cache with a softmax that is corrected block by block (Milakov and Gimelshein 2018).
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { expOfNegative } from "../lower/vector_math.ts";
import { type KeyBlock, ScoreChanges, type ScratchPlaces, type TilePlace } from "./attention_scores.ts";
import { type AttentionBuffers, type AttentionShape, attentionBuffers, type HeadPlaces, LEAST } from "./attention_shape.ts";
import { multiplyTile, overDepth, unrollOf } from "./tile.ts";
import { transposeTile } from "./transpose_tile.ts";

/** How attention is cut up. */
export interface AttentionSchedule {
  /** Of queries, in a tile. */
  readonly vectors: number;
  /** Keys, or columns of values, that registers hold sums for. */
  readonly rows: number;
  /** Keys whose scores wait for their softmax: a multiple of `rows`, or all. */
  readonly block: number;
}

/** Vectors of a tile of queries: with more of them, scores and sums leave the first-level cache. */
const MOST_VECTORS = 2;

/** Rows of sums beside `vectors` of the right operand and one left value, or all of them. */
function rowsBeside(vectors: number, { registers, loadsFirst }: SimdTarget): number {
  return Math.max(1, Math.floor(loadsFirst ? (registers - vectors) / (vectors + 1) : (registers - 1 - vectors) / vectors));
}
/** Equal parts of `count`, none larger than `most`. */
const equalParts = (count: number, most: number): number => Math.ceil(count / Math.ceil(count / most));

export function scheduleAttention({ queries, keys }: AttentionShape, target: SimdTarget): AttentionSchedule {
  const vectors = Math.min(MOST_VECTORS, Math.ceil(queries / target.lanes));
  const rows = equalParts(keys, rowsBeside(vectors, target));
  const most = Math.max(1, Math.floor(target.l1 / 3 / (vectors * target.lanes * 4) / rows)) * rows;
  return { vectors, rows, block: Math.min(keys, Math.ceil(equalParts(keys, most) / rows) * rows) };
}

export const attentionKernel = (
  name: string,
  shape: AttentionShape,
  schedule: AttentionSchedule,
  target: SimdTarget,
  threads: number,
): Kernel => new QueryTiles(name, shape, schedule, target, threads).build();

interface Scratch extends ScratchPlaces {
  /** Columns of queries, then those of the results, and for each query the largest score so far, the sum of powers, what earlier sums are multiplied by. */
  readonly queries: number;
  readonly sums: number;
  readonly top: number;
  readonly total: number;
  readonly factor: number;
  readonly bytes: number;
}

function scratchOf(shape: AttentionShape, { vectors, block }: AttentionSchedule, lanes: number): Scratch {
  const line = vectors * lanes * 4;
  const scores = shape.depth * line;
  const sums = scores + block * line;
  const top = sums + shape.width * line;
  const masks = top + 4 * line;
  const bytes = masks + ScoreChanges.turnedMasks(shape) * block * line;
  return { queries: 0, scores, sums, top, total: top + line, factor: top + 2 * line, blockTop: top + 3 * line, masks, bytes };
}

class QueryTiles {
  private readonly b: KernelBuilder;
  private readonly buffers: AttentionBuffers;
  private readonly at: Scratch;
  private readonly changes: ScoreChanges;
  private readonly lanes: number;

  constructor(
    name: string,
    private readonly shape: AttentionShape,
    private readonly schedule: AttentionSchedule,
    private readonly target: SimdTarget,
    threads: number,
  ) {
    this.lanes = target.lanes;
    this.b = new KernelBuilder(name, target, threads);
    this.at = scratchOf(shape, schedule, target.lanes);
    this.buffers = attentionBuffers(this.b, shape, this.at.bytes);
    const maskBytes = schedule.block * schedule.vectors * target.lanes * 4;
    this.changes = new ScoreChanges(this.b, shape, this.buffers, this.at, maskBytes);
  }

  build(): Kernel {
    const { b, shape, schedule, lanes } = this;
    const { batch, heads, group, queries } = shape;
    const wide = schedule.vectors * lanes;
    const full = Math.floor(queries / wide);
    const rest = queries - full * wide;
    const tiles = full + (rest > 0 ? 1 : 0);
    b.parallel(batch * heads * group * tiles, (item) => {
      const tile = this.inTurns(tiles === 1 ? 0 : b.mod(item, tiles), tiles);
      const one = tiles === 1 ? item : b.div(item, tiles);
      const head = b.mod(one, heads * group);
      const heads_ = { batch: b.div(one, heads * group), head, ofKeys: group === 1 ? head : b.div(head, group) };
      const whole = (): void => {
        const query = full === 1 ? 0 : b.set(times(b.min(tile, full - 1), wide));
        this.tile({ ...heads_, query, rows: wide, vectors: schedule.vectors });
      };
      const last = (): void => this.tile({ ...heads_, query: full * wide, rows: rest, vectors: Math.ceil(rest / lanes) });
      if (rest === 0) whole();
      else if (full === 0) last();
      else b.when(tile, full, whole, last);
    });
    return b.build();
  }

  /** Tiles with few keys and with many take turns where places are compared, so that neighbours share work out evenly. */
  private inTurns(i: Int, tiles: number): Int {
    const { b, shape } = this;
    if (shape.before < 0 || b.threads === 1 || tiles < 3) return i;
    const half = b.div(i, 2);
    const odd = b.mod(i, 2);
    const early = plus(half, times(odd, -tiles));
    const late = plus(times(half, -1), times(odd, tiles), -1);
    return b.min(b.max(b.max(early, late), 0), tiles - 1);
  }

  private tile(at: TilePlace): void {
    const { b, shape, schedule } = this;
    const { keys, before } = shape;
    const { block } = schedule;
    this.packQueries(at);
    this.clear(at);
    const seen = before < 0 ? keys : b.min(plus(at.query, at.rows + before), keys);
    const blocks = Math.ceil(keys / block);
    const run = (base: Int, size: number): void => {
      const count = before < 0 ? size : b.max(b.min(plus(seen, times(base, -1)), size), 1);
      this.block(at, { base, size, count });
    };
    if (blocks > 1) {
      const to = before < 0 ? blocks - 1 : b.min(b.div(plus(seen, block - 1), block), blocks - 1);
      b.loop(0, to, 1, (i) => run(times(i, block), block));
    }
    const last = (blocks - 1) * block;
    if (before < 0) run(last, keys - last);
    else b.when(last, seen, () => run(last, keys - last));
    this.finish(at);
  }

  /** Byte offset of a head's first column at a place. */
  private headAt(view: HeadPlaces, batch: Int, head: Int, place: Int): Int {
    return times(plus(view.from, times(batch, view.batch), times(head, view.head), times(place, view.place)), 4);
  }
  /** Calls `each` for vectors of `count` columns. */
  private overColumns(count: number, each: (column: Int, lanes: number) => void): void {
    const whole = count - (count % this.lanes);
    if (whole > 0) this.b.loop(0, whole, this.lanes, (column) => each(column, this.lanes));
    if (whole < count) each(whole, count - whole);
  }

  /** Queries times the scale, column after column. */
  private packQueries(at: TilePlace): void {
    const { b, shape, buffers, lanes } = this;
    const first = b.set(this.headAt(shape.q, at.batch, at.head, at.query));
    this.overColumns(shape.depth, (column, count) => {
      for (let v = 0; v < at.vectors; v++) {
        const rows = Array.from({ length: lanes }, (_, i) => {
          const row = v * lanes + i;
          return row < at.rows ? b.load(buffers.q, plus(first, row * shape.q.place * 4, times(column, 4)), count) : b.f32(0);
        });
        for (const [i, x] of transposeTile(b, rows).slice(0, count).entries()) {
          const scaled = shape.scale === 1 ? x : b.op("mul", x, b.f32(shape.scale));
          b.store(scaled, buffers.scratch, plus(this.at.queries, times(plus(column, i), at.vectors * lanes * 4), v * lanes * 4));
        }
      }
    });
  }

  private clear(at: TilePlace): void {
    const { b, shape, buffers, lanes } = this;
    const fill = (x: Vec, from: number, vectors: number): void =>
      b.loop(0, vectors, 1, (v) => b.store(x, buffers.scratch, plus(from, times(v, lanes * 4))));
    fill(b.f32(0), this.at.sums, shape.width * at.vectors);
    fill(b.f32(0), this.at.total, at.vectors);
    fill(b.f32(LEAST), this.at.top, at.vectors);
  }

  private block(at: TilePlace, block: KeyBlock): void {
    const { b, shape, changes } = this;
    this.scores(at, block);
    if (changes.isEverywhere) changes.apply(at, block);
    else if (shape.before >= 0) b.when(plus(at.query, shape.before + 1), plus(block.base, block.count), () => changes.apply(at, block));
    this.powers(at, block);
    this.weigh(at, block);
  }

  /** Runs `each` for tiles of `rows` of `size`, of which `count` are wanted. */
  private overRows(size: number, count: Int, rows: number, each: (from: Int, rows: number) => void): void {
    const { b } = this;
    const full = Math.floor(size / rows);
    const rest = size - full * rows;
    const isAll = count === size;
    if (full > 0) b.loop(0, isAll ? full : b.min(b.div(plus(count, rows - 1), rows), full), 1, (i) => each(times(i, rows), rows));
    if (rest === 0) return;
    if (isAll) each(full * rows, rest);
    else b.when(full * rows, count, () => each(full * rows, rest));
  }

  private sumsOf(rows: number, vectors: number): Vec[][] {
    return Array.from({ length: rows }, () => Array.from({ length: vectors }, () => this.b.f32(0)));
  }

  /** Keys times queries, and the largest product of each query. */
  private scores(at: TilePlace, block: KeyBlock): void {
    const { b, shape, buffers, lanes, schedule } = this;
    const line = at.vectors * lanes * 4;
    for (let v = 0; v < at.vectors; v++) b.store(b.f32(LEAST), buffers.scratch, this.at.blockTop + v * lanes * 4);
    const first = b.set(this.headAt(shape.k, at.batch, at.ofKeys, block.base));
    this.overRows(block.size, block.count, Math.min(schedule.rows, block.size), (key, rows) => {
      const sums = this.sumsOf(rows, at.vectors);
      const from = plus(first, times(key, shape.k.place * 4));
      overDepth(b, shape.depth, unrollOf(this.target, shape.depth, rows * at.vectors), (k, count) =>
        multiplyTile(b, sums, count, {
          left: { buffer: buffers.k, at: (r, i) => plus(from, (r * shape.k.place + i) * 4, times(k, 4)) },
          right: { buffer: buffers.scratch, at: (v, i) => plus(this.at.queries, times(plus(k, i), line), v * lanes * 4) },
        }),
      );
      for (let v = 0; v < at.vectors; v++) {
        const top = b.load(buffers.scratch, this.at.blockTop + v * lanes * 4);
        for (const [r, row] of sums.entries()) {
          b.store(row[v], buffers.scratch, plus(this.at.scores, times(plus(key, r), line), v * lanes * 4));
          b.op("max", top, row[v], undefined, top);
        }
        b.store(top, buffers.scratch, this.at.blockTop + v * lanes * 4);
      }
    });
  }

  /** Powers of scores in their place, their sum, and what earlier sums are too large by. */
  private powers(at: TilePlace, block: KeyBlock): void {
    const { b, buffers, lanes } = this;
    const { scratch } = buffers;
    const vectors = Array.from({ length: at.vectors }, (_, v) => v * lanes * 4);
    const tops: Vec[] = [];
    const totals: Vec[] = [];
    for (const v of vectors) {
      const old = b.load(scratch, this.at.top + v);
      // Of a number that is none the second operand stays.
      const top = b.op("max", b.load(scratch, this.at.blockTop + v), old);
      const factor = expOfNegative(b, b.op("sub", old, top));
      b.store(top, scratch, this.at.top + v);
      b.store(factor, scratch, this.at.factor + v);
      tops.push(top);
      totals.push(b.op("mul", b.load(scratch, this.at.total + v), factor));
    }
    b.loop(0, block.count, 1, (key) => {
      for (const [i, v] of vectors.entries()) {
        const place = plus(this.at.scores, times(key, at.vectors * lanes * 4), v);
        const power = expOfNegative(b, b.op("sub", b.load(scratch, place), tops[i]));
        b.store(power, scratch, place);
        b.op("add", totals[i], power, undefined, totals[i]);
      }
    });
    for (const [i, v] of vectors.entries()) b.store(totals[i], scratch, this.at.total + v);
  }

  /** Values times powers, added to earlier sums. */
  private weigh(at: TilePlace, block: KeyBlock): void {
    const { b, shape, buffers, lanes } = this;
    const { scratch } = buffers;
    const line = at.vectors * lanes * 4;
    const first = b.set(this.headAt(shape.v, at.batch, at.ofKeys, block.base));
    const most = equalParts(shape.width, rowsBeside(at.vectors, this.target));
    this.overRows(shape.width, shape.width, most, (column, rows) => {
      const sums = this.sumsOf(rows, at.vectors);
      const step = (key: Int, count: number): void =>
        multiplyTile(b, sums, count, {
          left: { buffer: buffers.v, at: (r, i) => plus(first, times(plus(key, i), shape.v.place * 4), times(plus(column, r), 4)) },
          right: { buffer: scratch, at: (v, i) => plus(this.at.scores, times(plus(key, i), line), v * lanes * 4) },
        });
      if (typeof block.count === "number") overDepth(b, block.count, unrollOf(this.target, block.count, rows * at.vectors), step);
      else b.loop(0, block.count, 1, (key) => step(key, 1));
      for (let v = 0; v < at.vectors; v++) {
        const factor = b.load(scratch, this.at.factor + v * lanes * 4);
        for (const [r, row] of sums.entries()) {
          const place = plus(this.at.sums, times(plus(column, r), line), v * lanes * 4);
          b.accumulate(row[v], b.load(scratch, place), factor);
          b.store(row[v], scratch, place);
        }
      }
    });
  }

  /** Sums over their powers' total, turned back into rows. */
  private finish(at: TilePlace): void {
    const { b, shape, buffers, lanes } = this;
    const { scratch, out } = buffers;
    const first = b.set(this.headAt(shape.out, at.batch, at.head, at.query));
    for (let v = 0; v < at.vectors; v++) {
      const share = b.op("div", b.f32(1), b.load(scratch, this.at.total + v * lanes * 4));
      this.overColumns(shape.width, (column, count) => {
        const columns = Array.from({ length: lanes }, (_, i) => {
          if (i >= count) return b.f32(0);
          const place = plus(this.at.sums, times(plus(column, i), at.vectors * lanes * 4), v * lanes * 4);
          return b.op("mul", b.load(scratch, place), share);
        });
        const rows = transposeTile(b, columns).slice(0, Math.min(lanes, at.rows - v * lanes));
        for (const [i, row] of rows.entries())
          b.store(row, out, plus(first, (v * lanes + i) * shape.out.place * 4, times(column, 4)), count);
      });
    }
  }
}
