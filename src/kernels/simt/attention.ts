// Attention on matrix units: tiles of scores stay in registers, their softmax is corrected tile by tile as larger scores are found (Dao et al. 2022).
import {
  exchange,
  FRAGMENT,
  type Fragment,
  float,
  fn,
  fragmentPlace,
  int,
  type Reg,
  SimtBuilder,
  type SimtKernel,
  type SimtTarget,
  select,
  sum,
  thread,
} from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_group.ts";
import { acrossOf, firstOf, type Head, HeadTiles, type HeadView, lineOf, rowFragments, rowOf, sums } from "./head_tiles.ts";
import { type Dropping, KeptBits } from "./kept_bits.ts";
import { LEAST, MaskedScores, type MaskView, type ScoreChange } from "./masked_scores.ts";

export interface AttentionShape {
  readonly dtype: "f16" | "bf16";
  readonly batch: number;
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  readonly depth: number;
  readonly isCausal: boolean;
  readonly scale: number;
  /** What is done to scores besides. */
  readonly masks?: ScoreMasks;
  readonly dropping?: Dropping;
}

export interface ScoreMasks {
  /** Heads of queries that share one of keys and values. */
  readonly group: number;
  /** Where causal: query i sees keys 0 to i + before. */
  readonly before: number;
  readonly cap: number;
  readonly seen: MaskView | null;
  readonly hidden: number;
  readonly bias: MaskView | null;
  /** Logarithms of sums of powers are stored, as without masks. */
  readonly keepsLogs?: true;
}

/** A subgroup has `rows` places of one side, of which a workgroup has `subgroups` times as many; tiles have `tile` places of the other side. */
export interface AttentionSchedule {
  readonly rows: number;
  readonly subgroups: number;
  readonly tile: number;
}

export const SUBGROUP = 32;
/** exp x is 2 to the power of x times this. */
export const LOG2_E = Math.LOG2E;
/** Threads that hold one row of a fragment. */
const ROW_THREADS = [1, 2] as const;

type Variable = ReturnType<SimtBuilder["variable"]>;

/** Queries begin so many places behind keys. */
export const beforeOf = ({ queries, keys, masks }: AttentionShape): number => masks?.before ?? keys - queries;

/** Which rows a workgroup has: heads of one block of places are neighbours in time. */
function blockOf(b: SimtBuilder, { batch, heads }: AttentionShape, blocks: number, isReversed: boolean) {
  const grid = gridOf(blocks * batch * heads, b.target);
  const number = b.let(fn("min", linearGroup(grid), blocks * batch * heads - 1));
  const line = b.let(fn("rem", number, batch * heads));
  const block = fn("div", number, batch * heads);
  const at: Head = { batch: b.let(fn("div", line, heads)), head: b.let(fn("rem", line, heads)) };
  return { grid, line, at, block: b.let(isReversed ? fn("sub", int(blocks - 1), block) : block) };
}

/** A buffer and where heads lie in it. */
type HeadBuffer = readonly [number, HeadView];

/** What a workgroup has of one side, `places` long in all: its rows and its subgroup's, tiles of those, and tiles of the other side, which it meets one after the other. */
export function blockTiles(b: SimtBuilder, shape: AttentionShape, schedule: AttentionSchedule, places: number, isReversed: boolean) {
  const { rows, subgroups, tile } = schedule;
  const [block, threads] = [rows * subgroups, subgroups * SUBGROUP];
  const place = blockOf(b, shape, Math.ceil(places / block), isReversed);
  const beside = { ...place.at, head: b.let(fn("div", place.at.head, shape.masks?.group ?? 1)) };
  const tilesOf =
    (size: { readonly rows: number; readonly slots: number }, at: Head) =>
    (buffers: readonly HeadBuffer[], places: number): HeadTiles[] =>
      buffers.map(([buffer, view]) => new HeadTiles(b, buffer, view, at, { ...size, depth: shape.depth, threads, places }));
  return {
    block,
    threads,
    place,
    firstRow: b.let(fn("mul", place.block, block)),
    own: b.let(fn("mul", fn("div", thread(), SUBGROUP), rows)),
    tilesOfBlock: tilesOf({ rows: block, slots: 1 }, place.at),
    tilesBeside: tilesOf({ rows: tile, slots: 2 }, beside),
  };
}

