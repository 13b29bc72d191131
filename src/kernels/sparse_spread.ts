// Values of a sparse matrix into the order of a walk, one strip and panel at a time, in the nearest caches: read as they lie, each is put where the walk has it.
import { type Int, type IntVar, type KernelBuilder, plus, times } from "../ir/kernel.ts";
import { INT_RANGE } from "../ir/kernel_ops.ts";
import { type Coordinates, coordinatesOf, GROUPS, type Groups, PADDING } from "./sparse_groups.ts";

/** Entries of a window, which is what a strip has in a panel, and a zero for those that fill rows up: two bytes tell them apart. */
const TOLD = 2 ** 16;
/** Targets in a word, and values of a turn. */
const STEP = 4;
const TURN = 16;

export interface Spread {
  readonly windows: number;
  /** Values, stretches of them one after another, and entries that are copies of others or zeros. */
  readonly nonzeros: number;
  readonly runs: number;
  readonly copies: number;
  /** Entries of the largest window. */
  readonly most: number;
}

/** Room for a window, a power of two; its last element is the zero. */
const roomOf = ({ most }: Pick<Spread, "most">): number => 2 ** Math.ceil(Math.log2(most + 1));
/** Scratch for a window. */
export const spreadBytes = (shape: Spread): number => 4 * roomOf(shape);

/** A walk over values that lie in the order of the matrix. */
export interface SpreadGroups {
  readonly groups: Groups;
  readonly spread: SpreadIndex;
  /** Those of the groups, where entries count from the first one of their window. */
  readonly visits: Int32Array;
  /** With room for a window behind. */
  readonly coordinate: Coordinates;
}

interface SpreadIndex {
  readonly shape: Spread;
  /** Of each window, and of the end, the first entry, run and copy; of each run, and of the end, the first value and target; targets; of copies source and target. */
  readonly arrays: readonly [Int32Array, Int32Array, Uint16Array, Uint16Array];
}

/** Null: a window has too many entries. */
export function spreadGroups(groups: Groups): SpreadGroups | null {
  const { starts, visits, length, place, abreast } = groups;
  const words = 2 * abreast;
  const firsts = new Int32Array((starts.length - 1) / GROUPS + 1).fill(length);
  const local = visits.slice();
  for (let m = firsts.length - 2; m >= 0; m--) {
    const [from, to] = [words * starts[m * GROUPS], words * starts[(m + 1) * GROUPS]];
    firsts[m] = from < to ? visits[from + 1] / 2 : firsts[m + 1];
    for (let at = from + 1; at < to; at += 2) local[at] -= 2 * firsts[m];
  }
  const spread = spreadOf(place, firsts, groups.nonzeros);
  if (!spread) return null;
  const coordinate = coordinatesOf(groups.broad, length + spread.shape.most + PADDING);
  coordinate.set(groups.coordinate);
  return { groups, spread, visits: local, coordinate };
}

/** What a product's kernel is given of the index, in the order of its buffers. */
export const spreadIndexOf = ({ groups, spread, visits, coordinate }: SpreadGroups) => [
  ...spread.arrays,
  coordinate,
  visits,
  groups.starts,
];

function spreadOf(place: Int32Array, firsts: Int32Array, nonzeros: number): SpreadIndex | null {
  const count = firsts.length - 1;
  const windows = new Int32Array(3 * (count + 1));
  const copies: number[] = [];
  // Of each value its window, and where it is in there.
  const windowOf = new Int32Array(nonzeros).fill(-1);
  const within = new Uint16Array(nonzeros);
  const next = new Int32Array(count + 1);
  let most = 0;
  for (let m = 0; m < count; m++) {
    const first = firsts[m];
    most = Math.max(most, firsts[m + 1] - first);
    windows.set([first, 0, copies.length / 2], 3 * m);
    for (let i = first; i < firsts[m + 1]; i++) {
      const p = place[i];
      if (p < 0) copies.push(TOLD - 1, i - first);
      else if (windowOf[p] >= 0) copies.push(within[p], i - first);
      else {
        windowOf[p] = m;
        within[p] = i - first;
      }
    }
    next[m + 1] = firsts[m + 1] - copies.length / 2;
  }
  if (most >= TOLD) return null;
  const zero = roomOf({ most }) - 1;
  windows.set([firsts[count], 0, copies.length / 2], 3 * count);
  const targets = new Uint16Array(nonzeros + TURN);
  const runs: number[][] = Array.from({ length: count }, () => []);
  for (let p = 0; p < nonzeros; p++) {
    const m = windowOf[p];
    if (p === 0 || windowOf[p - 1] !== m) runs[m].push(p, next[m]);
    targets[next[m]++] = within[p];
  }
  for (let m = 0; m < count; m++) windows[3 * m + 4] = windows[3 * m + 1] + runs[m].length / 2;
  const shape = { windows: count, nonzeros, runs: windows[3 * count + 1], copies: copies.length / 2, most };
  return {
    shape,
    arrays: [windows, Int32Array.from([...runs.flat(), nonzeros, nonzeros]), targets, Uint16Array.from(copies, (at) => Math.min(at, zero))],
  };
}

