// Attention on plain cores: tiles of keys and values pass through shared memory, scores stay in registers, where their softmax is corrected tile by tile (Milakov and Gimelshein 2018).
import { exchange, float, fn, int, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, select, sum, thread } from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_group.ts";
import type { AttentionSizes } from "../attention_shape.ts";
import { firstOf, type Head, type HeadView } from "./head_tiles.ts";
import { cappedScore, LEAST, type MaskView, maskPlace } from "./masked_scores.ts";
import { PlaceTiles } from "./place_tiles.ts";

export interface OnlineShape extends AttentionSizes {
  /** Query i sees keys 0 to i + before. */
  readonly before: number | null;
  /** Which scores stay as they are, and what the others become. */
  readonly seen: MaskView | null;
  readonly hidden: number;
  /** What is added then. */
  readonly bias: MaskView | null;
}

/**
 * A workgroup has `rows` queries, those of a group's heads side by side, and meets keys in tiles. Threads have `own` of the rows, and every `across`-th key and column.
 * Keys may be cut into `parts`, which a second kernel joins.
 */
export interface OnlineSchedule {
  readonly rows: number;
  readonly own: 1 | 2 | 4 | 8;
  readonly tile: number;
  readonly across: number;
  readonly parts: number;
}

export interface OnlineViews {
  readonly q: HeadView;
  readonly k: HeadView;
  readonly v: HeadView;
  readonly out: HeadView;
}

type Variable = ReturnType<SimtBuilder["variable"]>;
type Row = ReturnType<OnlineAttention["rowsOf"]>[number];

/** Rows of 4 floats more lie in other banks. */
const PAD = 4;
export const threadsOf = ({ rows, own, across }: OnlineSchedule): number => (rows / own) * across;

/** Neighbouring columns of values that a thread has, and how many such blocks. */
export function columnsOf(width: number, across: number): { readonly lanes: 1 | 2 | 4; readonly blocks: number } {
  const lanes = width <= across ? 1 : width <= 2 * across ? 2 : 4;
  return { lanes, blocks: Math.ceil(width / (across * lanes)) };
}
const depthOf = (depth: number): number => Math.ceil(depth / 4) * 4;
const powersOf = ({ rows }: OnlineSchedule): number => rows + (rows >= 16 ? PAD : 0);

/** Threads with the same rows that exchange values without shared memory. */
const togetherOf = ({ across }: OnlineSchedule, { subgroup }: SimtTarget): number => Math.max(1, Math.min(across, subgroup));

/** Elements of shared memory. */
function sizesOf({ depth, width }: OnlineShape, schedule: OnlineSchedule, target: SimtTarget) {
  const { rows, tile, across } = schedule;
  const others = across / togetherOf(schedule, target);
  const { lanes, blocks } = columnsOf(width, across);
  const line = depthOf(depth) + PAD;
  const columns = across * lanes * blocks;
  return {
    line,
    columns,
    q: rows * line,
    k: tile * line,
    v: tile * columns,
    powers: tile * powersOf(schedule),
    partials: others > 1 ? rows * others : 0,
  };
}

/** Whether the target's workgroups have the threads and the shared memory. */
export function fitsOnline(shape: OnlineShape, schedule: OnlineSchedule, target: SimtTarget): boolean {
  const { q, k, v, powers, partials } = sizesOf(shape, schedule, target);
  return threadsOf(schedule) <= target.maxThreads && 4 * (q + k + v + powers + partials) + 512 <= target.sharedBytes;
}

/** Queries of all heads, by which parts are kept. */
export const linesOf = ({ batch, heads, group, queries }: OnlineShape): number => batch * heads * group * queries;

/**
 * Buffers: queries, keys, values, which scores stay and what is added where there are such, results. With parts: results of each part by lines, and logarithms of their sums of powers, both
 * float32.
 */
export function onlineKernel(
  name: string,
  shape: OnlineShape,
  views: OnlineViews,
  schedule: OnlineSchedule,
  target: SimtTarget,
): SimtKernel {
  return new OnlineAttention(new SimtBuilder(name, target), shape, views, schedule).kernel();
}