/** What threads with elements of one row compute together. */
export function overRow(b: SimtBuilder, own: Reg, combine: "max" | "add"): Reg {
  return ROW_THREADS.reduce<Reg>((all, by) => {
    const value = b.let(all);
    return b.let(fn(combine, value, b.let(exchange(value, by))));
  }, own);
}

/** The larger of two numbers; where one is NaN, either. */
const larger = (a: Reg, b: Reg): Reg => select(fn("gt", a, b), a, b);

export function attentionBytes({ depth }: AttentionShape, { rows, subgroups, tile }: AttentionSchedule): number {
  return 2 * lineOf(depth) * (rows * subgroups + 4 * tile) + 512;
}

/** Buffers: queries, keys, values, with masks those that there are, with dropout bits of what is kept, results, and where they are kept of each query the logarithm of its sum of powers. */
export function attentionKernel(
  name: string,
  shape: AttentionShape,
  views: Readonly<Record<"q" | "k" | "v" | "out", HeadView>>,
  schedule: AttentionSchedule,
  target: SimtTarget,
): SimtKernel {
  const { batch, heads, queries, keys, depth, isCausal, dtype } = shape;
  const { rows, tile } = schedule;
  const b = new SimtBuilder(name, target);
  const [q, k, v] = (["q", "k", "v"] as const).map((of) => b.buffer(of, views[of].dtype, views[of].elements, "read"));
  const masked = shape.masks ? new MaskedScores(b, shape, shape.masks) : null;
  const kept = shape.dropping ? new KeptBits(b, shape) : null;
  const out = b.buffer("out", views.out.dtype, views.out.elements, "write");
  const logs = shape.masks && !shape.masks.keepsLogs ? null : b.buffer("logs", "f32", batch * heads * queries, "write");
  const { block, threads, place, firstRow, own, tilesOfBlock, tilesBeside } = blockTiles(b, shape, schedule, queries, isCausal);
  const [ofQueries] = tilesOfBlock([[q, views.q]], queries);
  const [ofKeys, ofValues] = tilesBeside(
    [
      [k, views.k],
      [v, views.v],
    ],
    keys,
  );
  const copy = (at: Reg): void => {
    const slot = b.let(fn("rem", at, 2));
    const from = b.let(fn("mul", at, tile));
    for (const tiles of [ofKeys, ofValues]) tiles.copy(slot, from);
  };
  ofQueries.copy(int(0), firstRow);
  copy(int(0));
  b.commitCopies();
  b.copiesDone();
  b.barrier();
  const down = rows / FRAGMENT;
  const query = rowFragments(b, ofQueries, dtype, own, down, depth);
  const results = sums(b, down, acrossOf(depth));
  const softmax = new OnlineSoftmax(b, shape.scale, down, masked !== null);
  const ownRow = b.let(sum(firstRow, own));
  masked?.begin(place.at, ownRow, down);
  kept?.begin(place.line, ownRow);

  const before = beforeOf(shape);
  const seenBy = (row: Reg): Reg => (isCausal ? fn("min", sum(row, before + 1), keys) : int(keys));
  const whole = b.let(fn("div", seenBy(firstRow), tile));
  const all = b.let(fn("div", sum(seenBy(sum(firstRow, block - 1)), tile - 1), tile));
  const step = (at: Reg, isMasked: boolean): void => {
    const next = b.let(sum(at, 1));
    b.when(fn("lt", next, all), () => copy(next));
    b.commitCopies();
    const slot = b.let(fn("rem", at, 2));
    const scores = scoresOf(b, dtype, query, ofKeys, slot, int(0), tile);
    const isSeen = isMasked ? seenIn(b, shape, sum(firstRow, own), b.let(fn("mul", at, tile))) : null;
    const column = b.let(fn("mul", at, tile));
    const [changed, dropped] = [masked?.at(column) ?? null, kept?.at(column) ?? null];
    const weights = softmax.weightsOf(scores, results, isSeen, changed, dropped, dtype);
    addRows(b, dtype, results, weights, ofValues, slot, int(0));
    b.copiesDone();
    b.barrier();
  };
  b.loop(0, whole, 1, (at) => step(at, false));
  b.loop(whole, all, 1, (at) => step(at, true));

  const first = b.let(firstOf(views.out, place.at));
  for (const [i, line] of results.entries()) {
    const { inverse, log } = softmax.finish(i, growthOf(shape));
    storeRows(
      b,
      line,
      sum(firstRow, own, i * FRAGMENT),
      { rows: queries, columns: depth },
      (row, column, values) =>
        b.storeVector({ k: "buffer", number: out }, b.let(sum(first, fn("mul", row, views.out.place), column)), values),
      (x, r) => fn("mul", x, inverse[r]),
    );
    for (const r of logs === null ? [] : ([0, 1] as const)) {
      const row = b.let(sum(firstRow, own, i * FRAGMENT + 8 * r, fn("div", fn("rem", thread(), SUBGROUP), 4)));
      const isOwn = fn("and", fn("eq", fn("rem", thread(), 4), 0), fn("lt", row, queries));
      b.when(isOwn, () => b.store(logs!, sum(fn("mul", place.line, queries), row), log[r]));
    }
  }
  return b.build([threads, 1, 1], place.grid);
}

