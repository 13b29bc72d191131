// Rows added up at the places that data names: a workgroup for each row of the result finds the rows that name it, in an order that is always the same.
import type { DType } from "../../ir/dtype.ts";
import { float, fn, int, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, select, sum, thread } from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_group.ts";
import { convertRegister } from "../../lower/simt_scalar.ts";

export interface ScatterRowsShape {
  /** Rows of `width` that are added, and rows of the result. */
  readonly count: number;
  readonly width: number;
  readonly size: number;
  readonly places: DType;
  readonly dtype: DType;
}

const THREADS = 256;
/** Places that a thread compares at a time, a bit for each. */
const BITS = 32;
/** Sums that a thread keeps at a time. */
const MOST_SUMS = 4;
/** Words of bits that are looked at together. */
const WORDS = 4;

/** Whether there is something to add. */
export const fitsScatterRows = ({ count, width }: ScatterRowsShape): boolean => count > 0 && width > 0;

/** Buffers: places, rows, result. */
export function scatterRowsKernel(name: string, shape: ScatterRowsShape, target: SimtTarget): SimtKernel {
  const { count, width, size, places, dtype } = shape;
  const b = new SimtBuilder(name, target);
  const named = b.buffer("places", places, count, "read");
  const rows = b.buffer("rows", dtype, count * width, "read");
  const result = b.buffer("out", dtype, size * width, "write");
  const words = b.array("i32", THREADS);
  const isAny = b.array("i32", 1);
  const grid = gridOf(size, target);
  const group = b.let(linearGroup(grid));
  const row = b.let(fn("min", group, size - 1)); // groups beyond the last go through the barriers too
  const across = Math.min(MOST_SUMS, Math.ceil(width / THREADS));

  /** Bit i of word t: whether place number `first` + i·THREADS + t is this row. */
  const compare = (first: Reg): void => {
    const word = b.variable("i32", int(0));
    b.loop(0, BITS, 1, (i) => {
      const at = b.let(sum(first, fn("mul", i, THREADS), thread()));
      b.when(fn("lt", at, count), () => {
        const place = b.let(b.load(named, at));
        const own = fn("min", fn("max", select(fn("lt", place, 0), fn("add", place, size), place), 0), size - 1);
        b.when(fn("eq", own, row), () => b.set(word, fn("or", word, fn("shl", int(1), i))));
      });
    });
    b.barrier(); // others may still read the words before
    b.when(fn("eq", thread(), 0), () => b.storeShared(isAny, int(0), int(0)));
    b.storeShared(words, thread(), word);
    b.barrier();
    b.when(fn("ne", word, 0), () => b.storeShared(isAny, int(0), int(1)));
    b.barrier();
  };

  b.loop(0, width, THREADS * across, (from) => {
    const sums = Array.from({ length: across }, () => b.variable("f32", float(0)));
    const column = (i: number): Reg => b.let(sum(from, thread(), i * THREADS));
    const addRow = (at: Reg): void => {
      for (const [i, s] of sums.entries()) {
        const own = column(i);
        b.when(fn("lt", own, width), () => b.set(s, fn("add", s, b.load(rows, sum(fn("mul", at, width), own)))));
      }
    };
    const addWord = (word: Reg, first: Reg): void =>
      b.when(fn("ne", word, 0), () =>
        b.loop(0, BITS, 1, (i) =>
          b.when(fn("ne", fn("and", fn("shr", word, i), 1), 0), () => addRow(b.let(sum(first, fn("mul", i, THREADS))))),
        ),
      );
    b.loop(0, count, THREADS * BITS, (first) => {
      compare(first);
      b.when(fn("ne", b.loadShared(isAny, int(0)), 0), () =>
        b.loop(0, THREADS, WORDS, (t) => {
          for (const [i, word] of b.loadVector({ k: "shared", number: words }, t, WORDS).entries()) addWord(word, sum(first, t, i));
        }),
      );
    });
    for (const [i, s] of sums.entries()) {
      const own = column(i);
      b.when(fn("and", fn("lt", own, width), fn("lt", group, size)), () =>
        b.store(result, sum(fn("mul", row, width), own), convertRegister(dtype, "f32", s)),
      );
    }
  });
  return b.build([THREADS, 1, 1], grid);
}
