// Attention of few queries, such as the newest of a text: each has a line of scores, keys in lanes, and keys and values are read once.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { MEMORY_BYTES, type VecOp } from "../ir/kernel_ops.ts";
import { expOfNegative, vectorFn } from "../lower/vector_math.ts";
import { type AttentionBuffers, type AttentionShape, attentionBuffers, type HeadPlaces, LEAST } from "./attention_shape.ts";
import { chooseTile, multiplyTile, overDepth } from "./tile.ts";

/** Buffers as attentionBuffers has them. Heads of keys are shared out to threads. */
export const attentionRowsKernel = (name: string, shape: AttentionShape, target: SimdTarget, threads: number): Kernel =>
  new QueryRows(name, shape, target, threads).build();

/** A query of one of the heads that share keys. */
interface Row {
  readonly inGroup: number;
  readonly query: number;
  /** Keys that it sees. */
  readonly count: number;
  /** Byte offset of its line of scores. */
  readonly line: number;
}

/** The heads of keys that are worked on, and the first of queries' that belong to them. */
interface Heads {
  readonly batch: Int;
  readonly ofKeys: Int;
  readonly first: Int;
}

/** Keys whose values are weighed in one iteration: fewer sums than the multipliers keep in flight. */
const UNROLL = 4;

class QueryRows {
  private readonly b: KernelBuilder;
  private readonly buffers: AttentionBuffers;
  private readonly rows: readonly Row[];
  /** Keys that any of them sees. */
  private readonly count: number;
  private readonly lanes: number;

  constructor(
    name: string,
    private readonly shape: AttentionShape,
    private readonly target: SimdTarget,
    threads: number,
  ) {
    const { queries, group, keys, before } = shape;
    this.lanes = target.lanes;
    this.b = new KernelBuilder(name, target, threads);
    const line = Math.ceil(keys / target.lanes) * target.lanes * 4;
    this.rows = Array.from({ length: group * queries }, (_, i) => {
      const query = i % queries;
      return { inGroup: Math.floor(i / queries), query, count: before < 0 ? keys : Math.min(keys, query + before + 1), line: i * line };
    });
    this.count = Math.max(...this.rows.map((r) => r.count));
    this.buffers = attentionBuffers(this.b, shape, this.rows.length * line);
  }

  build(): Kernel {
    const { b, shape } = this;
    const { batch, heads, group } = shape;
    b.parallel(batch * heads, (item) => {
      const ofKeys = b.mod(item, heads);
      const at = { batch: b.div(item, heads), ofKeys, first: b.set(times(ofKeys, group)) };
      this.scores(at);
      const shares = this.rows.map((row) => this.powers(at, row));
      this.weigh(at, shares);
    });
    return b.build();
  }

  /** Calls `each` for vectors of `count` elements. */
  private overLanes(count: number, each: (from: Int, lanes: number) => void): void {
    const whole = count - (count % this.lanes);
    if (whole > 0) this.b.loop(0, whole, this.lanes, (from) => each(from, this.lanes));
    if (whole < count) each(whole, count - whole);
  }
  private headAt(view: HeadPlaces, batch: Int, head: Int): Int {
    return this.b.set(times(plus(view.from, times(batch, view.batch), times(head, view.head)), 4));
  }
  private queryAt(view: HeadPlaces, at: Heads, { inGroup, query }: Row): Int {
    return plus(this.headAt(view, at.batch, plus(at.first, inGroup)), query * view.place * 4);
  }

  private scores(at: Heads): void {
    const { b, shape, buffers, lanes } = this;
    const keys = this.headAt(shape.k, at.batch, at.ofKeys);
    const queries = this.rows.map((row) => this.queryAt(shape.q, at, row));
    this.overLanes(this.count, (key, count) => {
      const from = plus(keys, times(key, shape.k.place * 4));
      for (const [r, row] of this.rows.entries()) {
        const sums = Array.from({ length: lanes }, () => b.f32(0));
        for (let c = 0; c < shape.depth; c += lanes) {
          const columns = Math.min(lanes, shape.depth - c);
          const q = b.load(buffers.q, plus(queries[r], c * 4), columns);
          for (let i = 0; i < count; i++) b.accumulate(sums[i], b.load(buffers.k, plus(from, (i * shape.k.place + c) * 4), columns), q);
        }
        const products = sumRows(b, sums);
        const scaled = shape.scale === 1 ? products : b.op("mul", products, b.f32(shape.scale));
        b.store(scaled, buffers.scratch, plus(row.line, times(key, 4)));
      }
    });
  }