class OnlineAttention {
  private readonly buffers: Readonly<Record<"q" | "k" | "v" | "out", number>>;
  private readonly masks: Readonly<Record<"seen" | "bias", number | null>>;
  private readonly logs: number | null;
  /** Place of the thread: among those with the same rows, and its first row in the workgroup. */
  private readonly tx: Reg;
  private readonly ty: Reg;
  private readonly columns: ReturnType<typeof columnsOf>;
  private readonly sizes: ReturnType<typeof sizesOf>;

  constructor(
    private readonly b: SimtBuilder,
    private readonly shape: OnlineShape,
    private readonly views: OnlineViews,
    private readonly schedule: OnlineSchedule,
  ) {
    const [q, k, v] = (["q", "k", "v"] as const).map((of) => b.buffer(of, views[of].dtype, views[of].elements, "read"));
    const mask = (of: "seen" | "bias"): number | null => shape[of] && b.buffer(of, shape[of].dtype, shape[of].elements, "read");
    this.masks = { seen: mask("seen"), bias: mask("bias") };
    const isWhole = schedule.parts === 1;
    const lines = linesOf(shape) * schedule.parts;
    const out = isWhole ? b.buffer("out", views.out.dtype, views.out.elements, "write") : b.buffer("parts", "f32", lines * shape.width, "write"); // biome-ignore format: short
    this.logs = isWhole ? null : b.buffer("logs", "f32", lines, "write");
    this.buffers = { q, k, v, out };
    this.columns = columnsOf(shape.width, schedule.across);
    this.sizes = sizesOf(shape, schedule, b.target);
    this.tx = b.let(fn("rem", thread(), schedule.across));
    this.ty = b.let(fn("mul", fn("div", thread(), schedule.across), schedule.own));
  }

  kernel(): SimtKernel {
    const { b, shape, schedule, views, buffers, sizes } = this;
    const { rows, tile, parts, own } = schedule;
    const { batch, heads, keys } = shape;
    const total = shape.queries * shape.group;
    const blocks = Math.ceil(total / rows);
    const grid = gridOf(blocks * batch * heads * parts, b.target);
    const number = b.let(fn("min", linearGroup(grid), blocks * batch * heads * parts - 1));
    const part = b.let(fn("rem", number, parts));
    const line = b.let(fn("rem", fn("div", number, parts), batch * heads));
    const block = fn("div", number, parts * batch * heads);
    const firstRow = b.let(fn("mul", shape.before === null ? block : fn("sub", int(blocks - 1), block), rows)); // the longest first
    const at: Head = { batch: b.let(fn("div", line, heads)), head: b.let(fn("rem", line, heads)) };
    const threads = threadsOf(schedule);
    const tiles = (of: "q" | "k" | "v", head: Head, width: number, stride: number, count: number) =>
      new PlaceTiles(b, buffers[of], views[of], head, { rows: count, width, stride, threads });
    const ofQueries = tiles("q", { ...at, head: b.let(fn("mul", at.head, shape.group)) }, shape.depth, sizes.line, rows);
    const ofKeys = tiles("k", at, shape.depth, sizes.line, tile);
    const ofValues = tiles("v", at, shape.width, sizes.columns, tile);
    const powers = b.array("f32", sizes.powers);
    const partials = sizes.partials > 0 ? b.array("f32", sizes.partials) : null;

    // Tiles that the last row sees, of this part.
    const last = fn("min", fn("div", sum(firstRow, rows - 1), shape.group), shape.queries - 1);
    const all = b.let(shape.before === null ? int(Math.ceil(keys / tile)) : fn("div", sum(fn("max", fn("min", sum(last, shape.before + 1), keys), 1), tile - 1), tile)); // biome-ignore format: short
    const perPart = b.let(fn("div", sum(all, parts - 1), parts));
    const from = b.let(fn("mul", part, perPart));
    const to = b.let(fn("min", sum(from, perPart), all));

    ofQueries.copyGroups(firstRow, total, shape.group);
    ofKeys.copy(b.let(fn("mul", from, tile)), keys);
    b.commitCopies();
    const rowsOfThread = this.rowsOf(at, firstRow);
    const most = this.each(() => b.variable("f32", float(Number.NEGATIVE_INFINITY)));
    const sums = this.each(() => b.variable("f32", float(0)));
    const { lanes, blocks: wide } = this.columns;
    const results = this.each(() => Array.from({ length: lanes * wide }, () => b.variable("f32", float(0))));
    b.loop(from, to, 1, (step) => {
      const first = b.let(fn("mul", step, tile));
      b.copiesDone();
      b.barrier(); // keys are there, and all have read values and powers
      ofValues.copy(first, keys);
      b.commitCopies();
      const products = this.products(ofQueries.array, ofKeys.array);
      b.barrier(); // all have read the keys
      const next = b.let(sum(first, tile));
      b.when(fn("lt", sum(step, 1), to), () => ofKeys.copy(next, keys));
      b.commitCopies();
      const scores = products.map((list, i) => list.map((x, j) => this.score(x, rowsOfThread[i], b.let(sum(first, this.tx, j * schedule.across))))); // biome-ignore format: one idea
      const tops = this.overRows(scores.map((list) => list.reduce((a, x) => b.let(larger(a, x)))), larger, partials); // biome-ignore format: short
      for (let i = 0; i < own; i++) {
        const now = b.let(larger(tops[i], most[i]));
        const shift = b.let(fn("max", now, LEAST));
        const correction = b.let(power(most[i], shift));
        b.set(most[i], now);
        scores[i] = scores[i].map((x) => b.let(power(x, shift)));
        b.set(sums[i], scores[i].reduce((s, p) => fn("add", s, p), fn("mul", sums[i], correction))); // biome-ignore format: short
        for (const r of results[i]) b.set(r, fn("mul", r, correction));
      }
      this.storePowers(powers, scores);
      b.copiesDone(1);
      b.barrier(); // values and powers are there
      this.addValues(results, powers, ofValues.array);
    });
    b.copiesDone();
    b.barrier(); // of the last tile's maxima all are read
    const totals = this.overRows(sums.map((s) => b.let(s)), (a, x) => fn("add", a, x), partials); // biome-ignore format: short
    for (let i = 0; i < own; i++) this.storeRow(rowsOfThread[i], at, part, results[i], totals[i], most[i]);
    return b.build([threads, 1, 1], grid);
  }

