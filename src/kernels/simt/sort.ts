// Lines in order, and the first of them: chunks are sorted in shared memory by a bitonic network, runs that are longer merged by their elements' ranks.
import type { DType } from "../../ir/dtype.ts";
import {
  bits,
  fn,
  int,
  type Reg,
  registerType,
  SimtBuilder,
  type SimtKernel,
  type SimtTarget,
  select,
  sum,
  thread,
} from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_group.ts";

/** Lines of n elements, `inner` apart, and how many of each are asked for. */
export interface SortedLines {
  readonly dtype: DType;
  readonly outer: number;
  readonly n: number;
  readonly inner: number;
  readonly k: number;
  readonly isLargest: boolean;
}

/**
 * What a kernel reads is x, or runs in order, as many of a line and as long each, as (key, place); it leaves runs, or in the last one the k values and places.
 * Equal keys are ordered by place, so that the order is one, and stable.
 */
export interface Pass {
  readonly lines: SortedLines;
  readonly k: "sort" | "merge";
  readonly isFirst: boolean;
  readonly isLast: boolean;
  /** Read: runs of a line and elements of each; the first pass reads runs of one element. */
  readonly runs: number;
  readonly length: number;
  /** Elements that are sorted together, a power of two. */
  readonly chunk: number;
  /** Left: the same. */
  readonly runsLeft: number;
  readonly lengthLeft: number;
}

const THREADS = 256;
/** Elements that fit 16 KiB of shared memory. */
const MOST = 1 << 11;
/** Behind all others. */
const LAST = 2 ** 31 - 1;

/** Half floats and integers of 32 bits at most have keys of 32 bits. */
export const isSortable = (dtype: DType): boolean => dtype !== "i64" && dtype !== "bool" && registerType(dtype) !== undefined;

export function sortPasses(lines: SortedLines): readonly Pass[] {
  const { n, k } = lines;
  const passes: Pass[] = [];
  let [runs, length] = [n, 1];
  while (passes.length === 0 || runs > 1) {
    const count = runs * length;
    const isSort = passes.length === 0 || count <= MOST || 2 * length <= MOST;
    const chunk = Math.min(MOST, 2 ** Math.max(1, Math.ceil(Math.log2(count))));
    const [runsLeft, lengthLeft] = isSort ? [Math.ceil(count / chunk), Math.min(k, chunk)] : [Math.ceil(runs / 2), Math.min(k, 2 * length)];
    passes.push({ lines, k: isSort ? "sort" : "merge", isFirst: passes.length === 0, isLast: runsLeft === 1, runs, length, chunk, runsLeft, lengthLeft }); // biome-ignore format: short
    [runs, length] = [runsLeft, lengthLeft];
  }
  return passes;
}

const lineCount = ({ outer, inner }: SortedLines): number => outer * inner;
/** Words of what a pass leaves. */
export const wordsLeft = ({ lines, runsLeft, lengthLeft }: Pass): number => 2 * lineCount(lines) * runsLeft * lengthLeft;

/** Buffers: x where it is the first or the last pass, runs where it is not the first; runs, or values and places where it is the last. */
export function sortKernel(name: string, pass: Pass, target: SimtTarget): SimtKernel {
  const b = new SimtBuilder(name, target);
  const code = new PassCode(b, pass);
  return pass.k === "sort" ? sortChunks(b, pass, code) : mergeRuns(b, pass, code);
}

interface Element {
  readonly key: Reg;
  readonly place: Reg;
}

const isBehind = (p: Element, q: Element): Reg =>
  fn("or", fn("gt", p.key, q.key), fn("and", fn("eq", p.key, q.key), fn("gt", p.place, q.place)));

/** A kernel's buffers, and what it reads and leaves of a line. */
class PassCode {
  private readonly x: number;
  private readonly runs: number;
  private readonly out: readonly number[];

