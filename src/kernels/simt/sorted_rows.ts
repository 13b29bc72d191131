// Rows added up at the places that data names, where there are about as many places as rows of the result: places are sorted by rank, then each element adds up its own in their order.
import { float, fn, int, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, select, sum, thread } from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_group.ts";
import { convertRegister } from "../../lower/simt_scalar.ts";
import type { ScatterRowsShape } from "./scatter_rows.ts";

const THREADS = 256;
/** Places of a workgroup that are ranked together; its threads share what each is compared with. */
const RANKED = 32;
const SHARES = THREADS / RANKED;
/** Neighbouring columns of a thread. */
const COLUMNS = 4;

/** Ranks take as many comparisons as the square of the places; without them it is places by rows. */
export const fitsSortedRows = ({ count, size, width }: ScatterRowsShape, { maxThreads }: SimtTarget): boolean =>
  count <= size && width % COLUMNS === 0 && THREADS <= maxThreads;

/** The row that a place names: from the end where it is negative, and limited. */
const rowOf = (place: Reg, size: number): Reg =>
  fn("min", fn("max", select(fn("lt", place, 0), fn("add", place, size), place), 0), size - 1);

/** Each element's number in a grid of threads that covers `count`. */
function everyElement(b: SimtBuilder, count: number, build: (at: Reg) => void): SimtKernel {
  const grid = gridOf(Math.ceil(count / THREADS), b.target);
  const at = b.let(sum(fn("mul", linearGroup(grid), THREADS), thread()));
  b.when(fn("lt", at, count), () => build(at));
  return b.build([THREADS, 1, 1], grid);
}

/** Buffers: places, the rows that they name, how many each row has (none yet). */
export function namedRowsKernel(name: string, { count, size, places }: ScatterRowsShape, target: SimtTarget): SimtKernel {
  const b = new SimtBuilder(name, target);
  const given = b.buffer("places", places, count, "read");
  const rows = b.buffer("rows", "i32", count, "write");
  const counts = b.buffer("counts", "i32", size, "write");
  return everyElement(b, Math.max(count, size), (at) => {
    b.when(fn("lt", at, count), () => b.store(rows, at, rowOf(b.let(b.load(given, at)), size)));
    b.when(fn("lt", at, size), () => b.store(counts, at, int(0)));
  });
}

/** Buffers: the rows that places name, the places sorted by row and then by number, where each row's begin, how many there are. */
export function rankedPlacesKernel(name: string, { count, size }: ScatterRowsShape, target: SimtTarget): SimtKernel {
  const b = new SimtBuilder(name, target);
  const rows = b.buffer("rows", "i32", count, "read");
  const sorted = b.buffer("sorted", "i32", count, "write");
  const starts = b.buffer("starts", "i32", size, "write");
  const counts = b.buffer("counts", "i32", size, "write");
  const grid = gridOf(Math.ceil(count / RANKED), target);
  const [lane, share] = [b.let(fn("rem", thread(), RANKED)), b.let(fn("div", thread(), RANKED))];
  const place = b.let(sum(fn("mul", linearGroup(grid), RANKED), lane));
  const row = b.let(b.load(rows, fn("min", place, count - 1))); // threads beyond the end go through the barrier too
  /** Places of smaller rows, of this row before this one, and of this row. */
  const [smaller, before, equal] = [0, 0, 0].map(() => b.variable("i32", int(0)));
  const more = (v: typeof smaller): void => b.set(v, fn("add", v, 1));
  const part = Math.ceil(count / SHARES);
  const from = b.let(fn("mul", share, part));
  b.loop(from, fn("min", sum(from, part), count), 1, (other) => {
    const its = b.let(b.load(rows, other));
    b.set(smaller, sum(smaller, select(fn("lt", its, row), int(1), int(0))));
    b.when(fn("eq", its, row), () => {
      more(equal);
      b.when(fn("lt", other, place), () => more(before));
    });
  });
  const arrays = [smaller, before, equal].map((v) => {
    const array = b.array("i32", THREADS);
    b.storeShared(array, thread(), v);
    return array;
  });
  b.barrier();
  b.when(fn("and", fn("eq", share, 0), fn("lt", place, count)), () => {
    const [less, earlier, all] = arrays.map((array) =>
      b.let(Array.from({ length: SHARES }, (_, i) => b.loadShared(array, sum(lane, i * RANKED))).reduce((a, v) => fn("add", a, v))),
    );
    b.store(sorted, b.let(sum(less, earlier)), place);
    b.when(fn("eq", earlier, 0), () => {
      b.store(starts, row, less);
      b.store(counts, row, all);
    });
  });
  return b.build([THREADS, 1, 1], grid);
}

/** Buffers: what is added, places sorted by row, where each row's begin (where it has any), how many there are, the result. */
export function sortedRowsKernel(name: string, { count, size, width, dtype }: ScatterRowsShape, target: SimtTarget): SimtKernel {
  const b = new SimtBuilder(name, target);
  const added = b.buffer("added", dtype, count * width, "read");
  const sorted = b.buffer("sorted", "i32", count, "read");
  const starts = b.buffer("starts", "i32", size, "read");
  const counts = b.buffer("counts", "i32", size, "read");
  const out = b.buffer("out", dtype, size * width, "write");
  const vectors = width / COLUMNS;
  return everyElement(b, size * vectors, (at) => {
    const row = b.let(fn("div", at, vectors));
    const column = b.let(fn("mul", fn("rem", at, vectors), COLUMNS));
    const sums = Array.from({ length: COLUMNS }, () => b.variable("f32", float(0)));
    const own = b.let(b.load(counts, row));
    b.when(fn("gt", own, 0), () => {
      const start = b.let(b.load(starts, row));
      b.loop(0, own, 1, (i) => {
        const place = b.let(b.load(sorted, sum(start, i)));
        const values = b.loadVector({ k: "buffer", number: added }, b.let(sum(fn("mul", place, width), column)), COLUMNS);
        for (const [c, s] of sums.entries()) b.set(s, fn("add", s, values[c]));
      });
    });
    const rounded = dtype === "f32" ? sums : sums.map((s) => convertRegister(dtype, "f32", s));
    b.storeVector({ k: "buffer", number: out }, b.let(sum(fn("mul", row, width), column)), rounded);
  });
}