  private each<T>(of: (i: number) => T): T[] {
    return Array.from({ length: this.schedule.own }, (_, i) => of(i));
  }

  /** The thread's rows: whether they are there, their queries and heads of the group. */
  private rowsOf(at: Head, firstRow: Reg) {
    const { b, shape } = this;
    const total = shape.queries * shape.group;
    return this.each((i) => {
      const row = b.let(sum(firstRow, this.ty, i));
      const near = b.let(fn("min", row, total - 1));
      const query = b.let(fn("div", near, shape.group));
      const member = b.let(fn("rem", near, shape.group));
      const head = b.let(sum(fn("mul", at.head, shape.group), member));
      const maskAt = (of: MaskView | null) => of && b.let(maskPlace(of, { ...at, head }, query));
      return { isThere: fn("lt", row, total), query, head, seen: maskAt(shape.seen), bias: maskAt(shape.bias) };
    });
  }

  /** Rows times keys, of the whole depth. */
  private products(q: number, k: number): Variable[][] {
    const { b, schedule, sizes } = this;
    const keys = schedule.tile / schedule.across;
    const out = this.each(() => Array.from({ length: keys }, () => b.variable("f32", float(0))));
    const row = b.let(fn("mul", this.ty, sizes.line));
    const key = b.let(fn("mul", this.tx, sizes.line));
    b.loop(0, depthOf(this.shape.depth), 4, (d) => {
      const right = Array.from({ length: keys }, (_, j) =>
        b.loadVector({ k: "shared", number: k }, sum(key, d, j * schedule.across * sizes.line), 4),
      );
      for (const [i, line] of out.entries()) {
        const left = b.loadVector({ k: "shared", number: q }, sum(row, d, i * sizes.line), 4);
        for (const [j, s] of line.entries()) b.set(s, left.reduce<Reg>((x, l, e) => fn("fma", l, right[j][e], x), s)); // biome-ignore format: short
      }
    });
    return out;
  }