/** Writes windows in a kernel. */
export class SpreadCode {
  private readonly buffers: Readonly<Record<"values" | "windows" | "runs" | "targets" | "copies", number>>;

  /** Declares its buffers: values, those of the index. */
  constructor(
    private readonly b: KernelBuilder,
    private readonly shape: Spread,
  ) {
    const { windows, nonzeros, runs, copies } = shape;
    this.buffers = {
      values: b.buffer("values", 4 * nonzeros, "read"),
      windows: b.buffer("windows", 12 * (windows + 1), "read"),
      runs: b.buffer("runs", 8 * (runs + 1), "read"),
      targets: b.buffer("targets", 2 * (nonzeros + TURN), "read"),
      copies: b.buffer("copies", 4 * copies, "read"),
    };
  }

  /** Puts a window's values from byte `at` of a buffer on. Returns the window's first entry, at most `length`. */
  put(window: Int, length: number, output: number, at: number): IntVar {
    const { b, shape, buffers } = this;
    const told = (k: number, hi: number): IntVar => b.loadInt(buffers.windows, plus(times(window, 12), 4 * k), "i32", 0, hi);
    const last = roomOf(shape) - 1;
    const place = (target: Int): Int => plus(at, times(target, 4));
    const first = told(0, length);
    b.loop(told(1, shape.runs), told(4, shape.runs), 1, (run) => this.run(run, output, place));
    b.store(b.f32(0), output, place(last), 1);
    b.loop(told(2, shape.copies), told(5, shape.copies), 1, (i) => {
      const [from, to] = [0, 2].map((k) => place(b.loadInt(buffers.copies, plus(times(i, 4), k), "u16", 0, last)));
      b.store(b.load(output, from, 1), output, to, 1);
    });
    return first;
  }

  /** Values one after another; four targets are one word. */
  private run(run: Int, output: number, place: (target: Int) => Int): void {
    const { b, buffers } = this;
    const { values, runs, targets } = buffers;
    const { nonzeros } = this.shape;
    const last = roomOf(this.shape) - 1;
    const told = (k: number): IntVar => b.loadInt(runs, plus(times(run, 8), 4 * k), "i32", 0, nonzeros);
    const [value, target] = [told(0), told(1)];
    const count = b.max(plus(told(3), times(target, -1)), 0);
    const whole = b.set(times(b.div(count, TURN), TURN));
    const put = (from: Int, to: Int): void => b.store(b.load(values, times(from, 4), 1), output, place(to), 1);
    if (nonzeros >= TURN)
      b.loop(0, whole, TURN, (i) => {
        const [from, to] = [b.min(plus(value, i), nonzeros - TURN), b.min(plus(target, i), nonzeros)];
        for (let j = 0; j < TURN; j += STEP) {
          const word = b.loadInt(targets, plus(times(to, 2), 2 * j), "i64", ...INT_RANGE.i64);
          for (let k = 0; k < STEP; k++) put(plus(from, j + k), b.bits(word, 16 * k, last));
        }
      });
    b.loop(whole, count, 1, (i) => {
      put(b.min(plus(value, i), nonzeros - 1), b.loadInt(targets, times(b.min(plus(target, i), nonzeros), 2), "u16", 0, last));
    });
  }
}