  constructor(
    private readonly b: SimtBuilder,
    private readonly pass: Pass,
  ) {
    const { lines, isFirst, isLast, runs, length } = pass;
    const { dtype, n, k } = lines;
    const count = lineCount(lines);
    this.x = isFirst || isLast ? b.buffer("x", dtype, count * n, "read") : 0;
    this.runs = isFirst ? 0 : b.buffer("runs", "i32", 2 * count * runs * length, "read");
    this.out = isLast
      ? [b.buffer("values", dtype, count * k, "write"), b.buffer("places", "i64", count * k, "write")]
      : [b.buffer("left", "i32", wordsLeft(pass), "write")];
  }

  /** Element j of a line, of `extent`. */
  private at(line: Reg, j: Reg, extent: number): Reg {
    const { inner } = this.pass.lines;
    return sum(fn("mul", fn("div", line, inner), extent * inner), fn("rem", line, inner), fn("mul", j, inner));
  }

  read(line: Reg, j: Reg): Element {
    const { b } = this;
    const { lines, isFirst, runs, length } = this.pass;
    if (isFirst) return { key: b.let(keyOf(b, b.load(this.x, this.at(line, j, lines.n)), lines)), place: j };
    const [key, place] = b.loadVector({ k: "buffer", number: this.runs }, fn("mul", sum(fn("mul", line, runs * length), j), 2), 2);
    return { key, place };
  }

  /** Element j of what is left of a line. */
  write(line: Reg, j: Reg, { key, place }: Element): void {
    const { b, out } = this;
    const { lines, isLast, runsLeft, lengthLeft } = this.pass;
    if (!isLast) {
      const at = fn("mul", sum(fn("mul", line, runsLeft * lengthLeft), j), 2);
      b.storeVector({ k: "buffer", number: out[0] }, at, [key, place]);
      return;
    }
    const to = b.let(this.at(line, j, lines.k));
    b.store(out[0], to, b.load(this.x, this.at(line, fn("min", place, lines.n - 1), lines.n)));
    b.store(out[1], to, place);
  }
}

/** An integer that grows with the value; NaN is the largest, and both zeros are one. */
function keyOf(b: SimtBuilder, value: Reg, { isLargest }: SortedLines): Reg {
  const word = b.let(bits("i32", value));
  const turned = (at: Reg, by: number): Reg => fn("xor", at, by);
  const key =
    value.type === "u32"
      ? turned(word, -(2 ** 31))
      : value.type === "i32"
        ? word
        : select(fn("isnan", value), int(LAST), select(fn("eq", word, -(2 ** 31)), int(0), fn("xor", word, fn("and", fn("shr", word, 31), LAST)))); // biome-ignore format: a choice
  return isLargest ? fn("not", key) : key;
}