/** What weights that are kept are multiplied by. */
export const growthOf = ({ dropping }: AttentionShape): number => (dropping ? 1 / (1 - dropping.probability) : 1);

/** left · rightᵀ, of `width` places of a tile from `from` on. */
export function scoresOf(
  b: SimtBuilder,
  dtype: "f16" | "bf16",
  left: readonly (readonly Fragment[])[],
  right: HeadTiles,
  slot: Reg,
  from: Reg,
  width: number,
): Fragment[][] {
  const scores = sums(b, left.length, width / FRAGMENT);
  for (let k = 0; k < left[0].length; k++)
    for (let j = 0; j < width / FRAGMENT; j++) {
      const other = b.fragment("b", dtype);
      right.across(other, slot, sum(from, j * FRAGMENT), k * FRAGMENT);
      for (const [i, line] of left.entries()) b.multiply(scores[i][j], line[k], other);
    }
  return scores;
}

/** results += left · (places of a tile from `from` on). */
export function addRows(
  b: SimtBuilder,
  dtype: "f16" | "bf16",
  results: readonly (readonly Fragment[])[],
  left: readonly (readonly Fragment[])[],
  right: HeadTiles,
  slot: Reg,
  from: Reg,
): void {
  for (let j = 0; j < left[0].length; j++)
    for (let c = 0; c < results[0].length; c++) {
      const other = b.fragment("b", dtype);
      right.along(other, slot, sum(from, j * FRAGMENT), c * FRAGMENT);
      for (const [i, line] of results.entries()) b.multiply(line[c], left[i][j], other);
    }
}

/** Element by fragment and number: whether its query sees its key. Rows are queries from `row` on, columns keys from `column` on. */
export function seenIn(b: SimtBuilder, shape: AttentionShape, row: Reg, column: Reg): (i: number, j: number, e: number) => Reg {
  const { keys, isCausal } = shape;
  const last = [0, 1].map((r) =>
    b.let(isCausal ? fn("min", sum(row, fragmentPlace(2 * r).row, beforeOf(shape)), keys - 1) : int(keys - 1)),
  );
  const key = b.let(sum(column, fragmentPlace(0).column));
  return (i, j, e) => {
    const limit = isCausal ? fn("min", sum(last[rowOf(e)], i * FRAGMENT), keys - 1) : last[0];
    return fn("le", sum(key, j * FRAGMENT + (e & 1) + (e & 4 ? 8 : 0)), limit);
  };
}

/** Pairs of elements of rows that are there, and of columns, a multiple of 8. */
export function storeRows(
  b: SimtBuilder,
  line: readonly Fragment[],
  row: Reg,
  size: { readonly rows: number; readonly columns: number },
  store: (row: Reg, column: Reg, values: readonly Reg[]) => void,
  scaled: (x: Reg, row: 0 | 1) => Reg,
): void {
  const values = line.map((f) => b.readFragment(f));
  for (const r of [0, 1] as const) {
    const own = b.let(sum(row, fragmentPlace(2 * r).row));
    b.when(fn("lt", own, size.rows), () => {
      for (const [c, elements] of values.entries())
        for (const half of c * FRAGMENT + 8 < size.columns ? [0, 4] : [0]) {
          const e = half + 2 * r;
          const column = sum(fragmentPlace(e).column, c * FRAGMENT);
          store(own, column, [scaled(elements[e], r), scaled(elements[e + 1], r)]);
        }
    });
  }
}