  /** Powers of a row's scores in their place; gives one over their sum. */
  private powers(at: Heads, row: Row): Vec {
    const { b, buffers } = this;
    const { scratch } = buffers;
    const top = b.f32(LEAST);
    this.overLanes(row.count, (key, count) => {
      const place = plus(row.line, times(key, 4));
      const score = this.changed(b.load(scratch, place), at, row, key, count);
      if (score.isNew) b.store(score.x, scratch, place);
      b.op("max", top, this.limited(score.x, count, LEAST), undefined, top);
    });
    const largest = b.op("maxlanes", top);
    const total = b.f32(0);
    this.overLanes(row.count, (key, count) => {
      const place = plus(row.line, times(key, 4));
      const power = this.limited(expOfNegative(b, b.op("sub", b.load(scratch, place), largest)), count, 0);
      b.store(power, scratch, place);
      b.op("add", total, power, undefined, total);
    });
    this.overLanes(this.count - row.count, (key, count) =>
      b.store(b.f32(0), scratch, plus(row.line + row.count * 4, times(key, 4)), count),
    );
    return b.op("div", b.f32(1), b.op("sumlanes", total));
  }
  /** x in the lanes in use, `other` in the rest. */
  private limited(x: Vec, count: number, other: number): Vec {
    const { b, lanes } = this;
    return count === lanes ? x : b.op("select", x, b.f32(other), b.op("ilt", b.iota(0), b.i32(count)));
  }

  private changed(x: Vec, at: Heads, row: Row, key: Int, count: number): { readonly x: Vec; readonly isNew: boolean } {
    const { b, shape } = this;
    const { cap, seen, bias, hidden } = shape;
    let score = x;
    if (cap > 0) score = b.op("mul", vectorFn(b, "tanh", b.op("mul", score, b.f32(1 / cap))), b.f32(cap));
    if (seen) score = b.op("select", b.f32(hidden), score, b.op("ieq", this.mask("seen", at, row, key, count), b.i32(0)));
    if (bias) score = b.op("add", score, this.mask("bias", at, row, key, count));
    return { x: score, isNew: score !== x };
  }
  private mask(name: "seen" | "bias", { batch, first }: Heads, { inGroup, query }: Row, key: Int, count: number): Vec {
    const mask = this.shape[name]!; // the caller has looked
    const head = times(plus(first, inGroup), mask.head);
    const place = times(plus(times(batch, mask.batch), head, query * mask.query, times(key, mask.key)), MEMORY_BYTES[mask.type]);
    return mask.key === 0 ? this.b.splat(this.buffers[name], place, mask.type) : this.b.load(this.buffers[name], place, count, mask.type);
  }

  /** Values times powers: tiles of rows and vectors of columns. */
  private weigh(at: Heads, shares: readonly Vec[]): void {
    const { b, shape, target, lanes } = this;
    const values = this.headAt(shape.v, at.batch, at.ofKeys);
    const outputs = this.rows.map((row) => this.queryAt(shape.out, at, row));
    const vectors = Math.ceil(shape.width / lanes);
    const tile = chooseTile(target, this.rows.length, vectors);
    for (let r = 0; r < this.rows.length; r += tile.rows)
      for (let v = 0; v < vectors; v += tile.vectors) {
        const rows = [...this.rows.keys()].slice(r, r + tile.rows);
        this.weighTile(values, v, Math.min(tile.vectors, vectors - v), rows).forEach((row, i) => {
          for (const [c, sum] of row.entries()) {
            const column = (v + c) * lanes;
            const y = b.op("mul", sum, shares[rows[i]]);
            b.store(y, this.buffers.out, plus(outputs[rows[i]], column * 4), Math.min(lanes, shape.width - column));
          }
        });
      }
  }
  private weighTile(values: Int, from: number, vectors: number, rows: readonly number[]): Vec[][] {
    const { b, shape, buffers, lanes, target } = this;
    const sums = rows.map(() => Array.from({ length: vectors }, () => b.f32(0)));
    overDepth(b, this.count, target.loadsFirst ? 1 : Math.min(UNROLL, this.count), (key, count) =>
      multiplyTile(b, sums, count, {
        left: { buffer: buffers.scratch, at: (r, i) => plus(this.rows[rows[r]].line, times(plus(key, i), 4)) },
        right: {
          buffer: buffers.v,
          at: (v, i) => plus(values, times(plus(key, i), shape.v.place * 4), (from + v) * lanes * 4),
          lanesOf: (v) => Math.min(lanes, shape.width - (from + v) * lanes),
        },
      }),
    );
    return sums;
  }
}

/** Lane i is the sum of row i's lanes, for as many rows as there are lanes. */
function sumRows(b: KernelBuilder, rows: readonly Vec[]): Vec {
  const joined = (vectors: readonly Vec[], low: VecOp, high: VecOp): Vec[] =>
    Array.from({ length: vectors.length / 2 }, (_, i) => {
      const [one, other] = [vectors[2 * i], vectors[2 * i + 1]];
      return b.op("add", b.op(low, one, other), b.op(high, one, other));
    });
  let left = joined(joined(rows, "zipl", "ziph"), "pairl", "pairh");
  while (left.length > 1) left = joined(left, "quadl", "quadh");
  return left[0];
}
