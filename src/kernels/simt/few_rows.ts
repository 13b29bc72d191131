// Products with few rows: each element of the right operand is read once, by vectors, at the speed of memory.
import { float, fn, group, int, type Reg, type SimtKernel, type SimtTarget, select, sum, thread } from "../../ir/simt.ts";
import { type Product, productCode, sizeOf } from "./product.ts";

/** More rows are for tiles. */
export const FEW_ROWS = 8;
const THREADS = 256;
/** Threads side by side on a line of depth, at most. */
const LINE = 32;

/** A workgroup has `columns` columns, in vectors of `run` where they are neighbours in memory; `slices` threads share the depth of each. */
function shares(product: Product, target: SimtTarget): { columns: number; slices: number; run: number } {
  const { right, left } = product;
  // Sums of a thread stay in registers, and all of a workgroup's fit in shared memory at last.
  const room = target.sharedBytes >= 4 * THREADS * 32 ? 32 : 16;
  const run = right.along === "depth" ? right.run : Math.min(right.run, 2 ** Math.floor(Math.log2(room / left.rows)));
  if (right.along === "depth") {
    let slices = LINE;
    while (slices > 1 && (slices / 2) * run >= right.depth) slices /= 2; // no more threads than there are vectors
    return { columns: THREADS / slices, slices, run };
  }
  const wanted = 2 * (target.units ?? 16);
  let threads = LINE;
  while (threads > 4 && right.rows / (threads * run) < wanted) threads /= 2;
  return { columns: threads * run, slices: THREADS / threads, run };
}

/** `product.splits` must be 1. */
export function fewRowsProduct(name: string, product: Product, target: SimtTarget): SimtKernel {
  const { b, buffers, tail } = productCode(name, product, target);
  const { m, n, k, batch: batches } = sizeOf(product);
  const { left, right } = product;
  const { columns, slices, run } = shares(product, target);
  const isDeep = right.along === "depth";
  const tilesAcross = Math.ceil(n / columns);
  const total = tilesAcross * batches;
  const y = Math.ceil(total / target.maxGroups);
  const grid = [Math.ceil(total / y), y, 1] as const;
  const id = y === 1 ? group(0) : b.let(fn("min", sum(fn("mul", group(1), grid[0]), group(0)), total - 1));
  const batch = b.let(fn("div", id, tilesAcross));
  const first = b.let(fn("mul", fn("rem", id, tilesAcross), columns));
  // Neighbouring threads read neighbouring memory.
  const slice = b.let(isDeep ? fn("rem", thread(), slices) : fn("div", thread(), columns / run));
  const own = b.let(isDeep ? fn("div", thread(), slices) : fn("mul", fn("rem", thread(), columns / run), run));
  const column = b.let(sum(first, own));
  const isColumn = fn("lt", column, n);
  const perThread = isDeep ? 1 : run;
  const sums = Array.from({ length: m }, () => Array.from({ length: perThread }, () => b.variable("f32", float(0))));
  const rightParts = right.rowParts(b, batch, column);
  const leftParts = Array.from({ length: m }, (_, i) => left.rowParts(b, batch, int(i)));
  const deep = isDeep ? run : 1;
  const leftRun = isDeep && left.along === "depth" ? Math.min(left.run, run) : 1;
  const loadAt = (buffer: number, at: Reg, count: number): readonly Reg[] =>
    count === 1 ? [b.let(b.load(buffer, at))] : b.loadVector({ k: "buffer", number: buffer }, at, count as 2 | 4 | 8);
  b.when(isColumn, () =>
    b.loop(fn("mul", slice, deep), k, slices * deep, (d) => {
      const { at, isInside } = right.spot(rightParts, right.depthParts(b, d));
      const inside = isInside && b.let(isInside);
      const loaded = loadAt(buffers.right, b.let(inside ? select(inside, at, int(0)) : at), run);
      const y = inside ? loaded.map((v) => b.let(select(inside, v, float(0)))) : loaded;
      for (let e = 0; e < deep; e += leftRun) {
        const depth = left.depthParts(b, sum(d, e));
        for (const [i, parts] of leftParts.entries()) {
          const spot = left.spot(parts, depth);
          const x = loadAt(buffers.left, spot.isInside ? select(spot.isInside, spot.at, int(0)) : spot.at, leftRun);
          for (const [f, v] of x.entries()) {
            const value = spot.isInside ? select(spot.isInside, v, float(0)) : v;
            for (const [j, s] of sums[i].entries()) b.set(s, fn("fma", value, y[isDeep ? e + f : j], s));
          }
        }
      }
    }),
  );
  const array = b.array("f32", slices * m * columns);
  for (const [i, line] of sums.entries())
    for (const [j, s] of line.entries()) b.storeShared(array, sum(fn("mul", slice, m * columns), sum(i * columns + j, own)), s);
  b.barrier();
  b.loop(thread(), m * columns, THREADS, (at) => {
    const all = b.variable("f32", float(0));
    b.loop(0, slices, 1, (s) => b.set(all, fn("add", all, b.loadShared(array, sum(fn("mul", s, m * columns), at)))));
    tail.store(batch, b.let(fn("div", at, columns)), b.let(sum(first, fn("rem", at, columns))), [all]);
  });
  return b.build([THREADS, 1, 1], grid);
}