  /** A product as the score that its query gives its key; −∞ where it does not see it. */
  private score(x: Reg, row: Row, key: Reg): Reg {
    const { b, shape, masks } = this;
    const { cap, scale, before, keys, seen, bias } = shape;
    let score = cappedScore(x, scale, cap);
    const near = seen || bias ? b.let(fn("min", key, keys - 1)) : key;
    const element = (of: MaskView, first: Reg) => b.let(sum(first, fn("mul", near, of.key)));
    if (seen) score = select(b.load(masks.seen!, element(seen, row.seen!)), score, float(shape.hidden)); // there as the mask is
    if (bias) score = fn("add", score, b.load(masks.bias!, element(bias, row.bias!)));
    const isInside = keys % this.schedule.tile === 0 ? null : fn("lt", key, keys);
    const isBefore = before === null ? null : fn("le", key, sum(row.query, before));
    const isSeen = isInside && isBefore ? fn("and", isInside, isBefore) : (isInside ?? isBefore);
    return b.let(isSeen ? select(isSeen, score, float(Number.NEGATIVE_INFINITY)) : score);
  }

  /** What the threads of each row have together: in a subgroup by exchange, among several through shared memory. */
  private overRows(own: readonly Reg[], combine: (a: Reg, x: Reg) => Reg, partials: number | null): Reg[] {
    const { b } = this;
    const { across } = this.schedule;
    const together = togetherOf(this.schedule, b.target);
    const values = own.map((value) => {
      let all = b.let(value);
      for (let by = 1; by < together; by *= 2) all = b.let(combine(all, b.let(exchange(all, by))));
      return all;
    });
    const others = across / together;
    if (partials === null) return values;
    const place = (i: number) => fn("mul", sum(this.ty, i), others);
    b.when(fn("eq", fn("rem", this.tx, together), 0), () => {
      for (const [i, v] of values.entries()) b.storeShared(partials, sum(place(i), fn("div", this.tx, together)), v);
    });
    b.barrier();
    return values.map((_, i) => {
      const parts = Array.from({ length: others }, (_, n) => b.let(b.loadShared(partials, sum(place(i), n))));
      return parts.reduce((a, x) => b.let(combine(a, x)));
    });
  }

  /** By keys, then rows. */
  private storePowers(powers: number, values: readonly (readonly Reg[])[]): void {
    const { b, schedule } = this;
    const stride = powersOf(schedule);
    const run = Math.min(4, schedule.own);
    for (let j = 0; j < values[0].length; j++) {
      const at = b.let(sum(fn("mul", sum(this.tx, j * schedule.across), stride), this.ty));
      for (let i = 0; i < schedule.own; i += run) {
        const list = values.slice(i, i + run).map((line) => line[j]);
        if (run === 1) b.storeShared(powers, at, list[0]);
        else b.storeVector({ k: "shared", number: powers }, sum(at, i), list);
      }
    }
  }

  /** results += powers · values. */
  private addValues(results: readonly (readonly Variable[])[], powers: number, v: number): void {
    const { b, schedule, sizes } = this;
    const { lanes, blocks } = this.columns;
    const stride = powersOf(schedule);
    const column = b.let(fn("mul", this.tx, lanes));
    b.loop(0, schedule.tile, 1, (key) => {
      const left = this.vectors(powers, b.let(sum(fn("mul", key, stride), this.ty)), schedule.own, 1, 0);
      const right = this.vectors(v, b.let(sum(fn("mul", key, sizes.columns), column)), lanes, blocks, schedule.across * lanes);
      for (const [i, line] of results.entries()) for (const [c, r] of line.entries()) b.set(r, fn("fma", left[i], right[c], r));
    });
  }

  /** `blocks` of `run` neighbours, so far apart. */
  private vectors(array: number, at: Reg, run: number, blocks: number, apart: number): readonly Reg[] {
    const { b } = this;
    const one = (from: Reg): readonly Reg[] => {
      if (run === 1) return [b.let(b.loadShared(array, from))];
      return run === 8 ? [0, 4].flatMap((e) => b.loadVector({ k: "shared", number: array }, sum(from, e), 4)) : b.loadVector({ k: "shared", number: array }, from, run as 2 | 4); // biome-ignore format: short
    };
    return Array.from({ length: blocks }, (_, n) => one(sum(at, n * apart))).flat();
  }