/** Largest scores so far, and sums of powers of the rows that a thread has elements of; two a fragment. */
class OnlineSoftmax {
  private readonly most: readonly (readonly Variable[])[];
  private readonly sums: readonly (readonly Variable[])[];
  /** Scores to exponents of 2. */
  private readonly factor: number;

  constructor(
    private readonly b: SimtBuilder,
    private readonly scale: number,
    down: number,
    /** Scores are scaled, and rows may not have seen anything yet. */
    private readonly isMasked: boolean,
  ) {
    this.factor = scale * LOG2_E;
    const each = (value: number) => Array.from({ length: down }, () => [0, 1].map(() => b.variable("f32", float(value))));
    this.most = each(Number.NEGATIVE_INFINITY);
    this.sums = each(0);
  }

  /** Powers of the scores as fragments a; what was summed before is scaled as the largest scores grow. */
  weightsOf(
    scores: readonly (readonly Fragment[])[],
    results: readonly (readonly Fragment[])[],
    isSeen: ReturnType<typeof seenIn> | null,
    changed: ScoreChange | null,
    dropped: ReturnType<KeptBits["at"]> | null,
    dtype: "f16" | "bf16",
  ): Fragment[][] {
    const { b } = this;
    return scores.map((line, i) => {
      const all = line.map((s, j) =>
        b.readFragment(s).map((own, e) => {
          const x = changed ? changed.score(i, j, e, own) : own;
          return isSeen ? b.let(select(isSeen(i, j, e), x, float(Number.NEGATIVE_INFINITY))) : x;
        }),
      );
      const growth = ([0, 1] as const).map((r) =>
        this.grow(
          i,
          r,
          all.flatMap((x) => x.filter((_, e) => rowOf(e) === r)),
        ),
      );
      for (const f of results[i])
        b.writeFragment(
          f,
          b.readFragment(f).map((x, e) => fn("mul", x, growth[rowOf(e)].correction)),
        );
      return all.map((elements, j) => {
        const powers = elements.map((x, e) => b.let(this.power(x, growth[rowOf(e)].shift)));
        for (const r of [0, 1] as const)
          b.set(
            this.sums[i][r],
            powers.filter((_, e) => rowOf(e) === r).reduce<Reg>((s, p) => fn("add", s, p), this.sums[i][r]),
          );
        const weights = b.fragment("a", dtype);
        b.writeFragment(weights, dropped ? powers.map((x, e) => dropped(i, j, e, x)) : powers);
        return weights;
      });
    });
  }

  private power(x: Reg, shift: Reg): Reg {
    return fn("exp2", this.isMasked ? fn("mul", fn("sub", x, shift), LOG2_E) : fn("fma", x, this.factor, shift));
  }

  private grow(i: number, r: 0 | 1, scores: readonly Reg[]): { readonly shift: Reg; readonly correction: Reg } {
    const { b } = this;
    const most = this.most[i][r];
    const now = overRow(
      b,
      scores.reduce<Reg>((a, x) => b.let(larger(x, a)), most),
      "max",
    );
    const shift = b.let(this.isMasked ? fn("max", now, LEAST) : fn("mul", now, -this.factor));
    const correction = b.let(this.power(most, shift));
    b.set(most, now);
    b.set(this.sums[i][r], fn("mul", this.sums[i][r], correction));
    return { shift, correction };
  }

  /** Of fragment row i: what results are multiplied by, and the logarithms of the sums of powers. */
  finish(i: number, growth: number): { readonly inverse: readonly Reg[]; readonly log: readonly Reg[] } {
    const { b } = this;
    const totals = [0, 1].map((r) => overRow(b, this.sums[i][r], "add"));
    return {
      inverse: totals.map((t) => b.let(fn("div", float(growth), t))),
      log: totals.map((t, r) => b.let(fn("fma", this.most[i][r], this.isMasked ? 1 : this.scale, fn("log", t)))),
    };
  }
}
