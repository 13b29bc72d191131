// Tiles of heads of attention: rows of a (batch, places, heads, columns) tensor, copied to shared memory and read from there as fragments.
import type { DType } from "../../ir/dtype.ts";
import { FRAGMENT, type Fragment, fn, type Reg, type SimtBuilder, select, sum, thread } from "../../ir/simt.ts";

/** Where element (batch, head, place, column) lies: `from` and so many elements for each; columns are neighbours. */
export interface HeadView {
  readonly dtype: DType;
  readonly elements: number;
  readonly from: number;
  readonly batch: number;
  readonly head: number;
  readonly place: number;
}

/** One head of one example, with its first element. */
export interface Head {
  readonly batch: Reg;
  readonly head: Reg;
}

/** 16 bytes more in each line: eight lines of a fragment then lie in different banks. */
const PAD = 8;
/** Elements of a copy: 16 bytes. */
const RUN = 8;

/** Fragments across heads of `depth` columns, a multiple of 8; the last may have zeros in its second half. */
export const acrossOf = (depth: number): number => Math.ceil(depth / FRAGMENT);
export const lineOf = (depth: number): number => acrossOf(depth) * FRAGMENT + PAD;

export const firstOf = ({ from, batch, head }: HeadView, at: Head): Reg => sum(fn("mul", at.batch, batch), fn("mul", at.head, head), from);

/** A ring of tiles of `rows` places of one head. */
export class HeadTiles {
  readonly array: number;
  private readonly line: number;
  private readonly first: Reg;

  constructor(
    private readonly b: SimtBuilder,
    private readonly buffer: number,
    private readonly view: HeadView,
    at: Head,
    private readonly tile: {
      readonly rows: number;
      readonly depth: number;
      readonly slots: number;
      readonly threads: number;
      readonly places: number;
    },
  ) {
    this.line = lineOf(tile.depth);
    this.first = b.let(firstOf(view, at));
    this.array = b.array(view.dtype as "f16" | "bf16", tile.slots * tile.rows * this.line); // as fragments are
  }

  /** Begins to copy places from `from` on into a slot; zeros beyond the last place and column. */
  copy(slot: Reg, from: Reg): void {
    const { b, line, view } = this;
    const { rows, depth, threads, places } = this.tile;
    const perRow = (acrossOf(depth) * FRAGMENT) / RUN;
    const base = b.let(fn("mul", slot, rows * line));
    for (let i = 0; i < rows * perRow; i += threads) {
      const piece = b.let(sum(thread(), i));
      const [row, column] = [b.let(fn("div", piece, perRow)), b.let(fn("mul", fn("rem", piece, perRow), RUN))];
      const place = b.let(sum(from, row));
      const isPlace = fn("lt", place, places);
      const isFull = perRow * RUN === depth;
      const isInside = b.let(isFull ? isPlace : fn("and", isPlace, fn("lt", column, depth)));
      const near = fn("mul", select(isInside, place, sum(0)), view.place);
      const at = sum(this.first, near, isFull ? column : select(isInside, column, sum(0)));
      const start = () => b.copy(this.array, sum(base, fn("mul", row, line), column), this.buffer, b.let(at), RUN, isInside);
      if (i + threads <= rows * perRow) start();
      else b.when(fn("lt", piece, rows * perRow), start);
    }
  }

  /** Fragment a: 16 places from `row` on, 16 columns. */
  rows(to: Fragment, slot: Reg, row: Reg, column: number): void {
    this.b.loadFragment(to, this.array, this.at(slot, row, column), this.line, false);
  }
  /** Fragment b whose columns are 16 places from `row` on, whose depth are columns. */
  across(to: Fragment, slot: Reg, row: Reg, column: number): void {
    this.b.loadFragment(to, this.array, this.at(slot, row, column), this.line, true);
  }
  /** Fragment b whose depth are 16 places from `row` on. */
  along(to: Fragment, slot: Reg, row: Reg, column: number): void {
    this.b.loadFragment(to, this.array, this.at(slot, row, column), this.line, false);
  }
  private at(slot: Reg, row: Reg, column: number): Reg {
    return sum(fn("mul", slot, this.tile.rows * this.line), fn("mul", row, this.line), column);
  }
}

/** Fragments a of `count`·16 places of the first slot from `row` on, all columns: by places, then columns. */
export function rowFragments(
  b: SimtBuilder,
  tiles: HeadTiles,
  dtype: "f16" | "bf16",
  row: Reg,
  count: number,
  depth: number,
): Fragment[][] {
  return Array.from({ length: count }, (_, i) =>
    Array.from({ length: acrossOf(depth) }, (_, k) => {
      const fragment = b.fragment("a", dtype);
      tiles.rows(fragment, sum(0), sum(row, i * FRAGMENT), k * FRAGMENT);
      return fragment;
    }),
  );
}

export const sums = (b: SimtBuilder, rows: number, columns: number): Fragment[][] =>
  Array.from({ length: rows }, () => Array.from({ length: columns }, () => b.fragment("sum", "f32")));

/** Of a thread's rows in a fragment (0 or 1), which element i is in. */
export const rowOf = (i: number): 0 | 1 => (i & 2 ? 1 : 0);
