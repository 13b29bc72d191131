// Tiles of heads of attention in shared memory, with as many bits as in memory: places by rows, zeros beyond the last column or place.
import { float, fn, type Reg, type SharedArray, type SimtBuilder, type SimtTarget, select, sum, thread } from "../../ir/simt.ts";
import { firstOf, type Head, type HeadView } from "./head_tiles.ts";

interface Tile {
  readonly rows: number;
  /** Columns, and elements from one row of shared memory to the next, which is a multiple of 4. */
  readonly width: number;
  readonly stride: number;
  readonly threads: number;
}

/** What a view's elements are in shared memory: their type, where the device keeps it in so few bits. */
export const storedAs = ({ dtype }: HeadView, { storedBytes }: SimtTarget): SharedArray["type"] =>
  (dtype === "f16" || dtype === "bf16") && storedBytes[dtype] === 2 ? dtype : "f32";

/** Neighbouring elements that are taken at once. */
const RUN = 4;

export class PlaceTiles {
  readonly array: number;
  private readonly first: Reg;
  private readonly run: 1 | 4;

  constructor(
    private readonly b: SimtBuilder,
    private readonly buffer: number,
    private readonly view: HeadView,
    at: Head,
    private readonly tile: Tile,
  ) {
    this.array = b.array(storedAs(view, b.target), tile.rows * tile.stride);
    this.first = b.let(firstOf(view, at));
    this.run = [tile.width, view.from, view.batch, view.head, view.place].every((n) => n % RUN === 0) ? RUN : 1;
  }

  /** Places from `from` on, of `places`. */
  copy(from: Reg, places: number): void {
    this.eachPiece((row) => {
      const place = this.b.let(sum(from, row));
      return { isInside: fn("lt", place, places), at: (isInside) => fn("mul", select(isInside, place, sum(0)), this.view.place) };
    });
  }

  /** Rows from `from` on, of `rows`: `group` heads of each place, one after the other. */
  copyGroups(from: Reg, rows: number, group: number): void {
    const { b, view } = this;
    this.eachPiece((offset) => {
      const row = b.let(sum(from, offset));
      const at = (isInside: Reg): Reg => {
        const near = b.let(select(isInside, row, sum(0)));
        return sum(fn("mul", fn("div", near, group), view.place), fn("mul", fn("rem", near, group), view.head));
      };
      return { isInside: fn("lt", row, rows), at };
    });
  }

  private eachPiece(placeOf: (row: Reg) => { readonly isInside: Reg; readonly at: (isInside: Reg) => Reg }): void {
    const { b, run } = this;
    const { rows, stride, threads, width } = this.tile;
    // Columns beyond the last are written by whole runs.
    const perRow = Math.ceil(width / RUN) * (RUN / run);
    const total = rows * perRow;
    const piece = (i: Reg): void => {
      const [row, column] = [b.let(fn("div", i, perRow)), b.let(fn("mul", fn("rem", i, perRow), run))];
      const place = placeOf(row);
      const isThere = run === 1 && width % RUN !== 0 ? fn("and", place.isInside, fn("lt", column, width)) : place.isInside;
      const isInside = b.let(isThere);
      const at = b.let(sum(this.first, place.at(isInside), run === 1 ? select(isInside, column, sum(0)) : column));
      this.take(b.let(sum(fn("mul", row, stride), column)), at, isInside);
    };
    if (total % threads === 0 && total / threads <= 16) for (let i = 0; i < total; i += threads) piece(b.let(sum(thread(), i)));
    else b.loop(thread(), total, threads, piece);
  }

  private take(to: Reg, at: Reg, isInside: Reg): void {
    const { array, b, buffer, run } = this;
    if (run === RUN) b.copy(array, to, buffer, at, RUN, isInside);
    else b.storeShared(array, to, b.let(select(isInside, b.load(buffer, at), float(0))));
  }
}
