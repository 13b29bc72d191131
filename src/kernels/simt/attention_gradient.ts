// Gradients of attention on matrix units: weights are made again from scores and their sums; a kernel by queries, then one by keys, so that every sum has one owner and one order.
import {
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
import {
  type AttentionSchedule,
  type AttentionShape,
  addRows,
  beforeOf,
  blockTiles,
  growthOf,
  LOG2_E,
  scoresOf,
  seenIn,
  storeRows,
} from "./attention.ts";
import { acrossOf, firstOf, type Head, type HeadView, lineOf, rowFragments, rowOf, sums } from "./head_tiles.ts";
import { KeptBits } from "./kept_bits.ts";
import { MaskedScores } from "./masked_scores.ts";

type GradientViews = Readonly<Record<"q" | "k" | "v" | "y" | "dy", HeadView>>;

/** Bytes of shared memory of either kernel, at most. */
export const gradientBytes = ({ depth }: AttentionShape, { rows, subgroups, tile }: AttentionSchedule): number =>
  2 * lineOf(depth) * (2 * rows * subgroups + 4 * tile) + 4 * rows * subgroups + 16 * tile + 512;

/** Elements that threads read at once. */
const RUN = 8;

/** Of elements in the fragments whose columns begin at `column`: their weights, given products of queries and keys; weights, or gradients of them, where they are kept; and gradients of products where scores are seen. */
interface Weighted {
  weight(i: number, j: number, e: number, product: Reg, shift: Reg): Reg;
  kept(i: number, j: number, e: number, x: Reg): Reg;
  ofSeen(i: number, j: number, e: number, x: Reg): Reg;
}

/** Adds the buffers of what there is of masks and dropout. */
function weightsOf(b: SimtBuilder, shape: AttentionShape, isTurned: boolean) {
  const masked = shape.masks ? new MaskedScores(b, shape, shape.masks, isTurned) : null;
  const bits = shape.dropping ? new KeptBits(b, shape, isTurned) : null;
  return {
    begin(place: { readonly at: Head; readonly line: Reg }, row: Reg, down: number): void {
      masked?.begin(place.at, row, down);
      bits?.begin(place.line, row);
    },
    at(column: Reg): Weighted {
      const [changed, dropped] = [masked?.at(column), bits?.at(column)];
      return {
        weight: (i, j, e, product, shift) =>
          changed
            ? fn("exp2", fn("fma", changed.score(i, j, e, product), LOG2_E, shift))
            : fn("exp2", fn("fma", product, shape.scale * LOG2_E, shift)),
        kept: (i, j, e, x) => (dropped ? dropped(i, j, e, x) : x),
        ofSeen: (i, j, e, x) => (changed ? changed.ofSeen(i, j, e, x) : x),
      };
    },
  };
}

/**
 * Buffers: queries, keys, values, results, their gradient, logarithms of sums of powers, masks and bits that there are, the queries' gradient, and of each query the product of its result and the gradient of that.
 */
export function queryGradientKernel(
  name: string,
  shape: AttentionShape,
  views: GradientViews & { readonly dq: HeadView },
  schedule: AttentionSchedule,
  target: SimtTarget,
): SimtKernel {
  const { batch, heads, queries, keys, depth, isCausal, dtype, scale } = shape;
  const { rows, tile } = schedule;
  const b = new SimtBuilder(name, target);
  const [q, k, v, y, dy] = (["q", "k", "v", "y", "dy"] as const).map((of) => b.buffer(of, views[of].dtype, views[of].elements, "read"));
  const logs = b.buffer("logs", "f32", batch * heads * queries, "read");
  const weighted = weightsOf(b, shape, false);
  const growth = growthOf(shape);
  const out = b.buffer("dq", views.dq.dtype, views.dq.elements, "write");
  const products = b.buffer("products", "f32", batch * heads * queries, "write");
  const { block, threads, place, firstRow, own, tilesOfBlock, tilesBeside } = blockTiles(b, shape, schedule, queries, isCausal);
  const ofOwn = tilesOfBlock(
    [
      [q, views.q],
      [dy, views.dy],
    ],
    queries,
  );
  const ofOther = tilesBeside(
    [
      [k, views.k],
      [v, views.v],
    ],
    keys,
  );
  const copy = (at: Reg): void => {
    for (const tiles of ofOther) tiles.copy(b.let(fn("rem", at, 2)), b.let(fn("mul", at, tile)));
  };
  for (const tiles of ofOwn) tiles.copy(int(0), firstRow);
  copy(int(0));
  b.commitCopies();

  // The products of results and their gradients, by a thread a query.
  const shared = b.array("f32", block);
  const [ofY, ofDy] = [b.let(firstOf(views.y, place.at)), b.let(firstOf(views.dy, place.at))];
  b.loop(thread(), block, threads, (i) => {
    const row = b.let(sum(firstRow, i));
    const total = b.variable("f32", float(0));
    b.when(fn("lt", row, queries), () => {
      b.loop(0, depth, RUN, (c) => {
        const [a, d] = (
          [
            [y, views.y, ofY],
            [dy, views.dy, ofDy],
          ] as const
        ).map(([buffer, view, first]) =>
          b.loadVector({ k: "buffer", number: buffer }, b.let(sum(first, fn("mul", row, view.place), c)), RUN),
        );
        b.set(
          total,
          a.reduce<Reg>((s, x, e) => fn("fma", x, d[e], s), total),
        );
      });
      b.store(products, sum(fn("mul", place.line, queries), row), total);
    });
    b.storeShared(shared, i, total);
  });
  b.copiesDone();
  b.barrier();

  const down = rows / FRAGMENT;
  const [query, gradient] = ofOwn.map((tiles) => rowFragments(b, tiles, dtype, own, down, depth));
  const results = sums(b, down, acrossOf(depth));
  weighted.begin(place, b.let(sum(firstRow, own)), down);
  const ofRow = Array.from({ length: down }, (_, i) =>
    [0, 1].map((r) => {
      const at = b.let(sum(own, i * FRAGMENT, fragmentPlace(2 * r).row));
      const row = b.let(sum(firstRow, at));
      const isThere = fn("lt", row, queries);
      const log = b.load(logs, sum(fn("mul", place.line, queries), fn("min", row, queries - 1)));
      return { shift: b.let(select(isThere, fn("mul", log, -LOG2_E), float(0))), product: b.let(b.loadShared(shared, at)) };
    }),
  );

  const before = beforeOf(shape);
  const seenBy = (row: Reg): Reg => (isCausal ? fn("min", sum(row, before + 1), keys) : int(keys));
  const whole = b.let(fn("div", seenBy(firstRow), tile));
  const all = b.let(fn("div", sum(seenBy(sum(firstRow, block - 1)), tile - 1), tile));
  const step = (at: Reg, isMasked: boolean): void => {
    const next = b.let(sum(at, 1));
    b.when(fn("lt", next, all), () => copy(next));
    b.commitCopies();
    const slot = b.let(fn("rem", at, 2));
    b.loop(0, tile, FRAGMENT, (from) => {
      const isSeen = isMasked ? seenIn(b, shape, sum(firstRow, own), b.let(sum(fn("mul", at, tile), from))) : null;
      const scores = scoresOf(b, dtype, query, ofOther[0], slot, from, FRAGMENT);
      const weights = scoresOf(b, dtype, gradient, ofOther[1], slot, from, FRAGMENT);
      const found = weighted.at(b.let(sum(fn("mul", at, tile), from)));
      const of = scores.map((line, i) =>
        line.map((s, j) => {
          const d = b.readFragment(weights[i][j]);
          const elements = b.readFragment(s).map((x, e) => {
            const { shift, product } = ofRow[i][rowOf(e)];
            const weight = found.weight(i, j, e, x, shift);
            const seen = b.let(isSeen ? select(isSeen(i, j, e), weight, float(0)) : weight);
            const slope = fn("sub", grown(found.kept(i, j, e, d[e]), growth), product);
            return b.let(found.ofSeen(i, j, e, fn("mul", seen, slope)));
          });
          return leftOf(b, dtype, elements);
        }),
      );
      addRows(b, dtype, results, of, ofOther[0], slot, from);
    });
    b.copiesDone();
    b.barrier();
  };
  b.loop(0, whole, 1, (at) => step(at, false));
  b.loop(whole, all, 1, (at) => step(at, true));
  const first = b.let(firstOf(views.dq, place.at));
  for (const [i, line] of results.entries())
    storeRows(
      b,
      line,
      sum(firstRow, own, i * FRAGMENT),
      { rows: queries, columns: depth },
      (row, column, values) =>
        b.storeVector({ k: "buffer", number: out }, b.let(sum(first, fn("mul", row, views.dq.place), column)), values),
      (x) => fn("mul", x, scale),
    );
  return b.build([threads, 1, 1], place.grid);
}

const grown = (x: Reg, growth: number): Reg => (growth === 1 ? x : fn("mul", x, growth));

function leftOf(b: SimtBuilder, dtype: "f16" | "bf16", elements: readonly Reg[]): Fragment {
  const fragment = b.fragment("a", dtype);
  b.writeFragment(fragment, elements);
  return fragment;
}

/** Buffers: queries, keys, values, the results' gradient, logarithms of sums of powers, products of results and gradients, masks and bits that there are, the keys' and the values' gradients. */
export function keyGradientKernel(
  name: string,
  shape: AttentionShape,
  views: Omit<GradientViews, "y"> & Readonly<Record<"dk" | "dv", HeadView>>,
  schedule: AttentionSchedule,
  target: SimtTarget,
): SimtKernel {
  const { batch, heads, queries, keys, depth, isCausal, dtype, scale } = shape;
  const { rows, tile } = schedule;
  const b = new SimtBuilder(name, target);
  const [q, k, v, dy] = (["q", "k", "v", "dy"] as const).map((of) => b.buffer(of, views[of].dtype, views[of].elements, "read"));
  const ofLines = ["logs", "products"].map((of) => b.buffer(of, "f32", batch * heads * queries, "read"));
  const weighted = weightsOf(b, shape, true);
  const growth = growthOf(shape);
  const outs = (["dk", "dv"] as const).map((of) => b.buffer(of, views[of].dtype, views[of].elements, "write"));
  const { block, threads, place, firstRow, own, tilesOfBlock, tilesBeside } = blockTiles(b, shape, schedule, keys, false);
  const ofOwn = tilesOfBlock(
    [
      [k, views.k],
      [v, views.v],
    ],
    keys,
  );
  const ofOther = tilesBeside(
    [
      [q, views.q],
      [dy, views.dy],
    ],
    queries,
  );
  const lines = ofLines.map(() => b.array("f32", 2 * tile));
  const firstLine = b.let(fn("mul", place.line, queries));
  const copy = (at: Reg): void => {
    const [slot, from] = [b.let(fn("rem", at, 2)), b.let(fn("mul", at, tile))];
    for (const tiles of ofOther) tiles.copy(slot, from);
    b.loop(thread(), tile, threads, (i) => {
      const row = b.let(sum(from, i));
      const isInside = b.let(fn("lt", row, queries));
      for (const [n, array] of lines.entries())
        b.copy(array, sum(fn("mul", slot, tile), i), ofLines[n], sum(firstLine, select(isInside, row, int(0))), 1, isInside);
    });
  };

  // Queries that see keys of this block, and those from which on all see all of it.
  const before = beforeOf(shape);
  const all = Math.ceil(queries / tile);
  const place0 = (at: Reg): Reg => fn("min", fn("max", at, 0), queries);
  const begin = b.let(isCausal ? fn("div", place0(fn("sub", firstRow, before)), tile) : int(0));
  const whole = b.let(isCausal ? fn("min", fn("div", sum(place0(sum(firstRow, block - 1 - before)), tile - 1), tile), all) : int(0));
  for (const tiles of ofOwn) tiles.copy(int(0), firstRow);
  copy(begin);
  b.commitCopies();
  b.copiesDone();
  b.barrier();
  const down = rows / FRAGMENT;
  const [key, value] = ofOwn.map((tiles) => rowFragments(b, tiles, dtype, own, down, depth));
  const [dk, dv] = [0, 1].map(() => sums(b, down, acrossOf(depth)));
  weighted.begin(place, b.let(sum(firstRow, own)), down);
  // Of queries behind the last, whose logarithms are 0, masks may make anything.
  const isRagged = shape.masks !== undefined && queries % tile !== 0;

  const step = (at: Reg, isMasked: boolean): void => {
    const next = b.let(sum(at, 1));
    b.when(fn("lt", next, all), () => copy(next));
    b.commitCopies();
    const slot = b.let(fn("rem", at, 2));
    b.loop(0, tile, FRAGMENT, (from) => {
      const scores = scoresOf(b, dtype, key, ofOther[0], slot, from, FRAGMENT);
      const products = scoresOf(b, dtype, value, ofOther[1], slot, from, FRAGMENT);
      // Of the four columns, which are queries, that a thread has elements of.
      const ofColumns = lines.map((array) =>
        [0, 8].flatMap((c) =>
          b.loadVector({ k: "shared", number: array }, b.let(sum(fn("mul", slot, tile), from, c, fragmentPlace(0).column)), 2),
        ),
      );
      const column = (e: number): number => (e & 1) + (e & 4 ? 2 : 0);
      const shifts = ofColumns[0].map((log) => b.let(fn("mul", log, -LOG2_E)));
      const first = b.let(sum(fn("mul", at, tile), from));
      const query = b.let(sum(first, fragmentPlace(0).column));
      const of = weighted.at(first);
      const weights = scores.map((line, i) =>
        line.map((s, j) =>
          b.readFragment(s).map((x, e) => {
            const weight = of.weight(i, j, e, x, shifts[column(e)]);
            const row = sum(firstRow, own, i * FRAGMENT, fragmentPlace(e).row);
            const other = sum(query, (e & 1) + (e & 4 ? 8 : 0));
            const known = isRagged ? select(fn("lt", other, queries), weight, float(0)) : weight;
            return b.let(isMasked ? select(fn("le", row, sum(other, before)), known, float(0)) : known);
          }),
        ),
      );
      const kept = weights.map((line, i) => line.map((all, j) => all.map((x, e) => of.kept(i, j, e, x))));
      const gradients = products.map((line, i) =>
        line.map((s, j) =>
          b.readFragment(s).map((d, e) => {
            const slope = fn("sub", grown(of.kept(i, j, e, d), growth), ofColumns[1][column(e)]);
            return b.let(of.ofSeen(i, j, e, fn("mul", weights[i][j][e], slope)));
          }),
        ),
      );
      for (const [to, elements, tiles] of [
        [dv, kept, ofOther[1]],
        [dk, gradients, ofOther[0]],
      ] as const)
        addRows(
          b,
          dtype,
          to,
          elements.map((line) => line.map((e) => leftOf(b, dtype, e))),
          tiles,
          slot,
          from,
        );
    });
    b.copiesDone();
    b.barrier();
  };
  if (isCausal) b.loop(begin, whole, 1, (at) => step(at, true));
  b.loop(whole, all, 1, (at) => step(at, false));
  for (const [n, results] of [dk, dv].entries()) {
    const view = views[n === 0 ? "dk" : "dv"];
    const first = b.let(firstOf(view, place.at));
    for (const [i, line] of results.entries())
      storeRows(
        b,
        line,
        sum(firstRow, own, i * FRAGMENT),
        { rows: keys, columns: depth },
        (row, column, values) =>
          b.storeVector({ k: "buffer", number: outs[n] }, b.let(sum(first, fn("mul", row, view.place), column)), values),
        (x) => (n === 0 ? fn("mul", x, scale) : grown(x, growth)),
      );
  }
  return b.build([threads, 1, 1], place.grid);
}