/** A workgroup for one chunk, or for several that are short. */
function sortChunks(b: SimtBuilder, pass: Pass, code: PassCode): SimtKernel {
  const { lines, runs, length, chunk, runsLeft, lengthLeft } = pass;
  const count = runs * length;
  const chunks = lineCount(lines) * runsLeft;
  const most = Math.max(chunk, Math.min(2 * THREADS, chunk * chunks));
  const words = 2 ** Math.floor(Math.log2(most));
  const threads = Math.min(THREADS, words / 2);
  const grid = gridOf(Math.ceil((chunks * chunk) / words), b.target);
  const first = b.let(fn("mul", linearGroup(grid), words / chunk));
  const [keys, places] = [b.array("i32", words), b.array("i32", words)];
  const get = (i: Reg): Element => ({ key: b.let(b.loadShared(keys, i)), place: b.let(b.loadShared(places, i)) });
  const put = (i: Reg, { key, place }: Element): void => {
    b.storeShared(keys, i, key);
    b.storeShared(places, i, place);
  };
  const each = (build: (i: Reg, chunkNumber: Reg, j: Reg) => void): void =>
    b.loop(thread(), words, threads, (i) => build(i, b.let(sum(first, fn("div", i, chunk))), b.let(fn("rem", i, chunk))));

  each((i, number, j) => {
    put(i, { key: int(LAST), place: int(LAST) });
    const at = b.let(sum(fn("mul", fn("rem", number, runsLeft), chunk), j));
    b.when(fn("and", fn("lt", number, chunks), fn("lt", at, count)), () => put(i, code.read(fn("div", number, runsLeft), at)));
  });
  b.barrier();
  // One loop over all steps of all sizes: two nested ones are written out by compilers, which then take long.
  const levels = Math.log2(chunk);
  const [size, shift] = [b.variable("i32", int(1)), b.variable("i32", int(0))];
  b.loop(0, (levels * (levels + 1)) / 2, 1, () => {
    const stride = b.let(fn("shl", int(1), shift));
    b.loop(thread(), words / 2, threads, (q) => {
      const low = b.let(sum(fn("shl", fn("shr", q, shift), sum(shift, 1)), fn("and", q, fn("sub", stride, 1))));
      const high = b.let(sum(low, stride));
      const [p, r] = [get(low), get(high)];
      const isDown = fn("ne", fn("and", fn("shr", fn("and", low, chunk - 1), size), 1), 0);
      b.when(fn("ne", isBehind(p, r), isDown), () => {
        put(low, r);
        put(high, p);
      });
    });
    b.barrier();
    b.when(fn("eq", shift, 0), () => b.set(size, sum(size, 1)));
    b.set(shift, select(fn("eq", shift, 0), fn("sub", size, 1), fn("sub", shift, 1)));
  });
  each((i, number, j) =>
    b.when(fn("and", fn("lt", number, chunks), fn("lt", j, lengthLeft)), () => {
      const line = b.let(fn("div", number, runsLeft));
      code.write(line, b.let(sum(fn("mul", fn("rem", number, runsLeft), lengthLeft), j)), get(i));
    }),
  );
  return b.build([threads, 1, 1], grid);
}

/** A thread for each element: behind those of its own run and of its neighbour that are before it. */
function mergeRuns(b: SimtBuilder, pass: Pass, code: PassCode): SimtKernel {
  const { lines, runs, length, lengthLeft } = pass;
  const of = runs * length;
  const count = lineCount(lines) * of;
  const grid = gridOf(Math.ceil(count / THREADS), b.target);
  const number = b.let(sum(fn("mul", linearGroup(grid), THREADS), thread()));
  b.when(fn("lt", number, count), () => {
    const line = b.let(fn("div", number, of));
    const j = b.let(fn("rem", number, of));
    const run = b.let(fn("div", j, length));
    const i = b.let(fn("rem", j, length));
    const other = b.let(fn("xor", run, 1));
    const own = code.read(line, j);
    const to = b.let(fn("mul", fn("shr", run, 1), lengthLeft));
    const put = (at: Reg, e: Element): void => b.when(fn("lt", at, lengthLeft), () => code.write(line, sum(to, at), e));
    const whole = (): void => {
      const [from, until] = [b.variable("i32", int(0)), b.variable("i32", int(length))];
      b.loop(0, Math.ceil(Math.log2(length)) + 1, 1, () =>
        b.when(fn("lt", from, until), () => {
          const middle = b.let(fn("shr", sum(from, until), 1));
          const their = code.read(line, b.let(sum(fn("mul", other, length), middle)));
          // Of equal ones, which only fill up, the first run's go first.
          const isAhead = fn("or", isBehind(own, their), fn("and", fn("lt", other, run), fn("not", isBehind(their, own))));
          b.when(isAhead, () => b.set(from, sum(middle, 1)), () => b.set(until, middle)); // biome-ignore format: short
        }),
      );
      put(b.let(sum(i, from)), own);
    };
    const single = (): void => {
      put(i, own);
      put(b.let(sum(i, length)), { key: int(LAST), place: int(LAST) });
    };
    b.when(fn("lt", other, runs), whole, single);
  });
  return b.build([THREADS, 1, 1], grid);
}