  private storeRow(row: Row, at: Head, part: Reg, results: readonly Reg[], total: Reg, most: Reg): void {
    const { b, shape, views, buffers, logs } = this;
    const { lanes, blocks } = this.columns;
    const { width, heads, group, queries } = shape;
    const line = sum(fn("mul", sum(fn("mul", at.batch, heads * group), row.head), queries), row.query);
    const isPart = logs !== null;
    const first = b.let(isPart ? fn("mul", sum(fn("mul", part, linesOf(shape)), line), width) : sum(firstOf(views.out, { ...at, head: row.head }), fn("mul", row.query, views.out.place))); // biome-ignore format: short
    // A part without any key counts nothing; a row without any is NaN, as a softmax of −∞ is.
    const inverse = b.let(isPart ? select(fn("gt", total, 0), fn("div", float(1), total), float(0)) : fn("div", float(1), total));
    const isAligned =
      width % lanes === 0 && (isPart || [views.out.place, views.out.head, views.out.batch, views.out.from].every((s) => s % lanes === 0));
    b.when(row.isThere, () => {
      for (let n = 0; n < blocks; n++) {
        const column = b.let(sum(fn("mul", this.tx, lanes), n * this.schedule.across * lanes));
        const values = results.slice(n * lanes, (n + 1) * lanes).map((r) => fn("mul", r, inverse));
        const store = () => b.storeVector({ k: "buffer", number: buffers.out }, b.let(sum(first, column)), values);
        const isWhole = width === this.sizes.columns;
        if (isAligned && lanes > 1) {
          if (isWhole) store();
          else b.when(fn("lt", column, width), store);
        } else for (const [e, v] of values.entries()) b.when(fn("lt", sum(column, e), width), () => b.store(buffers.out, sum(first, column, e), v)); // biome-ignore format: short
      }
      if (isPart)
        b.when(fn("eq", this.tx, 0), () => b.store(logs, sum(fn("mul", part, linesOf(shape)), line), fn("add", most, fn("log", total))));
    });
  }
}

/** The larger of two numbers; where one is NaN, either. */
const larger = (a: Reg, b: Reg): Reg => select(fn("gt", a, b), a, b);
/** e to the power of x − shift. */
const power = (x: Reg, shift: Reg): Reg => fn("exp2", fn("mul", fn("sub", x, shift), Math.LOG2E));

/** Threads of the kernel that joins parts. */
const THREADS = 128;

/** Buffers: results of all parts, logarithms of their sums of powers, results. */
export function joinedKernel(name: string, shape: OnlineShape, out: HeadView, parts: number, target: SimtTarget): SimtKernel {
  const { heads, group, queries, width } = shape;
  const b = new SimtBuilder(name, target);
  const lines = linesOf(shape);
  const [results, logs] = [b.buffer("parts", "f32", parts * lines * width, "read"), b.buffer("logs", "f32", parts * lines, "read")];
  const to = b.buffer("out", out.dtype, out.elements, "write");
  const grid = gridOf(Math.ceil((lines * width) / THREADS), target);
  const at = b.let(sum(fn("mul", linearGroup(grid), THREADS), thread()));
  b.when(fn("lt", at, lines * width), () => {
    const [line, column] = [b.let(fn("div", at, width)), b.let(fn("rem", at, width))];
    const [total, value] = [b.variable("f32", float(0)), b.variable("f32", float(0))];
    const most = b.variable("f32", float(LEAST));
    b.loop(0, parts, 1, (part) => b.set(most, larger(b.let(b.load(logs, sum(fn("mul", part, lines), line))), most)));
    b.loop(0, parts, 1, (part) => {
      const weight = b.let(power(b.load(logs, sum(fn("mul", part, lines), line)), most));
      b.set(total, fn("add", total, weight));
      b.set(value, fn("fma", weight, b.load(results, sum(fn("mul", sum(fn("mul", part, lines), line), width), column)), value));
    });
    const [head, query] = [b.let(fn("div", line, queries)), b.let(fn("rem", line, queries))];
    const all = heads * group;
    const place = sum(firstOf(out, { batch: fn("div", head, all), head: fn("rem", head, all) }), fn("mul", query, out.place), column);
    b.store(to, place, fn("div", value, total));
  });
  return b.build([THREADS, 1, 1], grid);
}
